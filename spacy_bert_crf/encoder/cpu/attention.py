"""Attention of the windows of a pass on CPUs, in lengths that torch's kernel is fast at.

The kernel computes the last few keys of a row one by one. A window of 47 wordpieces takes nearly
twice as long as one of 48. So a window reads some rows of the next window too, and a mask
hides them. Nothing is copied for that.
"""

from collections.abc import Sequence
from typing import NamedTuple, Optional

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


class Windows(NamedTuple):
    """Windows that stand one after the other and are attended together, W of them.

    first: row of the first one.
    number: W.
    length: their length. The last one may be shorter.
    mask: what is added to the scores, or bool, True where a key is read. None hides nothing.
        [W or 1, 1, 1 or read, read], where read is read_length(length)
    """

    first: int
    number: int
    length: int
    mask: Optional[Tensor]


def windows_of(lengths: Sequence[int]) -> list[Windows]:
    """Windows that stand one after the other without padding, in groups of one length.

    Of those of another length, the first one after a group can belong to it if it is shorter, since
    only the beginnings must be equally far from each other.

    lengths: length of each window.
    """
    groups, at, row = [], 0, 0
    while at < len(lengths):
        begin, length = at, lengths[at]
        while at < len(lengths) and lengths[at] == length:
            at += 1
        read, own = read_length(length), lengths[begin:at]
        if at < len(lengths) and length - _VECTOR < lengths[at] < length:
            own = lengths[begin : at + 1]
            at += 1
        mask = None
        if read > own[-1]:
            n_masks = 1 if own[-1] == length else len(own)
            mask = torch.zeros(n_masks, 1, 1, read, dtype=torch.float32, device="cpu")
            mask[..., length:] = -torch.inf
            mask[-1, ..., own[-1] :] = -torch.inf
        groups.append(Windows(row, len(own), length, mask))
        row += sum(own)
    return groups


def one_length(shape: tuple[int, int], mask: Optional[Tensor], rows: Tensor) -> Windows:
    """Windows that are padded to one length.

    shape: number of windows W and their length L.
    mask: bool, True where a key is read, or float to be added to the scores. [W, 1, 1 or L, L]
    rows: a tensor of the dtype and device of the scores.
    """
    n_windows, length = shape
    return Windows(0, n_windows, length, _wider(mask, length, read_length(length), rows))


def rows_read(windows: Sequence[Windows]) -> int:
    """The number of rows that must exist to attend windows."""
    return max(
        own.first + (own.number - 1) * own.length + read_length(own.length) for own in windows
    )


def attended(qkv: Tensor, n_rows: int, windows: Sequence[Windows], n_heads: int) -> Tensor:
    """The rows that attention gives. [size, width], zero behind the windows

    qkv: rows of query, key and value, window after window. They are finite, and at least as many
        as rows_read says. [size, 3 * width]
    n_rows: number of rows of all windows.
    windows: the windows, in the order of their rows.
    n_heads: number of heads.
    """
    size, width = len(qkv), qkv.shape[1] // 3
    head, first = width // n_heads, qkv.storage_offset()
    out = qkv.new_empty((size, n_heads, head))
    for own in windows:
        read = read_length(own.length)
        # Overlapping windows. shape: (3, W, heads, read, width of a head)
        sizes = (3, own.number, n_heads, read, head)
        strides = (width, own.length * 3 * width, head, 3 * width, 1)
        query, key, value = qkv.as_strided(sizes, strides, first + own.first * 3 * width)
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=own.mask)
        # The rows that a shorter last window does not have are written over by those after it.
        place = out[own.first : own.first + own.number * own.length]
        place = place.view(own.number, own.length, n_heads, head)
        place.copy_(context[:, :, : own.length].transpose(1, 2))
    out[n_rows:] = 0
    return out.view(size, width)


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
