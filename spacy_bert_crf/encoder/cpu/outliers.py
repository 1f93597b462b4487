"""The few channels of a layer's activations that 8 bits would spend their range on.

In many encoders one to a few dozen of the inner channels are several times as large as all others.
They stretch the range of the 256 steps, so that the others are rounded away. Such channels are
multiplied apart, in float32, and the rest in 8 bits. Dettmers et al. (2022), "LLM.int8()", do so
with channels that they look for in each input. Here the channels are fixed: those of the probes.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .smoothing import Range, watch

#: At most so many channels of a layer are multiplied apart.
MOST = 32
#: Their number is a multiple of this. A product with fewer columns is not faster.
_STEP = 8
#: The rest should keep so much more than it must, so that its range has room. In dB
_ROOM = 3.0


class Rest(NamedTuple):
    """An input without its outlying channels.

    apart: indices of the outlying channels, the largest first.
    range: the range of the other channels. Its signal is that of the smaller ones of them.
    """

    apart: list[int]
    range: Range


@dataclass
class _Channels:
    """Statistics of an input by channel: smallest, largest, sum of squares; and its rows."""

    low: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))
    high: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))
    count: int = 0

    def add(self, rows: NDArray[np.float32]) -> None:
        """Add rows. [N, width]"""
        self.low = np.minimum(self.low, rows.min(0))
        self.high = np.maximum(self.high, rows.max(0))
        self.squares = self.squares + np.square(rows, dtype=np.float64).sum(0)
        self.count += len(rows)

    def rest(self, enough: float) -> Optional[Rest]:
        """The input without as few channels as it takes. None if MOST are too few."""
        largest = np.argsort(-np.maximum(-self.low, self.high))
        most = min(MOST, len(largest) // 2)
        # What must not be rounded away is the signal of the channels that never are apart. A large
        # channel has most of the energy and would hide that they are lost.
        squares, count = self.squares[largest[most:]].sum(), self.count * (len(largest) - most)
        if not squares:  # ReLU may leave half of the channels without any
            squares, count = self.squares.sum(), self.count * len(largest)
        best: Optional[Rest] = None
        for number in range(0, most + 1, _STEP):
            low, high = self.low[largest[number:]].min(), self.high[largest[number:]].max()
            seen = Range(float(low), float(high), float(squares), count)
            rest = Rest(largest[:number].tolist(), seen)
            if best is None or rest.range.ratio() > best.range.ratio():
                best = rest
            if rest.range.ratio() >= enough + _ROOM:
                break
        return best if best is not None and best.range.ratio() >= enough else None


def without_outliers(
    encoder: nn.Module,
    inputs: Iterable[tuple[Tensor, Tensor]],
    names: Collection[str],
    enough: float,
) -> dict[str, Rest]:
    """The inputs of linear layers without their outlying channels.

    inputs: ids and attention mask of texts, on which the inputs are observed. [W, L] each
    names: names of the layers.
    enough: signal-to-noise ratio that the rest must keep when rounded to 8 bits. In dB
    RETURNS: by name. A layer whose rest does not keep it is missing.
    """
    seen: dict[str, _Channels] = {}

    def see(name: str, value: Tensor, rows: Tensor) -> None:
        if name in names:
            seen.setdefault(name, _Channels()).add(rows.numpy())

    watch(encoder, inputs, see)
    found = {name: channels.rest(enough) for name, channels in seen.items()}
    return {name: rest for name, rest in found.items() if rest is not None}


class Apart(nn.Module):
    """What some inner channels of a feed-forward layer add to its output, in float32.

    inner: the layer before the activation. [width, inner width]
    activation: the activation.
    outer: the layer after it. [inner width, width]
    channels: indices of the inner channels.
    """

    def __init__(
        self, inner: nn.Linear, activation: Any, outer: nn.Linear, channels: list[int]
    ) -> None:
        super().__init__()
        self.weight = inner.weight.detach()[channels].float()
        # shape: (channels, 1)
        self.bias = self.weight.new_zeros(len(channels), 1)
        if inner.bias is not None:
            self.bias[:, 0] = inner.bias.detach()[channels]
        self.activation = activation
        # shape: (channels, width)
        self.outer = outer.weight.detach()[:, channels].t().contiguous().float()

    def forward(self, rows: Tensor) -> Tensor:
        """Add to the rows what the channels give, in place. [size, width] to [size, width]"""
        # A product whose columns are the rows is up to twice as fast, since there are many of them.
        # shape: (channels, size)
        inner = self.activation(torch.addmm(self.bias, self.weight, rows.t()))
        return rows.addmm_(inner.t(), self.outer)


@torch.no_grad()
def take_out(inner: nn.Linear, outer: nn.Linear, channels: list[int]) -> None:
    """Set inner channels to zero, in place. The activation must leave 0 as it is."""
    inner.weight[channels] = 0
    if inner.bias is not None:
        inner.bias[channels] = 0
    outer.weight[:, channels] = 0
