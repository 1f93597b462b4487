"""An encoder in float32 for prediction on CPUs, its weights laid out as oneDNN reads them.

The same products as the original's, but without the passes over memory between them: query, key
and value are one, and bias and activation are part of the product before them. An encoder of width
384 takes a tenth less time, and holds its layers' weights once more. Knows nothing of spaCy.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .fused import (
    FUSED_ACTIVATIONS,
    TYPICAL_ROWS,
    FusedBertLayer,
    is_bert_layer,
    joined,
    replace,
)


class PackedLinear(nn.Module):
    """Linear layers that read the same input, as one product.

    linears: [width, n_i] each; their outputs come after one another.
    activation: name of the activation applied to the outputs, one of FUSED_ACTIVATIONS, or "".
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


@torch.no_grad()
def packed_encoder(model: Any) -> Any:
    """A Hugging Face encoder that computes the same, but for rounding, with the rest of its
    weights shared. The model itself where it has no layers of BERT's kind, or torch no oneDNN.

    model: on the CPU, in evaluation mode. Layers hold copies of its weights: make it anew when
    those change (see `weights_stamp`).
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
                replace(copied, name, FusedBertLayer(module, make))
            except (RuntimeError, AttributeError, NotImplementedError):
                return model  # a torch without these kernels
    return copied


def weights_stamp(model: nn.Module) -> int:
    """A number that is another one when a weight was changed in place or replaced."""
    return hash(tuple((param.data_ptr(), param._version) for param in model.parameters()))
