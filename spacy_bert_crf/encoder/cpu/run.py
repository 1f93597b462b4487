"""Runs the encoder passes of a plan by CpuBert: all windows that fit in a pass go together."""

from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..passes import Plan, pool, projected
from ..unpadded import flatten, split_windows
from .bert import CpuBert


@torch.inference_mode()
def run_cpu(
    model: CpuBert, plan: Plan, limit: int, project: Optional[tuple[Tensor, Tensor]] = None
) -> Tensor:
    """Vectors of all tokens of a plan; see `passes.run`.

    model: the encoder.
    plan: the passes, and the rows that each of N tokens averages. It has at least one pass.
    limit: largest number of rows of a pass.
    project: see `passes.run`.
    RETURNS: float32 [N, width], or [N, K] with `project`.
    """
    flat = flatten(plan, model.padding)
    ids, positions = torch.from_numpy(flat.ids), torch.from_numpy(flat.positions)
    borders = np.concatenate([[0], np.cumsum(flat.lengths)]).tolist()
    lengths = flat.lengths.tolist()
    outputs = []
    for first, last in split_windows(flat.lengths, limit):
        part = slice(borders[first], borders[last])
        rows = model(ids[part], positions[part], lengths[first:last])
        outputs.append(rows if project is None else projected(rows, project[0]))
    offsets = plan.offsets()
    index = torch.from_numpy(flat.place[plan.rows].astype(np.int64))
    hidden = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    out = pool(hidden, index, None if offsets is None else torch.from_numpy(offsets))
    return out if project is None else out + project[1]
