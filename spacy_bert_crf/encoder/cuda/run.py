"""Runs the encoder passes of a plan by CudaBert: one copy to the device, and no wait.

Without padding, all windows that fit in a pass go through the encoder together. With padding, a
pass is a batch of the plan.
"""

from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..passes import Plan, pool
from ..transfers import to_device
from ..unpadded import IndexArray, flatten, positions_of, split_windows
from .bert import CudaBert


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
