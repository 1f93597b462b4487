"""Prepares an encoder for 8-bit inputs: outliers move from activations into weights.

A few channels of some inputs are many times as large as the rest. They stretch the range of the 256
steps, so that the rest is rounded away. Each channel is divided by a factor of its own, and the
weights that read it are multiplied by the factor. In exact arithmetic nothing changes, and the
channels become even. Xiao et al. (2023), "SmoothQuant".
"""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import BertCrfError

#: Inputs are smoothed if their largest channel is more than this many times the median channel.
UNEVEN = 4.0
#: Smallest signal-to-noise ratio of an input rounded to 8 bits, in dB: its mean square over that of
#: the rounding error. Layers below it stay in float32, because smoothing did not help enough.
MIN_SNR = 20.0
#: The exponent that decides how much of the range moves to the weights (alpha in SmoothQuant).
_SHARE = 0.6


class ScaledLinear(nn.Module):
    """A linear layer whose input channels are multiplied by factors first.

    factors: factor of each input channel. [in]
    linear: the layer, whose weights are divided by the factors.
    """

    factors: Tensor

    def __init__(self, factors: Tensor, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("factors", factors)
        self.linear = linear

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in] to [..., out]"""
        out: Tensor = self.linear(rows * self.factors)
        return out


@torch.no_grad()
def smooth(
    encoder: nn.Module,
    inputs: Iterable[tuple[Tensor, Tensor]],
    but: Collection[str] = (),
) -> list[str]:
    """Smooth the linear layers of an encoder whose inputs are uneven, in place.

    inputs: ids and attention mask of texts, on which the inputs are observed. [W, L] each
    but: names of layers that are left as they are.
    RETURNS: the names of the layers that were smoothed.
    """
    done: list[str] = []
    for names, largest in largest_inputs(encoder, inputs).items():
        if names[0] in but:
            continue
        if float(largest.max()) <= UNEVEN * float(largest.median()):
            continue
        linears: list[Any] = [encoder.get_submodule(name) for name in names]
        weights = torch.stack([linear.weight.abs().amax(0) for linear in linears]).amax(0)
        scale = largest.clamp(min=1e-5) ** _SHARE / weights.clamp(min=1e-5) ** (1 - _SHARE)
        scale = scale.clamp(min=1e-4)
        for name, linear in zip(names, linears, strict=True):
            linear.weight.mul_(scale)
            encoder.set_submodule(name, ScaledLinear(1 / scale, linear))
        done += names
    return done


def largest_inputs(
    encoder: nn.Module, inputs: Iterable[tuple[Tensor, Tensor]]
) -> dict[tuple[str, ...], Tensor]:
    """The largest magnitude of each input channel of the linear layers. [in] each

    inputs: see `smooth`.
    RETURNS: by the names of the layers that read the same input, as query, key and value do. They
        get the same factors, so that the input is scaled and rounded once for all of them.
    """
    readers: dict[str, list[str]] = {}
    seen: dict[str, Tensor] = {}
    previous: tuple[str, Tensor] | None = None

    def see(name: str, value: Tensor, rows: Tensor) -> None:
        nonlocal previous
        if previous is not None and previous[1] is value:
            first = previous[0]
            if name not in readers[first]:
                readers[first].append(name)
            return
        previous = name, value
        readers.setdefault(name, [name])
        largest = rows.abs().amax(0)
        seen[name] = torch.maximum(seen[name], largest) if name in seen else largest

    watch(encoder, inputs, see)
    return {tuple(readers[first]): largest for first, largest in seen.items()}


def rounding_ratios(
    encoder: nn.Module, inputs: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """Signal-to-noise ratio of each linear layer's input rounded to 8 bits, by name. In dB

    inputs: see `smooth`.
    """
    return {name: seen.ratio() for name, seen in rounding_ranges(encoder, inputs).items()}


def rounding_ranges(
    encoder: nn.Module, inputs: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, "Range"]:
    """The range of each linear layer's input, by name.

    inputs: see `smooth`.
    """
    found: dict[str, Range] = {}

    def see(name: str, value: Tensor, rows: Tensor) -> None:
        found.setdefault(name, Range()).add(rows.numpy())

    watch(encoder, inputs, see)
    return found


@dataclass
class Range:
    """Statistics of the values of an input: smallest, largest, sum of squares, count."""

    low: float = 0.0
    high: float = 0.0
    squares: float = 0.0
    count: int = 0

    def add(self, values: NDArray[Any]) -> None:
        """Add values of any shape."""
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        self.squares += float(np.square(values, dtype=np.float64).sum())
        self.count += values.size

    def ratio(self) -> float:
        """Signal-to-noise ratio of the input rounded to 256 steps, in dB.

        The mean square error of rounding is a twelfth of the squared step, (max - min) / 255.
        """
        error = ((self.high - self.low) / 255) ** 2 / 12
        signal = self.squares / max(self.count, 1)
        return 10 * math.log10(signal / error) if signal and error else math.inf


def need_layers(names: list[str]) -> list[str]:
    """The names of the linear layers that may get 8 bits.

    Raises BertCrfError if there are none, a pooler aside, which has no influence on tokens.
    """
    if all(name.startswith("pooler.") for name in names):
        raise BertCrfError(
            "int8 would change nothing in this encoder: it has no linear layer whose input 8 bits "
            "can represent. Use float32."
        )
    return names


def left_in_float(ratios: dict[str, float]) -> list[str]:
    """One line of text for each layer that stays in float32.

    ratios: the result of `rounding_ratios`.
    """
    return [
        f"{name}: its input would keep {ratio:.1f} dB above the error of rounding (minimum: "
        f"{MIN_SNR:.0f})"
        for name, ratio in ratios.items()
        if ratio < MIN_SNR
    ]


@torch.no_grad()
def watch(
    encoder: nn.Module,
    inputs: Iterable[tuple[Tensor, Tensor]],
    see: Callable[[str, Tensor, Tensor], None],
) -> None:
    """Run an encoder and call `see(name, input, rows)` for each linear layer in each pass.

    input: the input of the layer. rows: its rows without padding. [N, in]
    """
    on = torch.zeros(0, dtype=torch.bool)

    def hook(name: str) -> Any:
        def before(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            rows = args[0]
            # Rows of padding are not used, so they do not count.
            see(name, rows, rows[on] if rows.shape[:2] == on.shape else rows.flatten(0, -2))

        return before

    handles = [
        module.register_forward_pre_hook(hook(name))
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        for ids, mask in inputs:
            on = mask.bool()
            encoder(input_ids=ids, attention_mask=mask)
    finally:
        for handle in handles:
            handle.remove()


def probe_inputs(
    vocab_size: int, before: list[int], after: list[int], longest: int
) -> list[tuple[Tensor, Tensor]]:
    """Ids and attention masks of random wordpieces, to find the large channels. [8, L] each

    Special tokens have the largest outliers.

    vocab_size: number of wordpieces of the vocabulary.
    before: ids of the special tokens before a text.
    after: ids of the special tokens after a text.
    longest: largest number of input ids of a window.
    """
    generator = torch.Generator().manual_seed(0)
    out = []
    for length in (16, 40, 96):
        length = min(length, longest - len(before) - len(after))
        middle = torch.randint(0, vocab_size, (8, length), generator=generator)
        ends = [torch.tensor(side, dtype=torch.int64).expand(8, -1) for side in (before, after)]
        ids = torch.cat([ends[0], middle, ends[1]], dim=1)
        out.append((ids, torch.ones_like(ids)))
    return out
