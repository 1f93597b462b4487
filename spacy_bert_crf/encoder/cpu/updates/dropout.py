"""Dropout that is faster on CPUs: its masks come from random bits.

torch draws a random number for each element. Here a random number of 64 bits decides about four
elements. Elements are kept or dropped by a bitwise "and".
"""

from typing import Any

import torch
from torch import Tensor, nn

#: The integers of the same size as a floating-point number.
BITS = {
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
#: Rates are multiples of 1 divided by this.
STEPS = 1 << 16


class Rate:
    """A dropout rate, rounded to what random numbers of 16 bits can do.

    rate: dropout rate, from 0 to 1. A rate above 0 becomes at least 1 / STEPS.
    """

    def __init__(self, rate: float) -> None:
        n_dropped = max(round(rate * STEPS), 1) if rate else 0
        #: The rate after rounding. It differs by at most 1 / STEPS.
        self.rate = n_dropped / STEPS
        #: Factor on kept elements, so that means stay the same. 0 if all are dropped.
        self.scale = STEPS / (STEPS - n_dropped) if n_dropped < STEPS else 0.0
        self._limit = STEPS // 2 - n_dropped

    def keep(self, n_elements: int) -> Tensor:
        """A new mask: -1 (all bits) for an element that is kept, 0 for one that is dropped.

        It takes random numbers of torch's CPU generator.

        RETURNS: int16 [n_elements]
        """
        if not self.rate:
            return torch.full((n_elements,), -1, dtype=torch.int16)
        # A number of 64 bits holds four of 16 bits, each from -STEPS / 2 to STEPS / 2 - 1.
        numbers = torch.empty(-(-n_elements // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = numbers.view(torch.int16)[:n_elements]
        return torch.lt(bits, self._limit, out=bits).neg_()


def drop(values: Tensor, keep: Tensor) -> Tensor:
    """Values with those that are dropped as 0. Kept ones are not scaled.

    values: floating-point numbers.
    keep: see Rate.keep. int16, of as many elements
    RETURNS: a new tensor of the shape and dtype of `values`, without a gradient.
    """
    bits = BITS[values.dtype]
    kept = values.detach().view(bits) & keep.view(values.shape).to(bits)
    return kept.view(values.dtype)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return drop(values, keep).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (keep,) = ctx.saved_tensors
        return _Dropout.apply(grad.contiguous(), keep, ctx.scale), None, None  # type: ignore[no-untyped-call]


class CpuDropout(nn.Dropout):
    """nn.Dropout with other random numbers."""

    def forward(self, input: Tensor) -> Tensor:
        """[...] to [...]"""
        if not self.training or not 0 < self.p < 1 or self.inplace:
            return super().forward(input)
        if input.device.type != "cpu" or input.dtype not in BITS:
            return super().forward(input)
        rate = Rate(self.p)
        values = input.contiguous()
        out: Tensor = _Dropout.apply(values, rate.keep(values.numel()), rate.scale)  # type: ignore[no-untyped-call]
        return out
