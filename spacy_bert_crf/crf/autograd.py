"""Log Z and the score of a tag path as torch.autograd functions with explicit gradients."""

from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .forward_backward import Weights, scan, wide_dtype


class LogPartition(torch.autograd.Function):
    """Log Z of each sequence [B]. Its gradient is the marginals of forward-backward.

    apply(emissions, start, end, transitions, mask, allowed, needs_grad)
    """

    @staticmethod
    def forward(
        ctx: Any,
        emissions: Tensor,
        start: Tensor,
        end: Tensor,
        transitions: Tensor,
        mask: Tensor,
        allowed: Optional[Tensor],
        needs_grad: bool,
    ) -> Tensor:
        done = scan(emissions, Weights(start, end, transitions), mask, allowed, needs_grad)
        # None of these is an input or an output, so save_for_backward is not needed.
        ctx.scan, ctx.allowed, ctx.dtypes = done, allowed, (emissions.dtype, transitions.dtype)
        return done.log_z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:  # type: ignore[override]
        unary, pairs = ctx.scan.gradient(grad)
        dtype, weights_dtype = ctx.dtypes
        d_start = unary[0].sum(0).to(weights_dtype)
        d_end = ctx.scan.order.last_step(unary).sum(0).to(weights_dtype)
        # shape: (B, T, K)
        d_emissions = unary.transpose(0, 1).to(dtype, memory_format=torch.contiguous_format)
        if ctx.allowed is not None:  # excluded scores have no gradient
            d_emissions = d_emissions.masked_fill_(~ctx.allowed, 0.0)
        return d_emissions, d_start, d_end, pairs.to(weights_dtype), None, None, None


class PathScore(torch.autograd.Function):
    """Score of one tag path per sequence [B]. It is a gather, and its gradient is a count.

    apply(emissions, start, end, transitions, mask, tags). Tags of padding are ignored.
    """

    @staticmethod
    def forward(
        ctx: Any,
        emissions: Tensor,
        start: Tensor,
        end: Tensor,
        transitions: Tensor,
        mask: Tensor,
        tags: Tensor,
    ) -> Tensor:
        n_tags, wide = len(start), wide_dtype(emissions.device)
        # shape: (B,)
        last = tags.gather(1, mask.sum(1, keepdim=True) - 1).squeeze(1)
        # shape: (B, T)
        unary = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        # shape: (B, T - 1)
        pair_ids = tags[:, :-1] * n_tags + tags[:, 1:]
        pairs = transitions.reshape(-1)[pair_ids]
        ctx.save_for_backward(mask, tags, pair_ids, last)
        ctx.dtypes, ctx.n_tags = (emissions.dtype, transitions.dtype), n_tags
        score = unary.masked_fill(~mask, 0.0).sum(1, dtype=wide)
        score += pairs.masked_fill(~mask[:, 1:], 0.0).sum(1, dtype=wide)
        return score + start[tags[:, 0]] + end[last]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:  # type: ignore[override]
        mask, tags, pair_ids, last = ctx.saved_tensors
        dtype, weights_dtype = ctx.dtypes
        n_tags = ctx.n_tags
        # shape: (B, T)
        weight = (grad.unsqueeze(1) * mask).to(weights_dtype)
        zeros = weight.new_zeros
        # shape: (B, T, K)
        d_emissions = zeros((*mask.shape, n_tags), dtype=dtype)
        d_emissions.scatter_(2, tags.unsqueeze(2), weight.to(dtype).unsqueeze(2))
        d_start = zeros(n_tags).index_add_(0, tags[:, 0], weight[:, 0])
        d_end = zeros(n_tags).index_add_(0, last, weight[:, 0])
        # shape: (K * K,)
        d_pairs = zeros(n_tags * n_tags)
        d_pairs.index_add_(0, pair_ids.flatten(), weight[:, 1:].flatten())
        return d_emissions, d_start, d_end, d_pairs.view(n_tags, n_tags), None, None
