"""The CRF alone: best paths, and likelihood with gradients, on the CPU and on the device."""

from typing import Any

import torch
from torch import Tensor

from spacy_bert_crf.crf.linear_chain import LinearChainCRF

from .measure import Device

#: Sequences, steps, tags.
SHAPES = [(1, 50, 7), (16, 64, 7), (32, 128, 7), (512, 40, 7), (512, 128, 7), (64, 128, 41)]
SMALL_SHAPES = [(1, 10, 7), (4, 12, 7)]


def times(device: Device, is_small: bool) -> list[dict[str, Any]]:
    """Milliseconds of each shape. The CPU's are those of all its threads."""
    rows = []
    for shape in SMALL_SHAPES if is_small else SHAPES:
        if device.is_over:
            break
        row: dict[str, Any] = {"shape": list(shape)}
        for name, place in (("cpu", Device(-1)), ("gpu", device)):
            if name == "cpu" or device.gpu >= 0:
                row[name] = _times(place, *shape)
        rows.append(row)
    return rows


def _times(device: Device, n_batch: int, n_steps: int, n_tags: int) -> dict[str, float]:
    crf = LinearChainCRF(n_tags).to(device.torch)
    generator = torch.Generator().manual_seed(0)
    # shape: [B, T, K], [B, T], [B, T]
    emissions = 3 * torch.randn(n_batch, n_steps, n_tags, generator=generator)
    emissions = emissions.to(device.torch).requires_grad_()
    tags = torch.randint(n_tags, (n_batch, n_steps), generator=generator).to(device.torch)
    mask = torch.ones(n_batch, n_steps, dtype=torch.bool, device=device.torch)

    @torch.inference_mode()
    def decode() -> Tensor:
        return crf.viterbi(emissions.detach(), mask)[0].cpu()

    def learn() -> None:
        crf(emissions, tags, mask).sum().backward()

    return {
        "decode_ms": 1e3 * device.median(decode, 10, 1.0),
        "learn_ms": 1e3 * device.median(learn, 10, 1.0),
    }
