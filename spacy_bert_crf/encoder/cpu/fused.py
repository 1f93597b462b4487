"""BERT's layer for prediction on CPUs, with fewer and larger matrix products."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Windows, attended, one_length, rows_read
from .linear import FUSED_ACTIVATIONS

#: Whether oneDNN's products with an activation inside of them are fast here.
HAS_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
#: Number of rows for which oneDNN lays out the weights. Other numbers work as well.
TYPICAL_ROWS = 1024
#: Layer classes that compute the same as BERT's, with the same attribute names.
_BERT_LAYERS = {
    "BertLayer", "CamembertLayer", "ElectraLayer", "ErnieLayer", "RobertaLayer", "XLMRobertaLayer",
}  # fmt: skip

#: Attention classes that transformers 4 has without torch's attention, for masks that it takes.
_PLAIN_ONLY = {"ElectraSelfAttention", "ErnieSelfAttention"}

#: Makes one module of linear layers that read the same input, and of the activation after them.
#: One without an activation has a method `add`, see PackedLinear.
Make = Callable[..., nn.Module]


class LayerParts(NamedTuple):
    """The modules of a layer that computes as BERT's does, whatever their names in transformers."""

    query: nn.Module
    key: nn.Module
    value: nn.Module
    n_heads: int
    attended: nn.Module
    attended_norm: nn.Module
    inner: nn.Module
    activation: Any
    outer: nn.Module
    norm: nn.Module

    @classmethod
    def of(cls, layer: Any) -> "LayerParts":
        """The parts of a layer for which can_fuse is true."""
        attention = layer.attention
        if _is_distilbert_block(layer):
            return cls(
                *(attention.q_lin, attention.k_lin, attention.v_lin, attention.n_heads),
                *(attention.out_lin, layer.sa_layer_norm),
                *(layer.ffn.lin1, layer.ffn.activation, layer.ffn.lin2, layer.output_layer_norm),
            )
        own, output = attention.self, attention.output
        return cls(
            *(own.query, own.key, own.value, own.num_attention_heads),
            *(output.dense, output.LayerNorm),
            *(layer.intermediate.dense, layer.intermediate.intermediate_act_fn),
            *(layer.output.dense, layer.output.LayerNorm),
        )


class FusedBertLayer(nn.Module):
    """A BERT layer (Devlin et al. 2019) with query, key and value as one product.

    The activation is part of the product before it.

    layer: a layer for which can_fuse is true.
    make: makes a product, see Make.
    apart: adds to the rows what inner channels that the products lack give. None if they have all.
    """

    attended: Any
    outer: Any

    def __init__(self, layer: Any, make: Make, apart: Optional[nn.Module] = None) -> None:
        super().__init__()
        parts = LayerParts.of(layer)
        self.returns_tuple = returns_tuple(layer)
        self.n_heads = parts.n_heads
        self.qkv = make([parts.query, parts.key, parts.value])
        self.attended = make([parts.attended])
        self.attended_norm = parts.attended_norm
        self.inner = make([parts.inner], parts.activation)
        self.outer = make([parts.outer])
        self.apart = apart
        self.norm = parts.norm

    def forward(
        self, hidden_states: Tensor, attention_mask: Optional[Tensor] = None, *args: Any, **kw: Any
    ) -> Union[Tensor, tuple[Tensor]]:
        """[W, L, width] to [W, L, width]. The original's other arguments are ignored.

        attention_mask: bool, True where a key is read, or float to be added to the scores.
            [W, 1, 1 or L, L]
        """
        n_windows, length, width = hidden_states.shape
        n = n_windows * length
        windows = [one_length((n_windows, length), attention_mask, hidden_states)]
        # shape: (size, width)
        rows = hidden_states.new_empty((round_size(rows_read(windows)), width))
        rows[:n] = hidden_states.reshape(-1, width)
        out = self.rows(rows, n, windows)[:n].view(n_windows, length, width)
        return (out,) if self.returns_tuple else out

    def rows(self, rows: Tensor, n: int, windows: Sequence[Windows]) -> Tensor:
        """The layer's output for rows that stand one after the other. [size, width]

        rows: the input, which changes. It has at least as many rows as `rows_read` says; those
            behind the windows may hold anything. [size, width]
        n: number of rows of the windows.
        windows: the windows.
        """
        # Rows behind the windows are zero before each product, so that they do not widen the range
        # of 8-bit inputs.
        rows[n:] = 0
        joined = attended(self.qkv(rows), n, windows, self.n_heads)
        rows = self.attended_norm(self.attended.add(joined, rows))
        rows[n:] = 0
        # shape: (size, inner width)
        inner = self.inner(rows)
        if isinstance(inner, Tensor):
            inner[n:] = 0
        rows = rows if self.apart is None else self.apart(rows)
        out: Tensor = self.norm(self.outer.add(inner, rows))
        return out


