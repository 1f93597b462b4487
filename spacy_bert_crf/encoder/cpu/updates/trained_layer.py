"""BERT's layer for training on CPUs: one step of autograd, with its backpropagation written out.

torch's own way casts each weight and each input of mixed precision again and again. It keeps more
for backpropagation, and its attention is slow there.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..linear import FUSED_ACTIVATIONS, product
from .dropout import Rate, drop

_aten = torch.ops.aten


class Settings(NamedTuple):
    """What a layer is besides its weights.

    n_heads: number of attention heads.
    activation: a key of FUSED_ACTIVATIONS.
    eps: term of the two normalisations against division by 0.
    attention_rate: dropout rate of the attention probabilities.
    rates: dropout rate of the attention's output, and of the feed-forward network's.
    dtype: dtype of the products, except for the attention's scores.
    """

    n_heads: int
    activation: str
    eps: tuple[float, float]
    attention_rate: float
    rates: tuple[float, ...]
    dtype: torch.dtype


class Products:
    """The weights and biases of a layer's products in the dtype of the products.

    weights: those of query, key, value [width, width], the attention's output [width, width], the
        inner layer [inner, width] and the outer one [width, inner].
    biases: their biases.
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor], dtype: torch.dtype) -> None:
        self.stamp = stamp([*weights, *biases], dtype)
        # shape: (3 * width, width)
        self.qkv = _joined(weights[:3], dtype)
        # shape: (3 * width)
        self.qkv_bias = _joined(biases[:3], dtype)
        self.attended, self.inner, self.outer = (w.detach().to(dtype) for w in weights[3:])
        self.attended_bias, self.inner_bias, self.outer_bias = (
            b.detach().to(dtype) for b in biases[3:]
        )


def stamp(params: list[Tensor], dtype: torch.dtype) -> tuple[Any, ...]:
    """What differs when a parameter has changed."""
    return dtype, *((p.data_ptr(), p._version) for p in params)


