"""The windows of a plan one after the other, without padding, for encoders that compute by rows.

BERT computes each row by itself, except in attention. So a pass needs no padding where attention
keeps to the windows.
"""

from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from .passes import IntArray, Plan

IndexArray = NDArray[np.int32]


class Rows(NamedTuple):
    """The windows of a plan one after the other, without padding. M windows, N rows.

    ids: their input ids. [N]
    positions: position of each id in the position table. [N]
    lengths: number of rows of each window. [M]
    place: the row of each place in the plan's passes; those of padding mean nothing. [all W * L]
    """

    ids: IndexArray
    positions: IndexArray
    lengths: IntArray
    place: IndexArray


def flatten(plan: Plan, padding: Optional[int]) -> Rows:
    """The windows of a plan without padding.

    plan: the plan; its batches may be padded.
    padding: see `positions_of`.
    """
    ids, positions, lengths, real = [], [], [], []
    for batch in plan.batches:
        n_windows, longest = batch.ids.shape
        where = positions_of(batch.ids, padding)
        if batch.mask is None:
            ids.append(batch.ids.ravel())
            positions.append(where.ravel())
            lengths.append(np.full(n_windows, longest, dtype=np.int64))
            real.append(np.ones(batch.ids.size, dtype=bool))
        else:
            mask = batch.mask.astype(bool)
            ids.append(batch.ids[mask])
            positions.append(where[mask])
            lengths.append(mask.sum(1))
            real.append(mask.ravel())
    # Row in the padded layout to row without padding.
    place = np.cumsum(np.concatenate(real)) - 1
    return Rows(
        np.concatenate(ids).astype(np.int32),
        np.concatenate(positions).astype(np.int32),
        np.concatenate(lengths),
        place.astype(np.int32),
    )


def positions_of(ids: IntArray, padding: Optional[int]) -> IntArray:
    """Position of each id in the table of positions. [W, L]

    ids: input ids of windows. [W, L]
    padding: None to count from 0. Otherwise the id that pads: positions start behind it, and such
        ids have it as their own position and are not counted, as in RoBERTa.
    """
    if padding is None:
        return np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    counts = ids != padding
    return np.cumsum(counts, axis=1) * counts + padding


def split_windows(lengths: IntArray, limit: int) -> list[tuple[int, int]]:
    """Ranges of windows that go through the encoder together.

    lengths: number of rows of each window. [M]
    limit: largest number of rows of a range. A longer window is a range of its own.
    RETURNS: first window and last + 1 of each range.
    """
    ends = np.cumsum(lengths)
    ranges, first = [], 0
    while first < len(lengths):
        before = ends[first] - lengths[first]
        last = max(int(np.searchsorted(ends, before + limit, side="right")), first + 1)
        ranges.append((first, last))
        first = last
    return ranges