def round_size(n_rows: int) -> int:
    """The number of rows to which a product's rows are padded.

    oneDNN caches code for up to 1,024 sizes, half a megabyte each. Rounding leaves a few dozen.
    """
    step = 8 if n_rows <= 128 else 16 if n_rows <= 1024 else 64
    return -(-n_rows // step) * step


def can_fuse(layer: Any) -> bool:
    """Whether a FusedBertLayer can replace this module."""
    return is_bert_layer(layer) or (_is_distilbert_block(layer) and _has_sdpa(layer.attention))


def is_bert_layer(layer: Any) -> bool:
    """Whether a module is a BERT layer, also by its attribute names, with torch's attention.

    Where transformers has no other attention for it, the plain one counts as that.
    """
    # Other layers may have been chosen for what only they return, or for their masks.
    return computes_as_bert(layer) and _has_sdpa(layer.attention.self)


def _is_distilbert_block(layer: Any) -> bool:
    """Whether a module is DistilBERT's layer (Sanh et al. 2019): BERT's, with other names."""
    kind = type(layer)
    return (
        kind.__name__ == "TransformerBlock"
        and kind.__module__.endswith("modeling_distilbert")
        and layer.ffn.chunk_size_feed_forward == 0
    )


def _has_sdpa(attention: Any) -> bool:
    """Whether an attention module computes by torch's scaled_dot_product_attention, or could."""
    kind = type(attention).__name__
    if kind.endswith("SdpaSelfAttention"):
        return True
    # In later versions, one class looks up its function by the config.
    if (config := getattr(attention, "config", None)) is None:
        return kind in _PLAIN_ONLY
    return getattr(config, "_attn_implementation", None) == "sdpa"


@torch.no_grad()
def returns_tuple(layer: Any) -> bool:
    """Whether a BERT layer returns its states in a tuple, as before transformers 5."""
    weight: Any = LayerParts.of(layer).norm.weight
    # shape: (1, 1, width)
    return isinstance(layer(weight.new_zeros(1, 1, len(weight))), tuple)


def computes_as_bert(layer: Any) -> bool:
    """Whether a module computes the same as BERT's layer, with the same attribute names."""
    if type(layer).__name__ not in _BERT_LAYERS or getattr(layer, "is_decoder", False):
        return False
    attention = layer.attention.self
    return (
        getattr(attention, "position_embedding_type", "absolute") == "absolute"
        and getattr(layer, "chunk_size_feed_forward", 0) == 0
    )


def joined(linears: list[nn.Linear]) -> tuple[Tensor, Tensor]:
    """Weight [sum of n_i, width] and bias [sum of n_i] of linear layers as one. float32, detached

    linears: layers [width, n_i] that read the same input. Their outputs are concatenated.
    """
    weight = torch.cat([linear.weight.detach() for linear in linears]).float()
    biases = [
        weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias.detach()
        for linear in linears
    ]
    return weight, torch.cat(biases).float()


class PackedLinear(nn.Module):
    """Linear layers that read the same input, as one product.

    linears: layers [width, n_i]. Their outputs are concatenated.
    activation: name of the activation of the outputs, a key of FUSED_ACTIVATIONS, or "".
    """

    def __init__(self, linears: list[nn.Linear], activation: str = "") -> None:
        super().__init__()
        weight, self.bias = joined(linears)
        self.post = FUSED_ACTIVATIONS[activation] if activation else ("none", "")
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., width] to [..., sum of n_i]"""
        name, algorithm = self.post
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self.packed, self.bias, name, [], algorithm
        )
        return out

    def add(self, rows: Tensor, to: Tensor) -> Tensor:
        """The outputs plus `to`, which may change. [..., width] and [..., n] to [..., n]"""
        return self(rows).add_(to)


class JoinedLinear(nn.Module):
    """PackedLinear for CPUs without AVX-512: torch's own product, and the activation after it.

    oneDNN's activations inside of a product take several times as long there as those after it.

    linears: layers [width, n_i]. Their outputs are concatenated.
    activation: the module of the activation of the outputs, or None.
    """

    def __init__(self, linears: list[nn.Linear], activation: Any = None) -> None:
        super().__init__()
        # A single layer is used as it is, so that its weights are not copied.
        weight: Tensor = linears[0].weight
        bias: Optional[Tensor] = linears[0].bias
        if len(linears) > 1:
            weight, bias = joined(linears)
        self.weight, self.bias = weight, bias
        self.activation = activation

    def forward(self, rows: Tensor) -> Tensor:
        """[..., width] to [..., sum of n_i]"""
        out = F.linear(rows, self.weight, self.bias)
        return out if self.activation is None else self.activation(out)

    def add(self, rows: Tensor, to: Tensor) -> Tensor:
        """The outputs plus `to`, which may change. [..., width] and [..., n] to [..., n]"""
        return self(rows).add_(to)


@torch.no_grad()
def packed_encoder(model: Any) -> Any:
    """A faster copy of a Hugging Face encoder with the same results, except for rounding.

    model: on the CPU, in evaluation mode. Weights outside the BERT layers are shared.
    RETURNS: the copy, or the model itself if it has no BERT layers or torch has no oneDNN. The
        layers hold copies of the weights, so make a new one when those change (`weights_stamp`).
    """
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or not any(map(can_fuse, model.modules())):
        return model
    shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, shared)

    def make(linears: list[nn.Linear], activation: Any = None) -> nn.Module:
        if not HAS_AVX512:
            return JoinedLinear(linears, activation)
        name = "" if activation is None else activation_name(model.config)
        if activation is None or name in FUSED_ACTIVATIONS:
            return PackedLinear(linears, name)
        return nn.Sequential(PackedLinear(linears), activation)

    for name, module in list(copied.named_modules()):
        if can_fuse(module):
            try:
                copied.set_submodule(name, FusedBertLayer(module, make))
            except (RuntimeError, AttributeError, NotImplementedError):
                return model  # This torch has no such kernels.
    return copied


def activation_name(config: Any) -> str:
    """The name of the activation in a config of transformers; DistilBERT's has a key of its own."""
    return str(getattr(config, "hidden_act", None) or getattr(config, "activation", ""))


def weights_stamp(model: nn.Module) -> int:
    """A number that changes when a weight is changed in place or replaced."""
    # Each prediction asks for it. `parameters()` takes several times as long, since it makes names.
    found: list[int] = []
    modules: list[Optional[nn.Module]] = [model]
    while modules:
        if (module := modules.pop()) is not None:
            modules += module._modules.values()
            for param in module._parameters.values():
                if param is not None:
                    found += (param.data_ptr(), param._version)
    return hash(tuple(found))
