"""An encoder in 8-bit integers for prediction on CPUs.

Linear layers multiply integers. Weights have a scale for each output channel. Inputs have one range
for each pass. Both are rounded as in the export torch-int8. Inputs with outlying channels are
smoothed first, and layers whose input would lose too much stay in float32 (see smoothing.py).
The activations inside of a BERT layer are written in 8 bits where that loses little. Channels that
outlie the others are computed apart (see outliers.py). The range of the others is as wide as loses
little. A pass with larger ones computes them again in float32.
Attention, normalisation and embeddings are those of the model. BERT layers are fused, see fused.py.
"""

import copy
import math
import warnings
from functools import cache
from typing import Any, NamedTuple, Optional, Union

import torch
from torch import Tensor, nn

from ...errors import BertCrfError, first_line
from .fused import (
    TYPICAL_ROWS,
    FusedBertLayer,
    activation_name,
    is_bert_layer,
    joined,
)
from .linear import FUSED_ACTIVATIONS
from .outliers import Apart, Rest, take_out, without_outliers
from .smoothing import (
    MIN_SNR,
    ScaledLinear,
    need_layers,
    probe_inputs,
    rounding_ranges,
    smooth,
)

#: Activations are not smoothed, and come out of their product in 8 bits, if the rounded ones keep
#: this signal-to-noise ratio, their outlying channels aside. In dB
ENOUGH_SNR = 25.0
#: Their range is at most so many times that of the probes.
_WIDEST = 2.0
#: Smallest value of GELU. That of ReLU is 0.
_LOWEST_GELU = -0.17


class Rounded(NamedTuple):
    """Values in 8 bits. They are (integers - zero) * scale.

    integers: uint8 [size, width]
    scale: distance of two integers' values.
    zero: the integer of 0.
    """

    integers: Tensor
    scale: float
    zero: int


class Int8Linear(nn.Module):
    """Linear layers that read the same input, as one product of integers.

    linears: layers [width, n_i]. Their outputs are concatenated.
    activation: name of the activation of the outputs, or "".
    factors: factors of the input's channels. [width], or None
    bits: bits of a weight, 7 where sums of two products of 8 bits would overflow.
    """

    #: T5 asks its linear layers for the dtype of a float weight.
    weight: None = None

    def __init__(
        self,
        linears: list[nn.Linear],
        activation: str = "",
        factors: Optional[Tensor] = None,
        bits: int = 8,
    ) -> None:
        super().__init__()
        weight, bias = (tensor.cpu() for tensor in joined(linears))
        lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        self.bias = bias
        self.factors = factors
        self.post = FUSED_ACTIVATIONS[activation] if activation else ("none", "")
        self.out_features = len(weight)
        #: Step of the outputs in 8 bits and the integer of 0, None for outputs in float32.
        self.output: Optional[tuple[float, int]] = None
        # As in the observer of torch-int8. A channel of zeros stays zero.
        self.scales = weight.abs().amax(1) / ((highest - lowest) / 2)
        self.scales.clamp_(min=torch.finfo(torch.float32).eps)
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        rounded = torch.quantize_per_channel(
            weight, self.scales.double(), self.zeros, 0, torch.qint8
        ).int_repr()
        integers = rounded.clamp(lowest, highest)
        self.packed = torch.ops.onednn.qlinear_prepack(integers, [TYPICAL_ROWS, weight.shape[1]])

    def forward(self, rows: Union[Tensor, "Rounded"]) -> Union[Tensor, "Rounded"]:
        """[..., width] to [..., sum of n_i], float32; Rounded with an output range"""
        if isinstance(rows, Rounded):
            return self._product(rows)
        shape = rows.shape
        rounded = self._rounded(rows.reshape(-1, shape[-1]))
        if self.output is not None:
            scale, zero = self.output
            integers = self._product(rounded, torch.uint8, scale, zero)
            # The largest integer can stand for any larger value.
            if int(integers.max()) < 255:
                return Rounded(integers, scale, zero)
        return self._product(rounded).view(*shape[:-1], self.out_features)

    def add(self, rows: Union[Tensor, "Rounded"], to: Tensor) -> Tensor:
        """The outputs plus `to`, which changes. [size, width] and [size, n] to [size, n]

        The layers have no activation.
        """
        rounded = rows if isinstance(rows, Rounded) else self._rounded(rows)
        if not _has_sums():
            return self._product(rounded).add_(to)
        out: Tensor = torch.ops.onednn.qlinear_pointwise.binary(
            rounded.integers, rounded.scale, rounded.zero, self.packed, self.scales, self.zeros,
            to, self.bias, 1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, "none", [], "",
        )  # fmt: skip
        return out

    def _rounded(self, rows: Tensor) -> "Rounded":
        """An input in 8 bits, with the range of its values. [size, width]"""
        if self.factors is not None:
            rows = rows * self.factors
        # Both are faster than torch.aminmax.
        scale, zero = _steps(float(rows.amin()), float(rows.amax()))
        rounded = torch.quantize_per_tensor(rows, scale, zero, torch.quint8)
        # A view of the bytes, since int_repr() would copy them slowly.
        integers = torch.empty(0, dtype=torch.uint8).set_(
            rounded.untyped_storage(), 0, rounded.shape, rounded.stride()
        )
        return Rounded(integers, scale, zero)

    def _product(
        self, rows: "Rounded", dtype: torch.dtype = torch.float32, scale: float = 1.0, zero: int = 0
    ) -> Tensor:
        """The outputs of rounded inputs. [size, sum of n_i]

        rows: the inputs. [size, width]
        dtype: of the outputs.
        scale: step of outputs in 8 bits.
        zero: integer of an output of 0.
        """
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows.integers, rows.scale, rows.zero, self.packed, self.scales, self.zeros, self.bias,
            scale, zero, dtype, self.post[0], [], self.post[1],
        )  # fmt: skip
        return out


