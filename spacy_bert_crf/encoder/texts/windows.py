"""Windows over texts that are too long for an encoder, and where such texts may be cut.

A text of at most `max_length` wordpieces, special ones included, is one window. A longer
text may be cut at the ends of its sentences. A part that is still too long is covered by as few
overlapping windows as possible, all of one length. Each wordpiece is read from the window in which
it is most central. So each window owns one run of wordpieces, and all runs together are the text.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from spacy.tokens import Doc

from .wordpieces import IntArray

_SENTENCE_END = re.compile(r"[。！？!?…\n]+[”’」』）》)\]\"']*")


class Window(NamedTuple):
    """A window of wordpieces. Those that it owns are read from this window.

    begin: its first wordpiece.
    end: the wordpiece after its last one.
    own_begin: the first wordpiece that it owns.
    own_end: the wordpiece after the last one that it owns.
    """

    begin: int
    end: int
    own_begin: int
    own_end: int


def plan_windows(n_pieces: int, size: int, overlap: int) -> list[Window]:
    """Windows over a text. All numbers count wordpieces, without special ones.

    n_pieces: length of the text.
    size: largest length of a window.
    overlap: smallest number of wordpieces that two neighbouring windows share.
    Raises ValueError if overlap is not in 0 .. size - 1.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"overlap {overlap} is not in 0 .. {size - 1} (window size {size}).")
    if n_pieces <= size:
        return [Window(0, n_pieces, 0, n_pieces)] if n_pieces else []
    count = -(-(n_pieces - overlap) // (size - overlap))
    length = -(-(n_pieces + (count - 1) * overlap) // count)
    begins = [round(i * (n_pieces - length) / (count - 1)) for i in range(count)]
    # The border between what two neighbours own is the middle of their overlap.
    cuts = [(a + length + b) // 2 for a, b in zip(begins[:-1], begins[1:], strict=True)]
    edges = [0, *cuts, n_pieces]
    return [Window(b, b + length, edges[i], edges[i + 1]) for i, b in enumerate(begins)]


def plan_text(n_pieces: int, cuts: Sequence[int], size: int, overlap: int) -> list[Window]:
    """Windows over a text that may be cut if it is too long for one window.

    n_pieces: see plan_windows.
    cuts: wordpieces before which it may be cut, ascending.
    size: see plan_windows.
    overlap: see plan_windows.
    """
    if n_pieces <= size:
        return plan_windows(n_pieces, size, overlap)
    edges = sorted({0, n_pieces, *(cut for cut in cuts if 0 < cut < n_pieces)})
    return [
        Window(*(begin + place for place in window))
        for begin, end in zip(edges[:-1], edges[1:], strict=True)
        for window in plan_windows(end - begin, size, overlap)
    ]


def joined_windows(
    counts: IntArray, cuts: Mapping[int, Sequence[int]], size: int, overlap: int
) -> IntArray:
    """The windows of texts, text after text: its number, then those of a Window. [W, 5]

    counts: number of wordpieces of each text. [texts]
    cuts: where a text may be cut, see plan_text.
    size: see plan_windows.
    overlap: see plan_windows.
    """
    if len(counts):
        plan_windows(0, size, overlap)  # raises for an overlap that is out of range
    whole = np.flatnonzero((counts > 0) & (counts <= size))
    rows = np.zeros((len(whole), 5), dtype=np.int64)
    rows[:, 0], rows[:, 2], rows[:, 4] = whole, counts[whole], counts[whole]
    parts = [
        (text, *window)
        for text in np.flatnonzero(counts > size).tolist()
        for window in plan_text(int(counts[text]), cuts.get(text, ()), size, overlap)
    ]
    if parts:
        rows = np.concatenate([rows, np.array(parts, dtype=np.int64)])
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return rows


def sentence_starts(doc: Doc) -> list[int]:
    """Character offsets at which the sentences of a doc start, without the first.

    Annotated sentences count if there are any. Otherwise a sentence ends with 。！？!?… or a line
    break, and the quotes and brackets that close after it. A full stop does not count, because it
    may belong to an abbreviation.
    """
    if doc.has_annotation("SENT_START"):
        return [sent.start_char for sent in doc.sents][1:]
    return [match.end() for match in _SENTENCE_END.finditer(doc.text)]
