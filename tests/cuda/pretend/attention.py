"""The fused attention kernels of CUDA: one launch forward, three for their backpropagation."""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import _disable_current_modes

from .log import LOG
from .operations import mixed_devices
from .tensors import PretendTensor

_BACKWARD_KERNELS = 3
#: What FlashAttention computes in, and the largest head it takes.
_FLASH_DTYPES = (torch.float16, torch.bfloat16)
_FLASH_HEAD = 256


class _Attention(torch.autograd.Function):
    """softmax(q k^T) v for padded sequences. q, k, v: [B, heads, T, D]"""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, mask: Any, scale: Optional[float]) -> Any:
        ctx.save_for_backward(q, k, v, mask)
        ctx.scale = scale
        LOG.launch("scaled_dot_product_attention")
        others = [x for x in (k, v, mask) if x is not None and not isinstance(x, PretendTensor)]
        if others:
            raise mixed_devices("scaled_dot_product_attention", others)
        with torch.no_grad():
            return PretendTensor(_compute([q.inner, k.inner, v.inner], mask, scale))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        *inputs, mask = ctx.saved_tensors
        LOG.launch("scaled_dot_product_attention_backward", _BACKWARD_KERNELS)
        inner = [x.inner.detach().clone().requires_grad_() for x in inputs]
        with torch.enable_grad():
            out = _compute(inner, mask, ctx.scale)
            found = torch.autograd.grad(out, inner, grad.inner)
        return (*(PretendTensor(g) for g in found), None, None)


def _compute(inner: list[torch.Tensor], mask: Any, scale: Optional[float]) -> torch.Tensor:
    own_mask = None if mask is None else mask.inner
    return F.scaled_dot_product_attention(*inner, own_mask, 0.0, scale=scale)


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: Optional[torch.Tensor] = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Optional[float] = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """torch's function on the device. Dropout is left out: its random numbers would differ."""
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = (x.to(dtype) for x in (query, key, value))
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = attn_mask.to(dtype)
    return _Attention.apply(query, key, value, attn_mask, scale)  # type: ignore[no-any-return]


class _UnpaddedAttention(torch.autograd.Function):
    """The same for sequences one after another. q, k, v: [tokens, heads, D]"""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, starts: Any, scale: Optional[float]) -> Any:
        ctx.save_for_backward(q, k, v)
        ctx.starts, ctx.scale = starts, scale
        LOG.launch("varlen_attn")
        with torch.no_grad(), _disable_current_modes():
            return PretendTensor(_by_sequence([x.inner for x in (q, k, v)], starts, scale))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        LOG.launch("varlen_attn_backward", _BACKWARD_KERNELS)
        with torch.enable_grad(), _disable_current_modes():
            inner = [x.inner.detach().clone().requires_grad_() for x in ctx.saved_tensors]
            out = _by_sequence(inner, ctx.starts, ctx.scale)
            found = torch.autograd.grad(out, inner, grad.inner)
        return (*(PretendTensor(g) for g in found), None, None)


def _by_sequence(
    inner: list[torch.Tensor], starts: list[int], scale: Optional[float]
) -> torch.Tensor:
    """Attention within each sequence, summed in float32 as the kernels do. [tokens, heads, D]"""
    parts = []
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        q, k, v = (x[start:end].transpose(0, 1).float() for x in inner)
        parts.append(F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(0, 1))
    return torch.cat(parts).to(inner[0].dtype)


def varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: Optional[torch.Tensor],
    max_q: int,
    max_k: int,
    *,
    scale: Optional[float] = None,
    window_size: tuple[int, int] = (-1, -1),
    num_splits: Optional[int] = None,
    **others: Any,
) -> torch.Tensor:
    """`torch.nn.attention.varlen.varlen_attn` for self-attention without a window.

    Raises RuntimeError for what FlashAttention refuses: other dtypes than bfloat16 and float16,
    heads over 256 or not a multiple of 8, borders that are no int32 or do not fit the tokens.
    """
    tensors = [query, key, value, cu_seq_q, *([] if cu_seq_k is None else [cu_seq_k])]
    if loose := [x for x in tensors if not isinstance(x, PretendTensor)]:
        raise mixed_devices("varlen_attn", loose)
    if others or tuple(window_size) != (-1, -1):
        raise NotImplementedError(f"varlen_attn on the pretend device: window or {sorted(others)}")
    if query.dtype not in _FLASH_DTYPES or {key.dtype, value.dtype} != {query.dtype}:
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    if query.shape[-1] % 8 or query.shape[-1] > _FLASH_HEAD:
        raise RuntimeError("FlashAttention: head dimensions up to 256 that are multiples of 8")
    if any(x.dtype != torch.int32 for x in tensors[3:]):
        raise RuntimeError("cu_seqlens must have dtype int32")
    starts, *same = [x.inner.tolist() for x in tensors[3:]]  # type: ignore[attr-defined]
    if same not in ([], [starts]):
        raise NotImplementedError("varlen_attn on the pretend device: self-attention only")
    lengths = [end - start for start, end in zip(starts[:-1], starts[1:], strict=True)]
    if starts[0] or starts[-1] != len(query) or max(lengths) > max_q or min(lengths) < 0:
        raise RuntimeError(f"cu_seq_q {starts[:3]}...{starts[-1:]} or max_q {max_q} do not fit")
    return _UnpaddedAttention.apply(query, key, value, starts, scale)  # type: ignore[no-any-return]