class FloatLinear(nn.Module):
    """Int8Linear in float32, for inputs that 8 bits can't represent. Arguments as there."""

    def __init__(
        self, linears: list[nn.Linear], activation: Any = None, factors: Optional[Tensor] = None
    ) -> None:
        super().__init__()
        self.linears = nn.ModuleList(linears)
        self.activation = activation
        self.factors = factors

    def forward(self, rows: Tensor) -> Tensor:
        """[..., width] to [..., sum of n_i]"""
        if self.factors is not None:
            rows = rows * self.factors
        outputs = [linear(rows) for linear in self.linears]
        out: Tensor = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
        return out if self.activation is None else self.activation(out)

    def add(self, rows: Tensor, to: Tensor) -> Tensor:
        """The outputs plus `to`. [..., width] and [..., n] to [..., n]"""
        return self(rows).add_(to)


@torch.no_grad()
def int8_encoder(model: Any, before: list[int], after: list[int], longest: int) -> Any:
    """A copy of a Hugging Face encoder whose linear layers multiply 8-bit integers.

    model: the encoder, on the CPU.
    before: ids of the special tokens before a text.
    after: ids of the special tokens after a text.
    longest: largest number of input ids of a window.
    Raises BertCrfError if this torch or this machine has no kernels for it, or the encoder has no
    linear layer.
    """
    check_kernels()
    copied = copy.deepcopy(model).requires_grad_(False).eval()
    probes = probe_inputs(model.config.vocab_size, before, after, longest)
    rests = without_outliers(copied, probes, _activated(copied), ENOUGH_SNR)
    smooth(copied, probes, rests)
    ranges = rounding_ranges(copied, probes) | {name: rest.range for name, rest in rests.items()}
    ratios = {name: seen.ratio() for name, seen in ranges.items()}
    need_layers(list(ratios))
    left = {copied.get_submodule(name) for name, ratio in ratios.items() if ratio < MIN_SNR}
    bits = 8 if has_vnni() else 7

    def make(modules: list[nn.Module], activation: Any = None) -> nn.Module:
        scaled = [m for m in modules if isinstance(m, ScaledLinear)]
        factors = scaled[0].factors if scaled else None
        linears: list[Any] = [m.linear if isinstance(m, ScaledLinear) else m for m in modules]
        name = "" if activation is None else activation_name(model.config)
        if not left.isdisjoint(linears):
            return FloatLinear(linears, activation, factors)
        if activation is None or name in FUSED_ACTIVATIONS:
            return Int8Linear(linears, name, factors, bits)
        return nn.Sequential(Int8Linear(linears, "", factors, bits), activation)

    for name, module in list(copied.named_modules()):
        if is_bert_layer(module):
            _give_values_the_factors(module)
            rest = rests.get(f"{name}.output.dense")
            apart = _computed_apart(model.get_submodule(name), module, rest)
            fused = FusedBertLayer(module, make, apart)
            if rest is not None:
                _hand_over(fused, rest)
            copied.set_submodule(name, fused)
    # The linear layers outside BERT layers: each ScaledLinear first, then the others.
    for kind in (ScaledLinear, nn.Linear):
        for name, module in list(copied.named_modules()):
            inside = isinstance(copied.get_submodule(name.rpartition(".")[0]), nn.ModuleList)
            if isinstance(module, kind) and module not in left and not inside:
                copied.set_submodule(name, make([module]))
    return copied


