"""BERT's layer for prediction on CPUs, with fewer and larger matrix products."""

import copy
from collections.abc import Callable
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn

from .attention import attended, read_length
from .linear import FUSED_ACTIVATIONS

#: Number of rows for which oneDNN lays out the weights. Other numbers work as well.
TYPICAL_ROWS = 1024
#: Layer classes that compute the same as BERT's, with the same attribute names.
_BERT_LAYERS = {
    "BertLayer", "CamembertLayer", "ElectraLayer", "ErnieLayer", "RobertaLayer", "XLMRobertaLayer",
}  # fmt: skip

#: Makes one module of linear layers that read the same input, and of the activation after them.
#: One without an activation has a method `add`, see PackedLinear.
Make = Callable[..., nn.Module]


class FusedBertLayer(nn.Module):
    """A BERT layer (Devlin et al. 2019) with query, key and value as one product.

    The activation is part of the product before it.

    layer: a layer for which is_bert_layer is true.
    make: makes a product, see Make.
    """

    attended: Any
    outer: Any

    def __init__(self, layer: Any, make: Make) -> None:
        super().__init__()
        attention = layer.attention.self
        self.returns_tuple = returns_tuple(layer)
        self.n_heads = attention.num_attention_heads
        self.qkv = make([attention.query, attention.key, attention.value])
        self.attended = make([layer.attention.output.dense])
        self.attended_norm = layer.attention.output.LayerNorm
        self.inner = make([layer.intermediate.dense], layer.intermediate.intermediate_act_fn)
        self.outer = make([layer.output.dense])
        self.norm = layer.output.LayerNorm

    def forward(
        self, hidden_states: Tensor, attention_mask: Optional[Tensor] = None, *args: Any, **kw: Any
    ) -> Union[Tensor, tuple[Tensor]]:
        """[W, L, width] to [W, L, width]. The original's other arguments are ignored.

        attention_mask: bool, True where a key is read, or float to be added to the scores.
            [W, 1, 1 or L, L]
        """
        n_windows, length, width = hidden_states.shape
        n = n_windows * length
        size = round_size(n + read_length(length) - length)
        # Rows of padding are zero before each product, so that they do not widen the range of 8-bit
        # inputs.
        # shape: (size, width)
        rows = hidden_states.new_empty((size, width))
        rows[:n] = hidden_states.reshape(-1, width)
        rows[n:] = 0
        joined = attended(self.qkv(rows), (n_windows, length), self.n_heads, attention_mask)
        rows = self.attended_norm(self.attended.add(joined, rows))
        rows[n:] = 0
        # shape: (size, inner width)
        inner = self.inner(rows)
        if isinstance(inner, Tensor):
            inner[n:] = 0
        rows = self.norm(self.outer.add(inner, rows))
        out = rows[:n].view(n_windows, length, width)
        return (out,) if self.returns_tuple else out


def round_size(n_rows: int) -> int:
    """The number of rows to which a product's rows are padded.

    oneDNN caches code for up to 1,024 sizes, half a megabyte each. Rounding leaves a few dozen.
    """
    step = 8 if n_rows <= 128 else 16 if n_rows <= 1024 else 64
    return -(-n_rows // step) * step


def is_bert_layer(layer: Any) -> bool:
    """Whether a FusedBertLayer can replace this module."""
    # Only layers with torch's attention get a mask that the attention here takes.
    return computes_as_bert(layer) and _has_sdpa(layer.attention.self)


def _has_sdpa(attention: Any) -> bool:
    """Whether an attention module computes by torch's scaled_dot_product_attention."""
    if type(attention).__name__.endswith("SdpaSelfAttention"):
        return True
    # From transformers 5 on, one class looks up its function by the config.
    config = getattr(attention, "config", None)
    return getattr(config, "_attn_implementation", None) == "sdpa"


@torch.no_grad()
def returns_tuple(layer: Any) -> bool:
    """Whether a BERT layer returns its states in a tuple, as before transformers 5."""
    weight = layer.output.LayerNorm.weight
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


@torch.no_grad()
def packed_encoder(model: Any) -> Any:
    """A faster copy of a Hugging Face encoder with the same results, except for rounding.

    model: on the CPU, in evaluation mode. Weights outside the BERT layers are shared.
    RETURNS: the copy, or the model itself if it has no BERT layers or torch has no oneDNN. The
        layers hold copies of the weights, so make a new one when those change (`weights_stamp`).
    """
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or not any(map(is_bert_layer, model.modules())):
        return model
    shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, shared)

    def make(linears: list[nn.Linear], activation: Any = None) -> nn.Module:
        name = "" if activation is None else str(model.config.hidden_act)
        if activation is None or name in FUSED_ACTIVATIONS:
            return PackedLinear(linears, name)
        return nn.Sequential(PackedLinear(linears), activation)

    for name, module in list(copied.named_modules()):
        if is_bert_layer(module):
            try:
                copied.set_submodule(name, FusedBertLayer(module, make))
            except (RuntimeError, AttributeError, NotImplementedError):
                return model  # This torch has no such kernels.
    return copied


def weights_stamp(model: nn.Module) -> int:
    """A number that changes when a weight is changed in place or replaced."""
    return hash(tuple((param.data_ptr(), param._version) for param in model.parameters()))
