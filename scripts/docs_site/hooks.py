"""Hooks of mkdocs: pages that stand outside of docs/, and the links to them.

The pages in docs/ are read on a code host as well, so their links are relative to the checkout.
This module takes the linked files outside of docs/ into the site and rewrites the links. A link to
a file that is no page (a script, a folder) keeps its text and loses its target.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
#: Files outside of docs/ that are pages of the site, and their names there.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "assets/quickstart/GUIDELINES.md": "guidelines.md",
    "assets/quickstart/kinds/README.md": "kinds.md",
    "benchmarks/README.md": "benchmarks.md",
    "reliability/README.md": "reliability-suite.md",
    "README.md": "readme.md",
    "README.zh.md": "zh/readme.md",
}
#: Folder whose Markdown files and pictures are pages of the site, and its name there.
RESULTS = ("benchmarks/results", "results")

_LINK = re.compile(r"(!?)\[([^\]\[]*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def site_paths(root: Path = ROOT) -> dict[str, str]:
    """The path in the site of each file outside of docs/, by its path in the checkout."""
    paths = {name: page for name, page in PAGES.items() if (root / name).is_file()}
    folder, name = RESULTS
    for path in sorted((root / folder).iterdir()):
        if path.suffix in (".md", ".png", ".svg"):
            paths[f"{folder}/{path.name}"] = f"{name}/{path.name}"
    return paths


def on_files(files: Files, config: Any) -> Files:
    """Add the files outside of docs/."""
    for path, page in site_paths().items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of one page."""
    return rewrite_links(markdown, page.file.src_uri, site_paths())


def rewrite_links(markdown: str, page: str, paths: dict[str, str]) -> str:
    """Make links relative to the checkout relative to the site; code blocks stay as they are.

    markdown: text of the page.
    page: path of the page in the site.
    paths: as `site_paths` gives them.
    """
    checkout = {site: path for path, site in paths.items()}.get(page, f"docs/{page}")

    def link(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        path, hash_, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return found[0]
        source = posixpath.normpath(posixpath.join(posixpath.dirname(checkout), path))
        if source in paths:
            site = paths[source]
        elif source.startswith("docs/"):
            site = source.removeprefix("docs/")
        else:
            return text
        there = posixpath.relpath(site, posixpath.dirname(page) or ".")
        return f"{image}[{text}]({there}{hash_}{anchor})"

    parts = _FENCE.split(markdown)
    return "".join(p if p.startswith("```") else _LINK.sub(link, p) for p in parts)
