"""Makes the modules of an encoder faster on a CPU: BERT layers in training, dropout, products."""

import weakref
from typing import Any, Optional

import torch
from torch import Tensor, nn

from ..fused import is_bert_layer, returns_tuple
from ..linear import CpuLinear
from .dropout import CpuDropout
from .trained_layer import Products, Settings, TrainedBertLayer, stamp

#: Arguments of a layer that are left to its own class.
_ELSEWHERE = (
    "head_mask", "encoder_hidden_states", "past_key_value", "past_key_values", "output_attentions",
)  # fmt: skip
#: The classes whose computation is part of TrainedBertLayer.
_PLAIN = {nn.Linear, CpuLinear, nn.LayerNorm, nn.Dropout, CpuDropout}
#: The activations that TrainedBertLayer has, a key of FUSED_ACTIVATIONS for each class.
_ACTIVATIONS = {
    "GELUActivation": "gelu",
    "NewGELUActivation": "gelu_new",
    "GELUTanh": "gelu_pytorch_tanh",
    "PytorchGELUTanh": "gelu_pytorch_tanh",
    "ReLU": "relu",
}
#: The class of each class of BERT layers that trains faster.
_CLASSES: dict[type, type] = {}
#: Whether layers of such a class return their states in a tuple.
_RETURNS_TUPLE: dict[type, bool] = {}
#: The weights that each layer has cast, as long as an update holds them.
_cast: "weakref.WeakKeyDictionary[nn.Module, weakref.ref[Products]]" = weakref.WeakKeyDictionary()


class _Trained:
    """Mixed into the class of a BERT layer."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Optional[Tensor] = None, *args: Any, **kw: Any
    ) -> Any:
        """[W, L, width] to [W, L, width]; see the layer's own class.

        Anything but training on a CPU with a plain mask is left to that class.
        """
        others = (*args, *map(kw.get, _ELSEWHERE))
        if not _is_trained(self, hidden_states, attention_mask, others):
            return super().forward(hidden_states, attention_mask, *args, **kw)  # type: ignore[misc]
        out = _train(self, hidden_states, attention_mask)
        return (out,) if _RETURNS_TUPLE[type(self)] else out

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class has no name by which pickle finds it.
        return _restored, (type(self).__mro__[2],), self.__dict__


def prefer_cpu(model: nn.Module) -> None:
    """Make the modules of a model faster on CPUs, in place. Weights do not change.

    Plain linear layers become CpuLinear, and plain dropouts CpuDropout. BERT's layers train by
    TrainedBertLayer. Results are the same, except for rounding and for which elements are dropped.

    model: in evaluation mode.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = CpuLinear
        elif type(module) is nn.Dropout:
            module.__class__ = CpuDropout
    for module in model.modules():
        if is_bert_layer(module):
            prefer_training(module)


def prefer_training(layer: Any) -> None:
    """Make a layer train faster on a CPU, in place. It stays an instance of its class.

    layer: a layer for which is_bert_layer is true, in evaluation mode, on the CPU.
    """
    own = type(layer)
    if issubclass(own, _Trained):
        return
    if own not in _CLASSES:
        fast = type(own.__name__, (_Trained, own), {"__module__": own.__module__})
        _RETURNS_TUPLE[fast] = returns_tuple(layer)
        _CLASSES[own] = fast
    layer.__class__ = _CLASSES[own]


def _restored(own: type) -> Any:
    layer: Any = object.__new__(own)
    # Another process has no such class before it loads an encoder. The layer trains all the same.
    layer.__class__ = _CLASSES.get(own, own)
    return layer


def _parts(layer: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """The products of a BERT layer, its normalisations, and the dropouts before these."""
    attention, out = layer.attention.self, layer.attention.output
    linears = [
        attention.query, attention.key, attention.value, out.dense,
        layer.intermediate.dense, layer.output.dense,
    ]  # fmt: skip
    return linears, [out.LayerNorm, layer.output.LayerNorm], [out.dropout, layer.output.dropout]


def _is_trained(
    layer: Any, states: Tensor, mask: Optional[Tensor], others: tuple[Any, ...]
) -> bool:
    """Whether a call of a layer is one that TrainedBertLayer computes."""
    if not (layer.training and torch.is_grad_enabled()) or states.device.type != "cpu":
        return False
    if any(other is not None and other is not False for other in others):
        return False
    if mask is not None and (mask.dim() != 4 or mask.requires_grad):
        return False
    linears, norms, dropouts = _parts(layer)
    modules = (*linears, *norms, *dropouts)
    if any(type(module) not in _PLAIN or _has_hooks(module) for module in modules):
        return False
    if type(layer.intermediate.intermediate_act_fn).__name__ not in _ACTIVATIONS:
        return False
    dtypes = {
        None if part is None else part.dtype
        for module in (*linears, *norms)
        for part in (module.weight, module.bias)
    }
    return dtypes == {states.dtype} and states.dtype in (torch.float32, torch.float64)


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _train(layer: Any, states: Tensor, mask: Optional[Tensor]) -> Tensor:
    """A BERT layer in training. [W, L, width] to [W, L, width]

    layer: a layer of transformers.
    states: its input.
    mask: bool, True where a key is read, or what is added to the scores. [W, 1, 1 or L, L]
    """
    attention = layer.attention.self
    linears, norms, dropouts = _parts(layer)
    dtype = states.dtype
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    # Classes for torch's attention have a number, others the module.
    rate = getattr(attention, "dropout_prob", None)
    if rate is None:
        rate = attention.dropout.p
    settings = Settings(
        n_heads=attention.num_attention_heads,
        activation=_ACTIVATIONS[type(layer.intermediate.intermediate_act_fn).__name__],
        eps=(norms[0].eps, norms[1].eps),
        attention_rate=rate if attention.training else 0.0,
        rates=tuple(module.p if module.training else 0.0 for module in dropouts),
        dtype=dtype,
    )
    weights, biases = [linear.weight for linear in linears], [linear.bias for linear in linears]
    held = _cast.get(layer)
    products = None if held is None else held()
    if products is None or products.stamp != stamp([*weights, *biases], dtype):
        products = Products(weights, biases, dtype)
        _cast[layer] = weakref.ref(products)
    if mask is not None and mask.dtype == torch.bool:
        zeros = torch.zeros_like(mask, dtype=states.dtype)
        mask = zeros.masked_fill_(~mask, torch.finfo(states.dtype).min)
    params = [*weights, *biases, *(part for norm in norms for part in (norm.weight, norm.bias))]
    with torch.autocast("cpu", enabled=False):
        out: Tensor = TrainedBertLayer.apply(states, mask, settings, products, *params)  # type: ignore[no-untyped-call]
    return out
