"""Organisations: words tagged `nt`, known names, and names made of several words.

The copy of the corpus lost the brackets around names of several words. They are made again where
the words before the last one make it sure: a place, a proper name. Where it is not sure, they are
unknown.
"""

import re
from collections.abc import Iterator
from typing import Optional

from .rules import Rules
from .words import Sentence

#: Tags of words inside of a name.
_INSIDE = {"n", "nz", "nx", "nt", "vn", "b", "j", "an", "Ng", "l"}
#: Further words inside of a name, by their tag.
_ALSO = {
    "m": re.compile("第.+"),
    "a": re.compile("特别|最高|高级|高等|自由|民主|综合|统一|联合"),
    "v": re.compile("联合|投资|开发|管理|发展|建设|监督|设计|研究|服务|合作|进出口"),
    "vd": re.compile("联合"),
}
#: The longest name, in words.
_LONGEST = 9
#: Words that stand for an article, before which no name begins: 一家化工公司, 该公司.
_ARTICLES = {"q", "r", "m"}
#: Proper names (tag `nz`) that are none of a body: peoples, languages, religions, brands, railways.
_NO_NAME = re.compile(r".*[族语文字教牌线型号杯奖]|中华|穆斯林|.*战争|.*革命|.*号线|.+[ＡＢAB]")
_MEDIA = re.compile(r".+(报|周刊|月刊|画刊|杂志|学报|电讯)")
#: Regions tagged `s` that act like a place.
REGIONS = {"东北", "西北", "西南", "华北", "华东"}
_PROVINCE = re.compile(r".*(省|自治区|州|市)")


class Marks:
    """What is found in a sentence, word by word: each word belongs to one mark at most."""

    def __init__(self, words: Sentence, taken: set[int]) -> None:
        """words: the sentence. taken: numbers of words that others have read."""
        self.words = words
        self.taken = set(taken)
        self.found: list[tuple[int, int, str]] = []

    def add(self, first: int, last: int, label: str) -> int:
        """Mark the words from `first` up to `last`; an empty label is unknown. RETURNS: last."""
        self.found = [mark for mark in self.found if mark[1] <= first or mark[0] >= last]
        self.found.append((first, last, label))
        self.taken.update(range(first, last))
        return last

    def free(self, at: int) -> bool:
        """Whether the sentence has this word, and nothing has marked it."""
        return 0 <= at < len(self.words) and at not in self.taken


def is_place(marks: Marks, at: int) -> bool:
    """Whether a word that nothing has marked is a place."""
    if not marks.free(at):
        return False
    word = marks.words[at]
    return word.tag == "ns" or (word.tag == "s" and word.text in REGIONS)


def _is_abbreviation(marks: Marks, at: int, rules: Rules) -> bool:
    """Whether a word that nothing has marked is a place of one character: 美."""
    if not marks.free(at) or marks.words[at].tag != "j":
        return False
    return marks.words[at].text in rules.words["abbreviations"]


def find_bodies(marks: Marks, rules: Rules, companies: frozenset[str]) -> None:
    """Mark the organisations of a sentence, and what may be one.

    marks: what persons and titles have marked.
    rules: the rules.
    companies: proper names that stand before 公司 and the like somewhere; see `company_names`.
    """
    _read_titles(marks, rules)
    _read_after_person(marks, rules)
    _read_known(marks, rules)
    words = marks.words
    for at, word in enumerate(words):
        if marks.free(at) and word.tag == "nt":
            start = at
            if word.text.endswith("部") and is_place(marks, at - 1):
                start = at - 1  # 俄罗斯国防部
            marks.add(start, _extended(marks, at + 1, rules), "ORG")
    for at in range(len(words)):
        if is_place(marks, at):
            _read_after_place(marks, at, rules)
        elif _is_abbreviation(marks, at, rules):
            _read_after_abbreviation(marks, at, rules)
    for at, word in enumerate(words):
        if marks.free(at) and word.tag in ("nz", "nx") and not _NO_NAME.fullmatch(word.text):
            _read_after_name(marks, at, rules)
    _read_unsure(marks, rules)
    for at, word in enumerate(words):
        if marks.free(at) and word.tag == "nz" and (word.text in companies or word.text.isupper()):
            marks.add(at, at + 1, "")  # a company or its goods


def company_names(sentences: list[Sentence], rules: Rules) -> frozenset[str]:
    """Proper names that stand before a word such as 公司 or 集团 somewhere."""
    return frozenset(
        word.text
        for words in sentences
        for word, following in zip(words, words[1:], strict=False)
        if word.tag == "nz"
        and following.tag == "n"
        and rules.matches("with_words_between", following.text)
        and not _NO_NAME.fullmatch(word.text)
    )