def _activated(encoder: Any) -> list[str]:
    """The names of BERT layers' linear layers that read an activation which leaves 0 as it is."""
    if activation_name(encoder.config) not in FUSED_ACTIVATIONS:
        return []
    return [f"{name}.output.dense" for name, m in encoder.named_modules() if is_bert_layer(m)]


def _computed_apart(plain: Any, copied: Any, rest: Optional[Rest]) -> Optional[Apart]:
    """What outlying activations of a BERT layer add to it. They are taken out of the copied layer.

    plain: the layer as it was. copied: the layer, smoothed.
    """
    if rest is None or not rest.apart:
        return None
    inner = copied.intermediate.dense
    inner = inner.linear if isinstance(inner, ScaledLinear) else inner
    take_out(inner, copied.output.dense, rest.apart)
    activation = plain.intermediate.intermediate_act_fn
    return Apart(plain.intermediate.dense, activation, plain.output.dense, rest.apart)


def _hand_over(layer: FusedBertLayer, rest: Rest) -> None:
    """Let a layer's activations come out in 8 bits, where the next product takes them like that.

    rest: their range in the probes, without outlying channels. Texts have larger ones than random
        wordpieces, so the range is made as wide as ENOUGH_SNR allows, up to _WIDEST times.
    """
    inner, outer = layer.inner, layer.outer
    if isinstance(inner, Int8Linear) and isinstance(outer, Int8Linear):
        low, high = min(rest.range.low, _LOWEST_GELU), rest.range.high
        wider = min(10 ** ((rest.range.ratio() - ENOUGH_SNR) / 20), _WIDEST)
        scale, _ = _steps(low, low + (high - low) * max(wider, 1.0))
        # Rounded up, so that no activation lies below the smallest integer's value.
        inner.output = scale, math.ceil(-low / scale)


def _steps(low: float, high: float) -> tuple[float, int]:
    """The step and the integer of 0 for values from `low` to `high` in 8 bits."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    return scale, round(-low / scale)


@cache
def _has_sums() -> bool:
    """Whether this torch adds to a product inside of it."""
    found = getattr(torch.ops.onednn.qlinear_pointwise, "binary", None)
    return found is not None and [a.name for a in found._schema.arguments[6:8]] == ["other", "bias"]


@torch.no_grad()
def _give_values_the_factors(layer: Any) -> None:
    """Move the factors of the attention's output layer into the weights of the values."""
    value, attended = layer.attention.self.value, layer.attention.output.dense
    if isinstance(attended, ScaledLinear):
        inner: Any = value.linear if isinstance(value, ScaledLinear) else value
        inner.weight.mul_(attended.factors[:, None])
        inner.bias.mul_(attended.factors)
        layer.attention.output.dense = attended.linear


def check_kernels() -> None:
    """Raise BertCrfError if integer products can't run here."""
    try:
        with warnings.catch_warnings():  # torch warns once that quantized dtypes will go
            warnings.simplefilter("ignore")
            linear = nn.Linear(16, 16, dtype=torch.float32)
            Int8Linear([linear])(torch.ones(2, 16, dtype=torch.float32))
    except (RuntimeError, AttributeError, NotImplementedError) as err:
        raise BertCrfError(
            f'quantize = "int8" needs oneDNN\'s integer kernels, which torch {torch.__version__} '
            f"lacks on this machine ({first_line(err)}). Leave quantize empty."
        ) from err


def has_vnni() -> bool:
    """Whether 8-bit products are summed in 32 bits. Without VNNI, oneDNN sums pairs in 16 bits."""
    found = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(found is not None and found())
