"""Which tokens of docs continue a word of Latin letters or digits, for all docs at once."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Optional

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc

from ...annotation.schemes import Role, TagSet
from ...annotation.word_runs import IN_WORD, WORD
from ...encoder.texts.doc_texts import read_texts, read_tokens

BoolArray = NDArray[np.bool_]

_WORD = re.compile(WORD)
#: Number of code points of the first plane of Unicode. No other character is in a word.
_PLANE = 1 << 16


def continuations(docs: Sequence[Doc]) -> list[Optional[BoolArray]]:
    """Which tokens continue the word of the token before them. bool [tokens] for each doc

    They are True only where both tokens are one character long, without white space between them,
    and lie in one match of WORD. Texts without two such characters in a row cost no more than
    reading their characters.

    docs: the docs. They may have different vocabularies.
    RETURNS: None for a doc without such a token.
    """
    out: list[Optional[BoolArray]] = [None] * len(docs)
    _, values, spaces, counts = read_tokens(docs)
    # shape: (N,). Strings of several characters have negative values, and are in no word.
    is_char = _in_word()[np.clip(values, -1, _PLANE)]
    at = np.flatnonzero(is_char[:-1] & is_char[1:] & (spaces[:-1] == 0))
    if not len(at):
        return out
    found = np.unique(np.searchsorted(np.cumsum(counts), at, side="right")).tolist()
    for i, own in zip(found, _continued([docs[i] for i in found]), strict=True):
        out[i] = own if own.any() else None
    return out


def _continued(docs: Sequence[Doc]) -> list[BoolArray]:
    """Which tokens continue a word. [tokens] for each doc"""
    read = read_texts(docs)
    # The separator between the texts is in no word.
    text = read.texts.codes.tobytes().decode("utf-32-le")
    inside = np.zeros(len(text), dtype=bool)
    for match in _WORD.finditer(text):
        inside[match.start() + 1 : match.end()] = True
    single = read.ends - read.starts == 1
    continues = inside[read.starts] & single
    continues[1:] &= single[:-1] & (read.starts[1:] == read.ends[:-1])
    return np.split(continues, np.cumsum(read.counts)[:-1])


@cache
def _in_word() -> BoolArray:
    """Whether each code point of the first plane may be part of a word. The rest is False."""
    found = np.zeros(_PLANE + 2, dtype=bool)  # one for all others, and one for -1
    is_part = re.compile(IN_WORD)
    found[[code for code in range(_PLANE) if is_part.match(chr(code))]] = True
    return found


def whole_words(continues: BoolArray, tags: TagSet) -> BoolArray:
    """The tags with which no entity begins or ends inside a word. bool [tokens, K]

    continues: whether each token continues the word of the token before it. [tokens]
    tags: the K tags, of a scheme that marks the last token of an entity.
    """
    roles = [role for role, _ in tags.roles]
    begins = np.array([role in (Role.BEGIN, Role.UNIT) for role in roles])
    ends = np.array([role in (Role.LAST, Role.UNIT) for role in roles])
    continued = np.append(continues[1:], False)
    # shape: (tokens, K)
    return ~((continues[:, None] & begins) | (continued[:, None] & ends))


def breaks(spans: Sequence[tuple[int, int, str]], continues: BoolArray) -> bool:
    """Whether an entity begins or ends inside a word.

    spans: entities (start, end, label), in tokens.
    continues: see `whole_words`. [tokens]
    """
    return any(
        continues[start] or (end < len(continues) and continues[end]) for start, end, _ in spans
    )
