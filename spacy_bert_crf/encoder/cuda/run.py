"""Runs the encoder passes of a plan by CudaBert: one copy to the device, and no wait.

Without padding, all windows that fit in a pass go through the encoder together. With padding, a
pass is a batch of the plan.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..passes import IntArray, Plan, pool
from ..transfers import to_device
from .bert import CudaBert

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


@torch.inference_mode()
def run_cuda(
    model: CudaBert, plan: Plan, limit: int, project: Optional[tuple[Tensor, Tensor]] = None
) -> Tensor:
    """Vectors of all tokens of a plan; see `passes.run`.

    model: the encoder.
    plan: the passes, and the rows that each of N tokens averages. It has at least one pass.
    limit: largest number of rows of a pass without padding.
    project: see `passes.run`.
    RETURNS: float32 [N, width], or [N, K] with `project`.
    """
    offsets = plan.offsets()
    first = [plan.rows] if offsets is None else [plan.rows, offsets]
    run = _unpadded if model.is_unpadded else _padded
    hidden, pooling = run(model, plan, limit, [array.astype(np.int32) for array in first])
    outputs = []
    for states in hidden:
        rows = states.float()
        outputs.append(rows if project is None else rows @ project[0].T)
    out = pool(outputs[0] if len(outputs) == 1 else torch.cat(outputs), *pooling)
    return out if project is None else out + project[1]


#: Hidden states of each pass, and the arguments of `pool` on the device.
_Passes = tuple[Iterator[Tensor], list[Tensor]]


def _unpadded(model: CudaBert, plan: Plan, limit: int, first: list[IndexArray]) -> _Passes:
    ids, positions, lengths, place = flatten(plan, model.padding)
    ranges = split_windows(lengths, limit)
    borders = [np.concatenate([[0], np.cumsum(lengths[a:b])]).astype(np.int32) for a, b in ranges]
    rows, *rest = first
    arrays = [place[rows], *rest, ids, positions, *borders]
    tensors = to_device(arrays, model.device)
    ids_on, positions_on, *borders_on = tensors[len(first) :]

    def passes() -> Iterator[Tensor]:
        begin = 0
        for (a, b), border, own in zip(ranges, borders_on, borders, strict=True):
            part = slice(begin, begin + int(own[-1]))
            longest = int(lengths[a:b].max())
            yield model.unpadded(ids_on[part], positions_on[part], border, longest)
            begin = part.stop

    return passes(), tensors[: len(first)]


def _padded(model: CudaBert, plan: Plan, limit: int, first: list[IndexArray]) -> _Passes:
    arrays: list[NDArray[Any]] = list(first)
    for batch in plan.batches:
        arrays.append(batch.ids.astype(np.int32))
        arrays.append(positions_of(batch.ids, model.padding).astype(np.int32))
        if batch.mask is not None:
            arrays.append(batch.mask.astype(bool))
    tensors = to_device(arrays, model.device)

    def passes() -> Iterator[Tensor]:
        inputs = iter(tensors[len(first) :])
        for batch in plan.batches:
            ids, positions = next(inputs), next(inputs)
            yield model.padded(ids, positions, None if batch.mask is None else next(inputs))

    return passes(), tensors[: len(first)]
