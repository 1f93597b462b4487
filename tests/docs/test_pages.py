"""The pages name what there is: settings, commands, files; and their links lead somewhere."""

import re
from importlib import import_module

import pytest
import srsly
from spacy.language import Language

from spacy_bert_crf import __version__
from spacy_bert_crf.cli import cli
from support.paths import ROOT

pytest.importorskip("mkdocs", reason="the site's tools are not installed: requirements-dev.txt")
pytest.importorskip("griffe")

from scripts.docs_site.docstrings import to_sections
from scripts.docs_site.hooks import PAGES, rewrite_links, site_paths

#: Pages in docs/, those beside it, and their text.
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf8")
    for path in [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / name for name in PAGES)]
}


def anchors(text):
    """The anchors of a page's headings, as code hosts and the site make them."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", title.replace("`", "").lower()) for title in titles]
    return {re.sub(r"\s+", "-", title.strip()) for title in plain}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
    wrong = []
    for target in re.findall(r"\]\(([^()\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (ROOT / page).parent / path if path else ROOT / page
        if not there.exists():
            wrong.append(target)
        elif anchor and there.suffix == ".md" and not anchor.startswith("spacy_bert_crf."):
            wrong += [target] if anchor not in anchors(there.read_text(encoding="utf8")) else []
    assert not wrong


def test_every_setting_of_the_component_is_explained():
    import_module("spacy_bert_crf.component.factory")  # registers it
    defaults = Language.get_factory_meta("bert_crf").default_config
    encoder = defaults["model"]["tok2vec"]
    names = {*defaults, *encoder} - {"model", "scorer", "@architectures"}
    rows = re.findall(r"^\| (`[^|]*) \|", TEXTS["docs/settings.md"], re.MULTILINE)
    assert len(names) > 20
    assert names <= {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_command_is_explained():
    names = {command.name for command in cli.registered_commands}
    assert names == set(re.findall(r"^\| `([\w-]+) ", TEXTS["docs/commands.md"], re.MULTILINE))


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf8")
    nav = srsly.yaml_loads(text[text.index("nav:") : text.index("not_in_nav:")])["nav"]
    pages = set(re.findall(r"[\w/-]+\.md", str(nav)))
    own = {name.removeprefix("docs/") for name in TEXTS if name.startswith("docs/")}
    assert pages == own | (set(PAGES.values()) - {"readme.md", "zh/readme.md"})


def test_the_readme_is_short():
    """A screen and a half, pictures aside, and at most eight rows of results."""
    readme = TEXTS["README.md"]
    assert len(readme.splitlines()) <= 95
    results = readme[readme.index("## Results") : readme.index("## Read on")]
    assert len(re.findall(r"^\| [^|-]", results, re.MULTILINE)) - 1 <= 8


def test_the_version_is_the_same_everywhere():
    changes = re.findall(r"^## (\d[\d.]+) - (\S+)$", TEXTS["CHANGELOG.md"], re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf8")
    assert changes[0][0] == __version__
    assert f"version: {__version__}\ndate-released: {changes[0][1]}\n" in citation


# How the site is made


def test_links_out_of_docs_are_rewritten():
    paths = {"SECURITY.md": "security.md", "benchmarks/results/a.md": "results/a.md"}
    text = (
        "[s](../SECURITY.md#x) [r](../benchmarks/results/a.md) [here](#y) [in](api/b.md)\n"
        "[script](../benchmarks/speed.py) [web](https://spacy.io)\n"
        "```\n[s](../SECURITY.md)\n```\n"
    )
    assert rewrite_links(text, "scores.md", paths) == (
        "[s](security.md#x) [r](results/a.md) [here](#y) [in](api/b.md)\n"
        "script [web](https://spacy.io)\n"
        "```\n[s](../SECURITY.md)\n```\n"
    )
    assert rewrite_links("![p](a.png) [b](../README.md)", "results/a.md", {
        "benchmarks/results/a.md": "results/a.md",
        "benchmarks/results/a.png": "results/a.png",
        "benchmarks/README.md": "benchmarks.md",
    }) == "![p](a.png) [b](../benchmarks.md)"  # fmt: skip


def test_files_outside_of_docs_are_pages():
    paths = site_paths()
    assert set(PAGES) <= set(paths)
    assert paths["benchmarks/results/speed_amx.png"] == "results/speed_amx.png"


def test_docstrings_become_sections():
    text = (
        "Do it.\n\nMore of it.\nname: what it\n    is.\nother: no argument.\n"
        "RETURNS: [B, T]\nRaises ValueError if it\nfails.\n\nThe end.\n"
    )
    assert to_sections(text, ["name"], "Args") == (
        "Do it.\n\nMore of it.\nother: no argument.\n\nThe end.\n\n"
        "Args:\n    name: what it\n        is.\n\n"
        "Returns:\n    [B, T]\n\n"
        "Raises:\n    ValueError: if it fails.\n"
    )


def test_brackets_in_docstrings_are_no_references():
    assert to_sections("a[i][j] and `b[i][j]`", [], "Args") == "a[i]\\[j] and `b[i][j]`\n"
