"""Windows over texts: what of a text one pass of an encoder sees.

By "sentences", each sentence is a window. By "fit", a text of at most `size` wordpieces is one
window, and a longer one is parted at the ends of its sentences into as few as possible. A sentence
that is still too long is covered by as few overlapping windows as possible, all of one length.
Each wordpiece is read from the window in which it is most central. So each window owns one run of
wordpieces, and all runs together are the text.
"""

from typing import NamedTuple

import numpy as np

from .wordpieces import BoolArray, IntArray


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


def parted(edges: IntArray, size: int) -> IntArray:
    """The edges of as few parts of a text as possible, of like length.

    A part is made of whole sentences. It has at most `size` wordpieces, or is one sentence.

    edges: the edges of its sentences, from 0 to its number of wordpieces, ascending.
    size: see plan_windows.
    """
    total, begin, kept = int(edges[-1]), 0, [0]
    while begin < total:
        count = -(-(total - begin) // size)
        aim = begin + (total - begin) / count
        first = int(np.searchsorted(edges, begin, side="right"))
        last = max(first, int(np.searchsorted(edges, begin + size, side="right")) - 1)
        reached = edges[first : last + 1]
        begin = int(reached[np.abs(reached - aim).argmin()])
        kept.append(begin)
    return np.array(kept, dtype=np.int64)


def joined_windows(
    counts: IntArray, cuts: IntArray, kept: BoolArray, size: int, overlap: int
) -> IntArray:
    """The windows of texts, text after text: its number, then those of a Window. [W, 5]

    counts: number of wordpieces of each text. [texts]
    cuts: wordpieces before which a sentence ends, counted over all texts, ascending. [cuts]
    kept: whether a window ends there in any case. At others it ends only where it must. [cuts]
    size: see plan_windows.
    overlap: see plan_windows.
    """
    if len(counts):
        plan_windows(0, size, overlap)  # raises for an overlap that is out of range
    ends = np.cumsum(counts)
    begins = ends - counts
    inside = cuts[: np.searchsorted(cuts, ends[-1])] if len(ends) else cuts[:0]
    # shape: (parts + 1,)
    edges = np.union1d(np.append(0, ends), inside[kept[: len(inside)]])
    edges = _with_more(edges, inside, size)
    first, lengths = edges[:-1], np.diff(edges)
    text = np.searchsorted(ends, first, side="right")
    rows = np.stack([text, first, first + lengths, first, first + lengths], axis=1)
    rows[:, 1:] -= begins[text][:, None]
    parts: list[IntArray] = []
    at = 0
    for i in np.flatnonzero(lengths > size).tolist():
        number, begin = rows[i, :2].tolist()
        planned = np.array(plan_windows(int(lengths[i]), size, overlap), dtype=np.int64) + begin
        parts += [rows[at:i], np.insert(planned, 0, number, axis=1)]
        at = i + 1
    return np.concatenate([*parts, rows[at:]]) if parts else rows


def _with_more(edges: IntArray, cuts: IntArray, size: int) -> IntArray:
    """The edges of parts of texts, where those of more than `size` wordpieces are parted again."""
    found = [edges]
    for i in np.flatnonzero(np.diff(edges) > size).tolist():
        begin, end = edges[i : i + 2].tolist()
        own = cuts[np.searchsorted(cuts, begin, side="right") : np.searchsorted(cuts, end)]
        found.append(parted(np.concatenate([[0], own - begin, [end - begin]]), size) + begin)
    return np.unique(np.concatenate(found)) if len(found) > 1 else edges
