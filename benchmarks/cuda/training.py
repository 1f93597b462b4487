"""Updates: tokens a second, waits, launches and memory by batch size."""

from typing import Any

import torch
from spacy.training import Example

from spacy_bert_crf.model.optimizer import create_adamw

from .measure import Device
from .subject import Subject

#: So small that the weights stay what they are, and do all the work of an update.
RATE = 1e-12


def updates(
    device: Device, subject: Subject, examples: list[Example], sizes: list[int]
) -> dict[str, Any]:
    """One row for each batch size, in docs. A batch that does not fit into the memory is named."""
    out: dict[str, Any] = {}
    for size in sizes:
        if device.is_over or size > len(examples):
            break
        try:
            out[str(size)] = update(device, subject, examples[:size])
        except torch.OutOfMemoryError:
            out[str(size)] = {"not_available": "out of memory"}
    return out


def update(device: Device, subject: Subject, batch: list[Example]) -> dict[str, Any]:
    """An update of one batch, with dropout, averages and rates by layer."""
    optimizer = create_adamw(
        encoder_lr=RATE, head_lr=RATE, crf_lr=RATE, averaging=0.98, layer_decay=0.85
    )

    def run() -> None:
        subject.nlp.update(batch, sgd=optimizer, drop=0.1)

    tokens = sum(len(example.predicted) for example in batch)
    row = device.launches(run)
    return {
        "tokens": tokens,
        "tokens_per_second": 1e3 * tokens / row["milliseconds"],
        **row,
        "waits": device.waits(run),
        "peak_gib": device.peak(run),
    }
