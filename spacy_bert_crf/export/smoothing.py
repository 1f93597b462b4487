"""Makes an encoder fit for 8-bit inputs: outliers move from activations into weights.

A few channels of some inputs are many times as large as the rest, and stretch the range that is
divided into 256 steps until the rest drowns. Dividing each channel by a factor of its own, and
multiplying the weights that read it, changes nothing in exact arithmetic and evens the channels.
Xiao et al. (2023), "SmoothQuant".
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

#: An input is smoothed whose largest channel is more than so many times the median one.
UNEVEN = 4.0
#: How much of the range moves to the weights.
_SHARE = 0.7


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
    done = []
    for name, largest in largest_inputs(encoder, inputs).items():
        if float(largest.max()) <= UNEVEN * float(largest.median()):
            continue
        linear: Any = encoder.get_submodule(name)
        weights = linear.weight.abs().amax(0).clamp(min=1e-5)
        scale = largest.clamp(min=1e-5) ** _SHARE / weights ** (1 - _SHARE)
        scale = scale.clamp(min=1e-4)
        linear.weight.mul_(scale)
        parent, _, own = name.rpartition(".")
        setattr(encoder.get_submodule(parent), own, ScaledLinear(1 / scale, linear))
        done.append(name)
    return done


def largest_inputs(
    encoder: nn.Module, inputs: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """The largest magnitude of each input channel of each linear layer, by name. [in] each"""
    seen: dict[str, Tensor] = {}
    on = torch.zeros(0, dtype=torch.bool)

    def hook(name: str) -> Any:
        def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            rows = args[0]
            # Padding is read by nobody.
            flat = rows[on] if rows.shape[:2] == on.shape else rows.flatten(0, -2)
            largest = flat.abs().amax(0)
            seen[name] = torch.maximum(seen[name], largest) if name in seen else largest

        return see

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
    return seen


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
        ends = [torch.tensor(side).expand(8, -1) for side in (before, after)]
        ids = torch.cat([ends[0], middle, ends[1]], dim=1)
        out.append((ids, torch.ones_like(ids)))
    return out