def _joined(parts: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Tensors concatenated, in another dtype."""
    n = len(parts[0])
    out = parts[0].new_empty((n * len(parts), *parts[0].shape[1:]), dtype=dtype)
    for i, part in enumerate(parts):
        out[i * n : (i + 1) * n].copy_(part.detach())
    return out


class TrainedBertLayer(torch.autograd.Function):
    """A BERT layer (Devlin et al. 2019) in training. See Settings.

    W is the number of windows, L their length, N = W * L, h the number of heads.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        mask: Optional[Tensor],
        settings: Settings,
        products: Products,
        *params: Tensor,
    ) -> Tensor:
        """[W, L, width] to [W, L, width]

        params: the weights and the biases that `products` was made of, then weight and bias of the
            two normalisations.
        """
        n_windows, length, width = states.shape
        dtype, heads = settings.dtype, settings.n_heads
        sizes = (n_windows, length, heads)
        norm_1, norm_2 = params[12:14], params[14:16]
        rows = states.detach().reshape(-1, width)
        # shape: (N, width)
        in_rows = rows.to(dtype)
        qkv = product(in_rows, products.qkv, products.qkv_bias)
        # shape: (3, W * h, L, width of a head)
        qkv = _per_head(qkv, sizes, 3)
        # Scores and their softmax are exact in mixed precision too, as torch's are.
        query, key = qkv[:2].to(rows.dtype)
        # shape: (W * h, L, L)
        scores = _bmm(query, key.transpose(1, 2), query.shape[-1] ** -0.5)
        if mask is not None:
            scores.view(n_windows, heads, length, length).add_(mask)
        probs = scores.softmax(-1).to(dtype)
        attention_rate, rates = Rate(settings.attention_rate), tuple(map(Rate, settings.rates))
        dropped, keep = _dropped(probs, attention_rate)
        context = _bmm(dropped, qkv[2], attention_rate.scale)
        # shape: (N, width)
        context = _per_row(context[None], sizes)
        attended = product(context, products.attended, products.attended_bias)
        attended, keep_1 = _dropped(attended, rates[0])
        sum_1 = torch.add(rows, attended, alpha=rates[0].scale)
        middle, *stats_1 = _norm(sum_1, norm_1, settings.eps[0])
        in_middle = middle.to(dtype)
        # shape: (N, inner width)
        inner = product(in_middle, products.inner, products.inner_bias)
        activated = _activate(inner, settings.activation)
        out = product(activated, products.outer, products.outer_bias)
        out, keep_2 = _dropped(out, rates[1])
        sum_2 = torch.add(middle, out, alpha=rates[1].scale)
        out, *stats_2 = _norm(sum_2, norm_2, settings.eps[1])
        ctx.save_for_backward(
            in_rows, qkv, probs, keep, context, keep_1, sum_1, *stats_1, in_middle, inner,
            activated, keep_2, sum_2, *stats_2, *norm_1, *norm_2,
        )  # fmt: skip
        ctx.settings, ctx.products = settings, products
        ctx.scales = (attention_rate.scale, rates[0].scale, rates[1].scale)
        return out.view(states.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """The gradients of the states and of the parameters."""
        (
            in_rows, qkv, probs, keep, context, keep_1, sum_1, mean_1, rstd_1, in_middle, inner,
            activated, keep_2, sum_2, mean_2, rstd_2, *norms,
        ) = ctx.saved_tensors  # fmt: skip
        settings, products = ctx.settings, ctx.products
        n_windows, length, width = grad.shape
        sizes = (n_windows, length, settings.n_heads)
        dtype, scales = settings.dtype, ctx.scales
        norm_1, norm_2 = norms[:2], norms[2:]
        # shape: (N, width)
        d_rows, *d_norm_2 = _norm_backward(grad.reshape(-1, width), sum_2, mean_2, rstd_2, norm_2)
        d_out = _dropped_grad(d_rows, keep_2, scales[2], dtype)
        d_outer = torch.mm(d_out.t(), activated)
        # shape: (N, inner width)
        d_inner = torch.mm(d_out, products.outer)
        d_inner = _activate_backward(d_inner, inner, settings.activation)
        d_inner_weight = torch.mm(d_inner.t(), in_middle)
        # shape: (N, width)
        d_rows = torch.add(d_rows, torch.mm(d_inner, products.inner))
        d_rows, *d_norm_1 = _norm_backward(d_rows, sum_1, mean_1, rstd_1, norm_1)
        d_attended = _dropped_grad(d_rows, keep_1, scales[1], dtype)
        d_attended_weight = torch.mm(d_attended.t(), context)
        d_context = torch.mm(d_attended, products.attended)
        d_qkv = _attention_backward(d_context, qkv, probs, keep, scales[0], sizes)
        d_qkv_weight = torch.mm(d_qkv.t(), in_rows)
        if ctx.needs_input_grad[0]:
            d_rows = torch.add(d_rows, torch.mm(d_qkv, products.qkv)).view(grad.shape)
        else:
            d_rows = None
        full = grad.dtype
        weights = [
            *d_qkv_weight.to(full).chunk(3),
            d_attended_weight.to(full), d_inner_weight.to(full), d_outer.to(full),
        ]  # fmt: skip
        biases = [
            *d_qkv.sum(0).to(full).chunk(3),
            d_attended.sum(0).to(full), d_inner.sum(0).to(full), d_out.sum(0).to(full),
        ]  # fmt: skip
        return d_rows, None, None, None, *weights, *biases, *d_norm_1, *d_norm_2


def _bmm(left: Tensor, right: Tensor, factor: float) -> Tensor:
    """Products of matrices, times a factor."""
    unused = left.new_empty(1, 1, 1)
    return torch.baddbmm(unused, left, right, beta=0, alpha=factor)


def _per_head(rows: Tensor, sizes: tuple[int, int, int], n_parts: int) -> Tensor:
    """[N, n_parts * width] to [n_parts, W * h, L, width of a head]. sizes: W, L, h"""
    n_windows, length, heads = sizes
    parts = rows.view(n_windows, length, n_parts, heads, -1).permute(2, 0, 3, 1, 4)
    return parts.reshape(n_parts, n_windows * heads, length, -1)


def _per_row(parts: Tensor, sizes: tuple[int, int, int]) -> Tensor:
    """[n_parts, W * h, L, width of a head] to [N, n_parts * width]. sizes: W, L, h"""
    n_windows, length, heads = sizes
    split = parts.view(len(parts), n_windows, heads, length, -1)
    return split.permute(1, 3, 0, 2, 4).reshape(n_windows * length, -1)


def _norm(rows: Tensor, norm: Sequence[Tensor], eps: float) -> Any:
    """Normalised rows, and the means and reciprocal standard deviations before."""
    weight, bias = norm
    return torch.native_layer_norm(rows, list(weight.shape), weight, bias, eps)


def _norm_backward(
    grad: Tensor, rows: Tensor, mean: Tensor, rstd: Tensor, norm: Sequence[Tensor]
) -> Any:
    """The gradients of a normalisation: of its input, weight and bias."""
    weight, bias = norm
    all_three = [True, True, True]
    return _aten.native_layer_norm_backward(
        grad, rows, list(weight.shape), mean, rstd, weight, bias, all_three
    )


def _dropped(values: Tensor, rate: Rate) -> tuple[Tensor, Optional[Tensor]]:
    """Values with those that are dropped as 0, not scaled, and the mask. None if all are kept."""
    if not rate.rate:
        return values, None
    keep = rate.keep(values.numel())
    return drop(values, keep), keep


def _dropped_grad(grad: Tensor, keep: Optional[Tensor], scale: float, dtype: torch.dtype) -> Tensor:
    """The gradient of what a dropout took, in the dtype of products."""
    if keep is None:
        return grad.to(dtype)
    return drop((grad * scale).to(dtype), keep)


def _attention_backward(
    d_context: Tensor,
    qkv: Tensor,
    probs: Tensor,
    keep: Optional[Tensor],
    scale: float,
    sizes: tuple[int, int, int],
) -> Tensor:
    """The gradient of query, key and value. [N, 3 * width]"""
    query, key, value = qkv
    factor = query.shape[-1] ** -0.5
    # shape: (W * h, L, width of a head)
    (d_context,) = _per_head(d_context, sizes, 1)
    # shape: (W * h, L, L)
    dropped = probs if keep is None else drop(probs, keep)
    d_probs = _bmm(d_context, value.transpose(1, 2), scale)
    if keep is not None:
        d_probs = drop(d_probs, keep)
    d_scores = _aten._softmax_backward_data(d_probs, probs, -1, probs.dtype)
    d_qkv = torch.empty_like(qkv)
    for out, left, right, times in (
        (d_qkv[0], d_scores, key, factor),
        (d_qkv[1], d_scores.transpose(1, 2), query, factor),
        (d_qkv[2], dropped.transpose(1, 2), d_context, scale),
    ):
        torch.baddbmm(out, left, right, beta=0, alpha=times, out=out)
    return _per_row(d_qkv, sizes)


def _activate(inner: Tensor, name: str) -> Tensor:
    kind, algorithm = FUSED_ACTIVATIONS[name]
    return inner.relu() if kind == "relu" else F.gelu(inner, approximate=algorithm)


def _activate_backward(grad: Tensor, inner: Tensor, name: str) -> Tensor:
    kind, algorithm = FUSED_ACTIVATIONS[name]
    if kind == "relu":
        return _aten.threshold_backward(grad, inner, 0)  # type: ignore[no-any-return]
    return _aten.gelu_backward(grad, inner, approximate=algorithm)  # type: ignore[no-any-return]
