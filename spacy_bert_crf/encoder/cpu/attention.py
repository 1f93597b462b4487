"""Attention of the windows of a pass on CPUs, in lengths that torch's kernel is fast at.

The kernel computes the last few keys of a row one by one. A window of 47 wordpieces takes nearly
twice as long as one of 48. So a window reads some rows of the next window too, and a mask
hides them. Nothing is copied for that.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

#: Number of float32 values that the kernel computes at once.
_VECTOR = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
#: Up to this many last keys are faster one by one.
_FEW = _VECTOR // 4


def read_length(length: int) -> int:
    """The number of rows that a window of this length reads, its own and some of the next."""
    rest = length % _VECTOR
    return length if rest <= _FEW else length - rest + _VECTOR


def attended(
    qkv: Tensor, shape: tuple[int, int], n_heads: int, mask: Optional[Tensor] = None
) -> Tensor:
    """The rows that attention gives. [size, width], zero behind the windows

    qkv: rows of query, key and value, window after window. They are finite, and at least
        W * L + read_length(L) - L. [size, 3 * width]
    shape: number of windows W and their length L.
    n_heads: number of heads.
    mask: bool, True where a key is read, or float to be added to the scores.
        [W, 1, 1 or L, L]
    """
    n_windows, length = shape
    size, width = len(qkv), qkv.shape[1] // 3
    read = read_length(length)
    # Overlapping windows. shape: (W, heads, read, width of a head)
    sizes = (n_windows, n_heads, read, width // n_heads)
    strides = (length * 3 * width, width // n_heads, 3 * width, 1)
    first = qkv.storage_offset()
    query, key, value = (qkv.as_strided(sizes, strides, first + i * width) for i in range(3))
    context = F.scaled_dot_product_attention(
        query, key, value, attn_mask=_wider(mask, length, read, qkv)
    )
    out = qkv.new_empty((size, width))
    n = n_windows * length
    windows = out[:n].view(n_windows, length, n_heads, -1)
    windows.copy_(context[:, :, :length].transpose(1, 2))
    out[n:] = 0
    return out


def _wider(mask: Optional[Tensor], length: int, read: int, rows: Tensor) -> Optional[Tensor]:
    """A mask that hides the keys from `length` to `read`. [W or 1, 1, 1 or read, read]"""
    if read == length:
        return mask
    if mask is None:
        wide = rows.new_zeros(1, 1, 1, read)
        wide[..., length:] = -torch.inf
        return wide
    hidden = False if mask.dtype == torch.bool else -torch.inf
    # Rows beyond the window are not used, but must not be all hidden.
    n_rows = 1 if mask.shape[2] == 1 or _is_of_keys(mask) else read
    wide = mask.new_full((mask.shape[0], 1, n_rows, read), hidden)
    if n_rows == 1:
        wide[..., :length] = mask[:, :, :1]
    else:
        wide[:, :, :length, :length] = mask
        wide[:, :, length:, :length] = mask[:, :, :1]
    return wide


def _is_of_keys(mask: Tensor) -> bool:
    """Whether a mask is expanded from one row: all queries read the same keys."""
    return mask.stride(2) == 0
