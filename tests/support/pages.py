"""A Markdown page as sections, so that one language of it can be compared with another."""

import posixpath
import re
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import unquote

from markdown.extensions.toc import slugify_unicode
from markdown_it import MarkdownIt

from support.paths import ROOT

_NUMBER = re.compile(r"(?<![A-Za-z\d+])\d(?:[\d.,]*\d)?")  # not in names, such as F1
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass
class Section:
    """What stands under a heading, up to the next one."""

    level: int
    title: str
    code: list[tuple[str, str]] = field(default_factory=list)  # info and content
    images: list[str] = field(default_factory=list)
    links: Counter = field(default_factory=Counter)
    blocks: list[str] = field(default_factory=list)  # "paragraph", "item", "cell", …
    marks: list[str] = field(default_factory=list)  # comments, such as <!-- checked -->
    texts: list[str] = field(default_factory=list)  # of paragraphs, items and cells, no code
    numbers: list[list[str]] = field(default_factory=list)  # of each paragraph and cell
    names: list[list[str]] = field(default_factory=list)  # code spans of each of them


def english(path: str) -> str:
    """The English page of a Chinese one; any other path as it is."""
    return re.sub(r"^docs/zh/", "docs/", path).replace("README.zh.md", "README.md")


def chinese(path: str) -> str:
    """The Chinese page of an English one, whether there is one or not."""
    return "README.zh.md" if path == "README.md" else path.replace("docs/", "docs/zh/", 1)


def sections(text: str, path: str) -> list[Section]:
    """The sections of a page.

    text: the page, in Markdown. It begins with a heading.
    path: where it stands in the checkout.
    """
    found: list[Section] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "inline" and before.type == "heading_open":
            found.append(Section(int(before.tag[1]), token.content))
        elif token.type == "inline":
            _read(token, found[-1], path)
        elif token.type in ("fence", "code_block"):
            found[-1].code.append((token.info, token.content))
        elif token.type == "html_block":
            found[-1].marks += _COMMENT.findall(token.content)
        elif token.type in ("paragraph_open", "list_item_open", "tr_open", "td_open"):
            found[-1].blocks.append(token.type.removesuffix("_open"))
    return found


def _read(inline, section: Section, path: str) -> None:
    """Take the links, pictures, code spans, numbers and words of one paragraph or cell."""
    words, names = [], []
    for part in inline.children:
        if part.type == "link_open":
            section.links[target(part.attrs["href"], path)] += 1
        elif part.type == "image":
            section.images.append(target(part.attrs["src"], path))
            words.append(part.content)
        elif part.type == "code_inline":
            names.append(part.content)
            words.append(" ")
        else:
            words.append(part.content or " ")
    section.texts.append("".join(words))
    section.numbers.append(sorted(_NUMBER.findall(section.texts[-1])))
    section.names.append(sorted(names))


def target(link: str, path: str) -> str:
    """Where a link leads, the same for both languages: English page and number of the heading."""
    link = unquote(link)
    if re.match(r"[a-z]+:", link):
        return link
    file, _, anchor = link.partition("#")
    there = posixpath.normpath(posixpath.join(posixpath.dirname(path), file)) if file else path
    if not anchor:
        return english(there)
    found = titles((ROOT / there).read_text(encoding="utf8"))
    slugs = [slugify_unicode(title, "-") for title in found]
    place = slugs.index(anchor) + 1 if anchor in slugs else anchor
    return f"{english(there)}, heading {place}"


def titles(text: str) -> list[str]:
    """The headings of a page, without marks."""
    tokens = MarkdownIt("commonmark").parse(text)
    pairs = zip(tokens, tokens[1:], strict=False)
    return ["".join(c.content for c in b.children) for a, b in pairs if a.type == "heading_open"]
