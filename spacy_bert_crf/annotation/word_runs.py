"""Which characters of a text make a word that entities may not cut: one regular expression.

Tokenizers of Chinese make one token of each character, so `CEO` is three tokens. An entity that
begins at `E` is never meant. The rule says which characters of Latin script belong together.
"""

import re
from collections.abc import Iterable

from spacy.tokens import Doc

#: Latin letters by case. Letters of later blocks of Unicode count as either.
_UPPER = "A-ZÀ-ÖØ-ÞＡ-Ｚ"
_LOWER = "a-zß-öø-ÿａ-ｚ"
_ANY_CASE = "Ā-ʯḀ-ỿⱠ-Ɀꜣ-ꞇꞋ-ꟿꬰ-ꭤﬀ-ﬆ"
#: Combining accents, which continue a word.
_ACCENT = "\\u0300-\\u036f"
_LETTER = _UPPER + _LOWER + _ANY_CASE
_DIGIT = "0-9０-９"
_DOT = "[.．]"
_HYPHEN = "[\\-‐‑－]"
_APOSTROPHE = "['’＇]"

#: The marks that join what stands on both sides of them.
_JOINS = (
    f"(?<=[{_DIGIT}])[.．,](?=[{_DIGIT}])",  # 3.14, 1,000
    f"(?<=[{_LETTER}]){_DOT}(?=[{_LOWER}{_DIGIT}])",  # google.com, No.1
    f"(?<=[{_UPPER}]){_DOT}(?=[{_LETTER}])",  # U.S.A
    f"(?<=[{_DIGIT}]){_DOT}(?=[{_LOWER}])",  # 163.com
    f"(?<=[{_LETTER}]){_HYPHEN}(?=[{_DIGIT}])",  # COVID-19
    # O'Neill, don't; but John's is John and 's
    f"(?<=[{_LETTER}]){_APOSTROPHE}(?=[{_LETTER}])(?![sSｓＳ](?![{_LETTER}{_DIGIT}]))",
)

#: A regular expression of Python's `re`, without flags. Its matches are the runs of characters
#: that stay whole: Latin letters and digits, also full-width ones and letters with accents, and
#: the apostrophes, hyphens, dots and commas inside a word.
#:
#: Marks join as in spaCy's tokenizer of English. A hyphen joins a letter to a digit (`F-16`) and
#: nothing else (`well-known`, `1990-2000`). A dot does not join lower.Upper (`end.Next`).
#: Texts without spaces ask for two rules more. A comma joins only digits (not `iPhone,3`), and a
#: dot does not join a digit to a capital (`1.Google`). Contractions (`don't`), and numbers with a
#: unit (`10km`), are one word here.
WORD = f"[{_LETTER}{_DIGIT}](?:[{_LETTER}{_DIGIT}{_ACCENT}]|{'|'.join(_JOINS)})*"

#: A regular expression of each single character that may be in a word.
IN_WORD = f"[{_LETTER}{_DIGIT}{_ACCENT}]|{_DOT}|{_HYPHEN}|{_APOSTROPHE}|,"

_WORD = re.compile(WORD)
_IN_WORD = re.compile(IN_WORD)


def inner_borders(doc: Doc, borders: Iterable[int]) -> set[int]:
    """The borders that lie inside a word: between two tokens of one character in one match of WORD.

    doc: the doc.
    borders: borders between tokens, each by the token after it.
    """
    found = set()
    for border in set(borders):
        if not 0 < border < len(doc):
            continue
        before, after = doc[border - 1], doc[border]
        pair = before.text_with_ws, after.text
        if all(len(text) == 1 and _IN_WORD.match(text) for text in pair):
            found.add(border)
    if not found:
        return found
    offsets = {doc[border].idx: border for border in found}
    matches = [match.span() for match in _WORD.finditer(doc.text)]
    return {
        border
        for offset, border in offsets.items()
        if any(begin < offset < end for begin, end in matches)
    }
