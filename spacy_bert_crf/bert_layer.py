"""BERT's layer for prediction on CPUs, with fewer and larger products than the original."""

from collections.abc import Callable
from typing import Any, Optional

import torch.nn.functional as F
from torch import Tensor, nn

#: Activations that oneDNN applies inside a product: its name and algorithm.
FUSED_ACTIVATIONS = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}
#: Rows for which oneDNN lays the weights out. Others work as well.
TYPICAL_ROWS = 1024
#: Layers that compute what BERT's do, under the same names.
_BERT_LAYERS = {
    "BertLayer", "CamembertLayer", "ElectraLayer", "ErnieLayer", "RobertaLayer", "XLMRobertaLayer",
}  # fmt: skip

#: Makes one product of linear layers that read the same input, and of the activation after it.
Make = Callable[..., nn.Module]


class FusedBertLayer(nn.Module):
    """A layer of BERT's kind (Devlin et al. 2019): query, key and value are one product, and the
    activation is part of the product before it."""

    def __init__(self, layer: Any, make: Make) -> None:
        """layer: see is_bert_layer. make: see Make."""
        super().__init__()
        attention = layer.attention.self
        self.n_heads = attention.num_attention_heads
        self.qkv = make([attention.query, attention.key, attention.value])
        self.attended = make([layer.attention.output.dense])
        self.attended_norm = layer.attention.output.LayerNorm
        self.inner = make([layer.intermediate.dense], layer.intermediate.intermediate_act_fn)
        self.outer = make([layer.output.dense])
        self.norm = layer.output.LayerNorm

    def forward(
        self, hidden_states: Tensor, attention_mask: Optional[Tensor] = None, *args: Any, **kw: Any
    ) -> tuple[Tensor]:
        """[W, L, width] to [W, L, width]; further arguments of the original are not used."""
        n_windows, length, width = hidden_states.shape
        # shape: (W * L, width)
        rows = hidden_states.reshape(-1, width)
        # shape: (3, W, heads, L, width of a head)
        heads = self.qkv(rows).view(n_windows, length, 3, self.n_heads, width // self.n_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        attended = self.attended(context.transpose(1, 2).reshape(-1, width))
        rows = self.attended_norm(attended.add_(rows))
        rows = self.norm(self.outer(self.inner(rows)).add_(rows))
        return (rows.view(n_windows, length, width),)


def is_bert_layer(layer: Any) -> bool:
    """Whether a FusedBertLayer computes what this module does."""
    if type(layer).__name__ not in _BERT_LAYERS or getattr(layer, "is_decoder", False):
        return False
    attention = layer.attention.self
    return (
        type(attention).__name__.endswith("SdpaSelfAttention")
        and getattr(attention, "position_embedding_type", "absolute") == "absolute"
        and getattr(layer, "chunk_size_feed_forward", 0) == 0
    )


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one of this name."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
