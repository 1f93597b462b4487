"""Linear layers that are faster on CPUs: the bias is added after the product.

torch copies the bias into every row of the output before it multiplies, which costs a pass over
memory, and an encoder that multiplies little per row (a width of 384) about 5 % of its time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CpuLinear(nn.Linear):
    """A linear layer with the same weights and, but for rounding, the same results."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] to [..., out]"""
        if input.device.type != "cpu" or self.bias is None:
            return super().forward(input)
        return F.linear(input, self.weight).add_(self.bias)


def prefer_cpu(model: nn.Module) -> None:
    """Make CpuLinear of all plain linear layers of a model, in place. No weight is touched."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = CpuLinear


def has_bfloat16_products() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 faster than float32 (AMX tiles).

    AVX-512's bfloat16 instructions alone are left out: they gain little, and cost precision.
    """
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported and supported())
