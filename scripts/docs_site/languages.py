"""Hooks of mkdocs for the Chinese pages: the language switch, and the words of the theme.

A page `docs/zh/NAME.md` is the Chinese `docs/NAME.md`. The switch of the site leads to the same
page in the other language, or to its start where there is none.
"""

from typing import Any

from mkdocs.structure.files import Files

#: Folder of the Chinese pages, in docs/ and in the site.
CHINESE = "zh"


def partner(page: str) -> str:
    """The same page in the other language: `scores.md` and `zh/scores.md`."""
    own = page.removeprefix(f"{CHINESE}/")
    return own if own != page else f"{CHINESE}/{page}"


def language(page: str) -> str:
    """`zh` or `en`, by the path of a page in the site."""
    return CHINESE if page.startswith(f"{CHINESE}/") else "en"


def links(page: str, pages: dict[str, str]) -> dict[str, str]:
    """Where the switch of a page leads, by language.

    page: path of the page in the site, such as `scores.md`.
    pages: the URL of each page, by path.
    """
    here, there = language(page), language(partner(page))
    start = "index.md" if there == "en" else f"{CHINESE}/index.md"
    return {here: pages[page], there: pages[partner(page) if partner(page) in pages else start]}


def on_files(files: Files, config: Any) -> Files:
    """Note the URL of each page."""
    config.extra["urls"] = {file.src_uri: file.url for file in files.documentation_pages()}
    return files


def on_page_context(context: Any, page: Any, config: Any, **_: Any) -> Any:
    """Set the switch and the language of the theme for one page."""
    targets = links(page.file.src_uri, config.extra["urls"])
    for alternate in config.extra["alternate"]:
        alternate["link"] = targets[alternate["lang"]]
    config.theme["language"] = language(page.file.src_uri)
    return context
