"""Linear layers that are faster on CPUs: the bias is added after the product.

torch copies the bias into every row of the output before it multiplies, which costs a pass over
memory. For an encoder of width 384 that is about 5 % of the time. Products in 16 bits add it
themselves.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Activations that oneDNN applies inside a product, with its name and algorithm for each.
FUSED_ACTIVATIONS = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}

#: Instructions that multiply bfloat16, by torch's names for them.
_BFLOAT16 = ("amx_tile", "avx512_bf16")


class CpuLinear(nn.Linear):
    """nn.Linear with the same weights and, except for rounding, the same results."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] to [..., out]"""
        if input.device.type != "cpu" or self.bias is None:
            return super().forward(input)
        if torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        return product(input, self.weight, self.bias)


def product(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[..., in] to [..., out]. weight: [out, in], bias: [out]"""
    if rows.element_size() == 2:
        return F.linear(rows, weight, bias)
    return F.linear(rows, weight).add_(bias)


def has_bfloat16_products() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 faster than float32 (AMX or AVX512-BF16)."""
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in _BFLOAT16)
    return any(supported is not None and supported() for supported in asked)
