"""Makes an encoder fit for 8-bit inputs: outliers move from activations into weights.

A few channels of some inputs are many times as large as the rest, and stretch the range that is
divided into 256 steps until the rest drowns. Dividing each channel by a factor of its own, and
multiplying the weights that read it, changes nothing in exact arithmetic and evens the channels.
Xiao et al. (2023), "SmoothQuant".
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

#: An input is smoothed whose largest channel is more than so many times the median one.
UNEVEN = 4.0
#: Least ratio, in dB, of the mean square of an input to that of the error that rounding it to 8
#: bits makes. Below it, single values stretch the range so far that the rest drowns, smoothed or
#: not: such a layer stays in float32.
LEAST_SNR = 20.0
#: How much of the range moves to the weights.
_SHARE = 0.6


class ScaledLinear(nn.Module):
    """A linear layer whose input channels are multiplied by factors first.

    factors: [in]. linear: with weights divided by them.
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
def smooth(encoder: nn.Module, inputs: Iterable[tuple[Tensor, Tensor]]) -> list[str]:
    """Smooth an encoder in place, where its inputs need it.

    inputs: ids and attention mask of texts, to see what the channels hold.
    RETURNS: the names of the layers that were smoothed.
    """
    done: list[str] = []
    for names, largest in largest_inputs(encoder, inputs).items():
        if float(largest.max()) <= UNEVEN * float(largest.median()):
            continue
        linears: list[Any] = [encoder.get_submodule(name) for name in names]
        weights = torch.stack([linear.weight.abs().amax(0) for linear in linears]).amax(0)
        scale = largest.clamp(min=1e-5) ** _SHARE / weights.clamp(min=1e-5) ** (1 - _SHARE)
        scale = scale.clamp(min=1e-4)
        for name, linear in zip(names, linears, strict=True):
            linear.weight.mul_(scale)
            parent, _, own = name.rpartition(".")
            setattr(encoder.get_submodule(parent), own, ScaledLinear(1 / scale, linear))
        done += names
    return done


def largest_inputs(
    encoder: nn.Module, inputs: Iterable[tuple[Tensor, Tensor]]
) -> dict[tuple[str, ...], Tensor]:
    """The largest magnitude of each input channel of the linear layers. [in] each

    By the names of the layers that read the same input (query, key and value): they get the same
    factors, so that it can be scaled and rounded once for all of them.
    """
    readers: dict[str, list[str]] = {}
    seen: dict[str, Tensor] = {}
    previous: tuple[str, Tensor] | None = None

    def see(name: str, given: Tensor, rows: Tensor) -> None:
        nonlocal previous
        if previous is not None and previous[1] is given:
            first = previous[0]
            if name not in readers[first]:
                readers[first].append(name)
            return
        previous = name, given
        readers.setdefault(name, [name])
        largest = rows.abs().amax(0)
        seen[name] = torch.maximum(seen[name], largest) if name in seen else largest

    _watch(encoder, inputs, see)
    return {tuple(readers[first]): largest for first, largest in seen.items()}


def rounding_ratios(
    encoder: nn.Module, inputs: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """For each linear layer, how its input stands above the error of rounding it, in dB."""
    seen: dict[str, Range] = {}

    def see(name: str, given: Tensor, rows: Tensor) -> None:
        seen.setdefault(name, Range()).add(rows.numpy())

    _watch(encoder, inputs, see)
    return {name: found.ratio() for name, found in seen.items()}


@dataclass
class Range:
    """What was seen of an input: its least and largest value, and the sum of its squares."""

    low: float = 0.0
    high: float = 0.0
    squares: float = 0.0
    count: int = 0

    def add(self, values: NDArray[Any]) -> None:
        """Take in values of any shape."""
        self.low, self.high = (
            min(self.low, float(values.min())),
            max(self.high, float(values.max())),
        )
        self.squares += float(np.square(values, dtype=np.float64).sum())
        self.count += values.size

    def ratio(self) -> float:
        """How the input stands above the error of rounding it to 256 steps, in dB.

        Rounding to steps of (max - min) / 255 has a mean square error of a twelfth of a step's
        square.
        """
        error = ((self.high - self.low) / 255) ** 2 / 12
        signal = self.squares / max(self.count, 1)
        return 10 * math.log10(signal / error) if signal and error else math.inf


def left_in_float(ratios: dict[str, float]) -> list[str]:
    """Lines for people on the layers that stay in float32, of all that were looked at."""
    return [
        f"{name}: its input would keep {ratio:.1f} dB above the error of rounding (least: "
        f"{LEAST_SNR:.0f})"
        for name, ratio in ratios.items()
        if ratio < LEAST_SNR
    ]


@torch.no_grad()
def _watch(
    encoder: nn.Module,
    inputs: Iterable[tuple[Tensor, Tensor]],
    see: Callable[[str, Tensor, Tensor], None],
) -> None:
    """Call `see` for each linear layer in each pass: its name, its input as given, and the rows
    of it that are no padding. [N, in]
    """
    on = torch.zeros(0, dtype=torch.bool)

    def hook(name: str) -> Any:
        def before(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            rows = args[0]
            # Padding is read by nobody.
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
    """Inputs of random wordpieces: enough to see which channels are large, without a corpus.

    before, after: ids of the special tokens around a text, which hold the largest outliers.
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
