"""Places: words tagged `ns`, with what makes a longer place of them, and abbreviations."""

import re

from .bodies import REGIONS, Marks, is_place
from .rules import Rules

#: Words between a place and 自治区.
_PEOPLES = re.compile(r".*族|特别|维吾尔|蒙古|回|壮")


def find_places(marks: Marks, rules: Rules) -> None:
    """Mark the places of a sentence, after its organisations."""
    words = marks.words
    for at, word in enumerate(words):
        if is_place(marks, at) and word.tag != "j":
            _read_place(marks, at, rules)
        elif marks.free(at) and word.tag == "j":
            _read_abbreviation(marks, at, rules)
        elif marks.free(at) and word.tag == "f" and word.text in REGIONS:
            marks.add(at, at + 1, "")  # a direction or a region


def _read_place(marks: Marks, at: int, rules: Rules) -> None:
    words = marks.words
    end = at + 1
    while marks.free(end) and _PEOPLES.fullmatch(words[end].text):
        end += 1
    if not marks.free(end):
        end = at + 1
    if marks.free(end) and words[end].tag in ("n", "Ng", "b"):
        text = words[end].text
        if rules.matches("doubtful_place_name", text):
            marks.add(at, end + 1, "")
            return
        longer = rules.matches("after_place_name", text) and not words[at].text.endswith(text)
        if longer and words[at].text not in rules.countries:
            marks.add(at, end + 1, "LOC")
            return
    marks.add(at, at + 1, "LOC")


def _read_abbreviation(marks: Marks, at: int, rules: Rules) -> None:
    """Mark 中 or 中美, a place for each character."""
    text = marks.words[at].text
    known, doubtful = rules.words["abbreviations"], rules.words["doubtful_abbreviations"]
    if text in doubtful:
        marks.add(at, at + 1, "")
    elif all(char in known for char in text):
        marks.add(at, at + 1, "LOC")
    elif len(text) == 2 and all(char in known or char in doubtful for char in text):
        marks.add(at, at + 1, "")