def _read_titles(marks: Marks, rules: Rules) -> None:
    """Mark 《…》: a medium is an organisation, the names in another title are unknown."""
    words = marks.words
    for first, last in _quoted(words):
        text = "".join(word.text for word in words[first:last])
        if text in rules.words["organisations"] or (len(text) <= 10 and _MEDIA.fullmatch(text)):
            marks.add(first, last, "ORG")
            continue
        for at in range(first, last):
            word = words[at]
            if word.tag in ("ns", "nt", "nr", "nz") or (word.tag == "j" and len(word.text) == 1):
                marks.add(at, at + 1, "")
        marks.taken.update(range(first, last))


def _read_after_person(marks: Marks, rules: Rules) -> None:
    """Mark a body named after a person as unknown: 李宁公司."""
    first = 0
    for at, word in enumerate(marks.words):
        if word.tag == "nr":
            continue
        named = first < at and marks.free(at) and word.tag == "n"
        if named and rules.matches("with_words_between", word.text):
            marks.add(first, at + 1, "")
        first = at + 1


def _quoted(words: Sentence) -> Iterator[tuple[int, int]]:
    start: Optional[int] = None
    for at, word in enumerate(words):
        if word.text == "《":
            start = at + 1
        elif word.text == "》" and start is not None:
            if start < at:
                yield start, at
            start = None


def _read_known(marks: Marks, rules: Rules) -> None:
    """Mark the names that rules.yml lists, the longest at each word."""
    words, known = marks.words, rules.words["organisations"]
    at = 0
    while at < len(words):
        end = 0
        text = ""
        for last in range(at, min(at + _LONGEST, len(words))):
            if not marks.free(last):
                break
            text += words[last].text
            if text in known:
                end = last + 1
        if not end:
            at += 1
            continue
        name = "".join(word.text for word in words[at:end])
        if is_place(marks, at - 1) and rules.matches("after_place", name):
            at = end  # 中国|社科院 is one name
            continue
        if name == "中共" and is_place(marks, end):
            head = _first_head(marks, end + 1, rules)
            if head and words[head - 1].text.endswith("委"):
                at = marks.add(at, _extended(marks, head, rules), "ORG")  # 中共北京市委
                continue
            head = _first_head(marks, end + 2, rules) if is_place(marks, end + 1) else 0
            if head and words[head - 1].text.endswith("委"):
                at = marks.add(at, _extended(marks, head, rules), "")  # 中共安徽宿州市委
                continue
        start = at
        before = is_place(marks, at - 1) or _inside(marks, at - 1)
        if before and name in rules.words["parties"]:
            at = marks.add(at - 1, end, "")  # 日本社会党: one name or two?
            continue
        at = marks.add(start, _extended(marks, end, rules), "ORG")


def _first_head(marks: Marks, at: int, rules: Rules) -> int:
    """The number after the word `at` if it follows a place to make an organisation; else 0."""
    if marks.free(at) and rules.matches("after_place", marks.words[at].text):
        return at + 1
    return 0


def _inside(marks: Marks, at: int) -> bool:
    """Whether a word may stand inside of a name."""
    if not marks.free(at):
        return False
    word = marks.words[at]
    pattern = _ALSO.get(word.tag)
    return word.tag in _INSIDE or (pattern is not None and pattern.fullmatch(word.text) is not None)


def _extended(marks: Marks, end: int, rules: Rules) -> int:
    """The end of an organisation whose name goes on: 国务院|办公厅, 中国银行|上海|分行."""
    while True:
        branch = end + 1
        if is_place(marks, end) and marks.free(branch):
            if rules.matches("branches", marks.words[branch].text):
                end = branch + 1
                continue
            return end
        for last in range(end, min(end + 4, len(marks.words))):
            if not _inside(marks, last):
                return end
            text = marks.words[last].text
            if text in rules.words["describing"]:
                return end
            if rules.matches("after_organisation", text) and not rules.matches("no_body", text):
                end = last + 1
                break
        else:
            return end


def _is_head(text: str, rules: Rules) -> bool:
    """Whether a word makes an organisation of a place or a proper name before it."""
    if rules.matches("after_place", text) or rules.matches("with_words_between", text):
        return text == "医院" or not rules.matches("no_body", text)
    return False


