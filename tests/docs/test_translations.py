"""Each Chinese page follows its English one: headings, code, links, figures and tables.

Code blocks are the same, comments included. A change of an English page that its Chinese page
does not follow fails here, with the page and the heading. What no test sees is whether a sentence
says the same.
"""

import re

import pytest

pytest.importorskip("markdown", reason="the site's tools are not installed: requirements-dev.txt")

from support.pages import chinese, english, sections
from support.paths import ROOT

#: The pages that have a Chinese one.
MAIN = {
    "README.md",
    "docs/index.md",
    "docs/getting-started.md",
    "docs/own-corpus.md",
    "docs/settings.md",
    "docs/scores.md",
    "docs/export.md",
    "docs/serve.md",
}
_HAN = re.compile(r"[\u4e00-\u9fff]")
#: Six words in Latin letters in a row.
_ENGLISH = re.compile(r"(?:\b[A-Za-z]+[ ,]+){5,}[A-Za-z]+")


def parts(section):
    """What must be the same in both languages, by name."""
    return {
        "code blocks": section.code,
        "comments": section.marks,
        "pictures": section.images,
        "links": section.links,
        "paragraphs, items and cells": section.blocks,
    }


def differences(english_text, chinese_text, page):
    """What a Chinese page does not follow, a line for each."""
    ours, theirs = sections(english_text, page), sections(chinese_text, chinese(page))
    wrong = []
    for here, there in zip(ours, theirs, strict=False):
        if here.level != there.level:
            return [*wrong, f"{page}, {here.title!r}: level {here.level}, not {there.level}"]
        place = f"{chinese(page)}, {there.title!r} does not follow {page}, {here.title!r}"
        for name, value in parts(here).items():
            if value != parts(there)[name]:
                wrong.append(f"{place}: {name} are {parts(there)[name]}, not {value}")
        if here.blocks != there.blocks:
            continue
        for number, text in enumerate(there.texts):
            for name in ("numbers", "names"):
                want, got = getattr(here, name)[number], getattr(there, name)[number]
                if set(want) != set(got) or (name == "numbers" and want != got):
                    wrong.append(f"{place}: {name} of {text!r} are {got}, not {want}")
    if len(ours) != len(theirs):
        first = [*ours[len(theirs) :], *theirs[len(ours) :]][0]
        wrong.append(f"{page} and {chinese(page)}: only one of them has {first.title!r}")
    return wrong


def untranslated(text, page):
    """Paragraphs, items and cells of a Chinese page that are English."""
    texts = [text for section in sections(text, page) for text in section.texts]
    return [text for text in texts if _ENGLISH.search(text)]


def test_every_main_page_has_a_chinese_one_and_no_other_has():
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "zh").rglob("*.md")}
    pages |= {path.name for path in ROOT.glob("*.zh.md")}
    assert {english(page) for page in pages} == MAIN
    assert {chinese(page) for page in MAIN} == pages


@pytest.mark.parametrize("page", sorted(MAIN))
def test_a_chinese_page_follows_the_english_one(page):
    texts = [(ROOT / path).read_text(encoding="utf8") for path in (page, chinese(page))]
    wrong = differences(*texts, page)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", sorted(MAIN))
def test_a_chinese_page_is_chinese(page):
    text = (ROOT / chinese(page)).read_text(encoding="utf8")
    assert not untranslated(text, chinese(page))
    prose = "".join("".join(section.texts) for section in sections(text, chinese(page)))
    assert len(_HAN.findall(prose)) > len(re.findall(r"[A-Za-z]", prose))


@pytest.mark.parametrize("page", sorted(MAIN))
def test_links_of_a_chinese_page_lead_to_chinese_pages(page):
    text = (ROOT / chinese(page)).read_text(encoding="utf8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^()\s#]+\.md)", text)
    there = {((ROOT / chinese(page)).parent / link).resolve() for link in links}
    there -= {ROOT / page}  # the link to the other language
    assert not there & {(ROOT / other).resolve() for other in MAIN}


# That these tests can fail

PAGE = """# Title

A text with `name` and 3 figures, see [the export](export.md#options-of-export).

```bash
run it
```

## Table

| a | b |
|---|---|
| `x` | 1,024 and 7 |
"""
ZH_PAGE = """# 标题

一段文字，有 `name` 和 3 个数字，见[导出](export.md#options-of-export)。

```bash
run it
```

## 表

| 甲 | 乙 |
|---|---|
| `x` | 7 和 1,024 |
"""


def test_a_page_that_follows_has_no_difference():
    own = ZH_PAGE.replace("export.md", "../export.md")
    assert differences(PAGE, own, "docs/page.md") == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("run it", "run that", "'标题' does not follow docs/page.md, 'Title': code blocks"),
        ("#options-of-export", "#formats", "'标题' does not follow docs/page.md, 'Title': links"),
        ("`name`", "`other`", "'标题' does not follow docs/page.md, 'Title': names"),
        ("3 个", "4 个", "'标题' does not follow docs/page.md, 'Title': numbers"),
        ("1,024", "1,025", "'表' does not follow docs/page.md, 'Table': numbers"),
        ("| `x` | 7 和 1,024 |\n", "", "'Table': paragraphs, items and cells"),
        ("\n## 表", "\n一段。\n\n## 表", "'Title': paragraphs, items and cells"),
        ("## 表", "### 表", "'Table': level 2, not 3"),
        ("\n## 表", "\n## 又一节\n\n## 表", "only one of them has '表'"),
    ],
)
def test_a_difference_is_said_with_page_and_heading(old, new, said):
    own = ZH_PAGE.replace("export.md", "../export.md").replace(old, new)
    found = differences(PAGE, own, "docs/page.md")
    assert any(said in line for line in found), found
    assert all("page.md" in line for line in found)


def test_english_prose_is_found():
    text = "# 标题\n\n中文。It takes more than five words.\n\nspaCy 的 `a b c d e f g`。\n"
    assert untranslated(text, "docs/zh/page.md") == ["中文。It takes more than five words."]
