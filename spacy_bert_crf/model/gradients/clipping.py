"""Clips the gradients of an update by their norm, and leaves out those that are not finite.

On CUDA the host does not wait: the norm scales the gradients where it is, the optimizer's kernel
skips a step that is not finite, and the host reads the norm when the next update is clipped.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from ...encoder.transfers import OnItsWay


class Clipped(NamedTuple):
    """What an optimizer does with gradients that were clipped.

    is_step: whether it steps; False if a gradient is not finite.
    found_inf: for its kernel: 1 if a gradient is not finite, else 0. float32 [], None if it is
        known that all are finite
    """

    is_step: bool
    found_inf: Optional[Tensor] = None


class Clipper:
    """Clips gradients, see above. It keeps the norm of the last update, and counts steps left out.

    skipped: number of updates whose step was left out before.
    """

    def __init__(self, skipped: int = 0) -> None:
        self._norm = 0.0
        self._skipped = skipped
        self._update = 0
        #: The norm of the last update, where the host has not read it yet.
        self._way: Optional[OnItsWay] = None

    @property
    def last_norm(self) -> float:
        """Norm of all gradients of the last update before clipping; inf if it was not finite."""
        self._read()
        return self._norm

    @property
    def skipped(self) -> int:
        """Number of updates whose step was left out."""
        self._read()
        return self._skipped

    def clip(self, grads: Sequence[Tensor], largest: float, update: int) -> Clipped:
        """Scale gradients in place to the largest norm.

        grads: the gradients of all parameters.
        largest: largest norm of all together, 0 for any.
        update: number of the update, for the warning.
        Warns of a gradient that is not finite, on CUDA one update later.
        """
        self._read()
        self._update = update
        by_device: dict[torch.device, list[Tensor]] = {}
        for grad in grads:
            by_device.setdefault(grad.device, []).append(grad)
        # shape: []
        squares = {
            device: torch.stack([n.float() for n in torch._foreach_norm(members)]).square().sum()
            for device, members in by_device.items()
        }
        if len(by_device) == 1 and next(iter(by_device)).type == "cuda":
            (norm,) = (square.sqrt() for square in squares.values())
            if largest:
                factor = (largest / (norm + 1e-6)).clamp_(max=1.0)
                torch._foreach_mul_(list(grads), factor)
            self._way = OnItsWay(norm)
            return Clipped(True, (~norm.isfinite()).float())
        total = sum(map(float, squares.values()))
        self._note(math.sqrt(total) if math.isfinite(total) else math.inf)
        if largest and largest < self._norm < math.inf:
            for members in by_device.values():
                torch._foreach_mul_(members, largest / (self._norm + 1e-6))
        return Clipped(math.isfinite(self._norm))

    def _read(self) -> None:
        way, self._way = self._way, None
        if way is not None:
            self._note(float(way.wait()))

    def _note(self, norm: float) -> None:
        self._norm = norm if math.isfinite(norm) else math.inf
        if not math.isfinite(norm):
            self._skipped += 1
            warnings.warn(
                f"the gradient of update {self._update} is not finite: its step is left out.",
                stacklevel=4,
            )