def _read_after_place(marks: Marks, at: int, rules: Rules) -> None:
    """Mark an organisation that begins with the place `at`."""
    words = marks.words
    ends = []
    last = at + 1
    while last < min(at + _LONGEST, len(words)) and _inside(marks, last):
        if words[last].tag != "nt" and (
            _is_head(words[last].text, rules) or _is_body(marks, last, rules)
        ):
            ends.append(last + 1)
        last += 1
    if not ends:
        return
    end = ends[0]
    if not _is_sure(marks, at, end, rules):
        later = [e for e in ends[1:] if _is_sure(marks, at, e, rules)]
        if not later:
            _leave_unsure(marks, at, ends[-1], rules)
            return
        end = later[0]
    end = _extended(marks, end, rules)
    if any(e > end for e in ends):
        marks.add(at, ends[-1], "")  # 中国政府代表团: whose name is it?
        return
    before = at - 1
    if is_place(marks, before) and _PROVINCE.fullmatch(words[before].text):
        marks.add(before, end, "")  # 河北省保定市公安局: one name or two?
        return
    first = words[at + 1]
    if words[at].text in rules.countries and first.tag in ("nz", "nx"):
        marks.add(at, at + 1, "LOC")  # 美国|诺基亚公司
        at += 1
    marks.add(at, end, "ORG")


def _read_after_abbreviation(marks: Marks, at: int, rules: Rules) -> None:
    """Mark an organisation of two words: 俄|外交部. The place alone is read later."""
    if not marks.free(at + 1) or marks.words[at + 1].tag != "n":
        return
    text = marks.words[at + 1].text
    if _is_abbreviation(marks, at - 1, rules) or rules.matches("common_bodies", text):
        marks.taken.add(at + 1)  # 驻京部队, 中英政府
    elif rules.matches("after_place", text) and not rules.matches("common_after_country", text):
        marks.add(at, _extended(marks, at + 2, rules), "ORG")


def _is_body(marks: Marks, at: int, rules: Rules) -> bool:
    """Whether a word may end the name of an organisation."""
    text, tag = marks.words[at].text, marks.words[at].tag
    return (
        tag in ("n", "nt", "j", "nz")
        and rules.matches("body", text)
        and not rules.matches("no_body", text)
    )


def _is_sure(marks: Marks, at: int, end: int, rules: Rules) -> bool:
    """Whether the place `at` and the words up to `end` are one organisation."""
    place, head = marks.words[at], marks.words[end - 1].text
    between = marks.words[at + 1 : end - 1]
    if any(word.text in rules.words["describing"] for word in between):
        return False
    named = any(word.tag in ("nz", "nx") for word in between)
    country = place.text in rules.countries
    if country and not named and rules.matches("common_after_country", head):
        # Of 中国 with a description, there is one; of other countries, there may be many.
        return place.text == "中国" and bool(between)
    if rules.matches("after_place", head):
        return True
    if head == "大学" and not between:
        return not place.text.endswith(("省", "市", "县"))
    return bool(between) and rules.matches("with_words_between", head)


def _leave_unsure(marks: Marks, at: int, end: int, rules: Rules) -> None:
    """Mark a place and a body after it as unknown, unless a description is between them.

    An association may have such words in its name: 中国防伪行业协会.
    """
    between, head = marks.words[at + 1 : end - 1], marks.words[end - 1].text
    described = any(word.text in rules.words["describing"] for word in between)
    if described and rules.matches("common_after_country", head):
        marks.taken.update(range(at + 1, end))  # 上海国有银行: the place only
        return
    marks.add(at, end, "")


def _read_after_name(marks: Marks, at: int, rules: Rules) -> None:
    """Mark an organisation that begins with the proper name `at`: 诺基亚公司."""
    for last in range(at + 1, min(at + 5, len(marks.words))):
        if not _inside(marks, last):
            return
        text = marks.words[last].text
        if text in rules.words["describing"]:
            return
        if rules.matches("with_words_between", text) and _is_head(text, rules):
            marks.add(at, _extended(marks, last + 1, rules), "ORG")
            return


def _read_unsure(marks: Marks, rules: Rules) -> None:
    """Mark runs of words that end in a body and that nothing makes sure as unknown."""
    words = marks.words
    at = 0
    while at < len(words):
        last = at
        while last < len(words) and _inside(marks, last):
            last += 1
        bodies = [number for number in range(at, last) if _is_body(marks, number, rules)]
        end = bodies[-1] + 1 if bodies else at
        text = "".join(word.text for word in words[at:end])
        goes_on = any(mark[1] == at and mark[2] == "ORG" for mark in marks.found)
        none = (
            text in rules.words["common_names"]
            or rules.matches("common_bodies", text)
            or any(word.text in rules.words["describing"] for word in words[at:end])
            or (at > 0 and words[at - 1].tag in _ARTICLES)
        )
        if goes_on and end > at:
            marks.add(at, end, "")  # 国务院扶贫开发领导小组
        elif end > at + 1 and not none:
            marks.add(at, end, "")
        at = max(last, at + 1)
