"""Persons: words tagged `nr`, of which surname and given name are two."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from .words import Sentence

#: Before a surname or a given name of one character, and no part of the name: 老王, 小李.
_BEFORE = "老小"
#: A Chinese given name has at most so many characters.
_GIVEN = 2
_ODD = re.compile(r"[（(〈《）)〉》×]")
#: Words of ideology, tagged `n`, that begin with a person's name.
_PERSON_INSIDE = re.compile(r"(邓小平|毛泽东|马克思|列宁|周恩来|雷锋)(?=理论|思想|主义|精神|$)")
#: Words tagged `n` that consist of a surname and a title.
_TITLED = re.compile(r"[毛周邓江朱刘](?=主席$|总理$|书记$|总书记$)")


class Found(NamedTuple):
    """Names that were found in a sentence.

    entities: (start, end) in characters.
    unknown: (start, end) in characters, of what may be a name.
    words: numbers of the words that were read.
    """

    entities: list[tuple[int, int]]
    unknown: list[tuple[int, int]]
    words: set[int]


def given_names(sentences: Iterable[Sentence]) -> set[str]:
    """Words that follow a surname of one character somewhere: 小平 is no 小 and a surname."""
    found: Counter[str] = Counter()
    for words in sentences:
        for word, following in zip(words, words[1:], strict=False):
            if word.tag == following.tag == "nr" and len(word.text) == 1:
                found[following.text] += 1
    return {text for text, count in found.items() if count > 1}


def find_persons(words: Sentence, surnames: set[str], given: set[str]) -> Found:
    """Find the persons of a sentence.

    words: the sentence.
    surnames: Chinese surnames of one or more characters.
    given: given names, see `given_names`.
    """
    out = Found([], [], set())
    at = 0
    while at < len(words):
        end = at
        while end < len(words) and words[end].tag == "nr":
            end += 1
        if end > at:
            _read_run(words, at, end, surnames, given, out)
        elif words[at].tag == "n":
            text, start = words[at].text, words[at].start
            if match := _TITLED.match(text):
                out.entities.append((start, start + match.end()))
                out.words.add(at)
            elif match := _PERSON_INSIDE.match(text):
                out.unknown.append((start, start + match.end()))
                out.words.add(at)
        at = max(end, at + 1)
    return out


def _read_run(
    words: Sentence, first: int, last: int, surnames: set[str], given: set[str], out: Found
) -> None:
    """Read adjacent words tagged `nr`, from `first` up to `last`: one or more persons."""
    out.words.update(range(first, last))
    at = first
    while at < last:
        taken = _full_name(words, at, last, surnames)
        start, end = words[at].start, words[at + max(taken, 1) - 1].end
        text = words[at].text
        if any(_ODD.search(word.text) for word in words[at : at + max(taken, 1)]):
            out.unknown.append((start, end))
        elif taken:
            out.entities.append((start, end))
        elif at > first or at + 1 < last:
            # A second given name after a full name, or two given names: whose name is it?
            out.unknown.append((start, end))
        elif len(text) == 1 and text not in surnames:
            out.unknown.append((start, end))
        elif len(text) == 2 and text[0] in _BEFORE and text not in given and text[1] in surnames:
            out.entities.append((start + 1, end))
        elif len(text) == 2 and text[1] == "老" and text not in given:
            out.entities.append((start, end - 1))  # 贝老
        else:
            out.entities.append((start, end))
        at += max(taken, 1)


def _full_name(words: Sentence, at: int, last: int, surnames: set[str]) -> int:
    """How many words from `at` on are a surname and a given name; 0 if they are none."""
    texts = [word.text for word in words[at:last]]
    if len(texts) == 3 and all(text in surnames for text in texts[:2]) and len(texts[2]) == 2:
        return 3  # the husband's surname before the own: 陈方安生
    if len(texts) < 2 or len(texts[1]) > _GIVEN or "·" in texts[1]:
        return 0
    return 2 if len(texts[0]) == 1 or texts[0] in surnames else 0
