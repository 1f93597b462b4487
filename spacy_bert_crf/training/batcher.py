"""Training batches of examples of similar length."""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from spacy.training import Example
from spacy.util import registry

from ..errors import BertCrfError


@registry.batchers("spacy_bert_crf.batch_by_length.v1")
def create_batch_by_length(
    size: int = 16, buffer: int = 1024, max_padded: int = 0
) -> Callable[[Iterable[Example]], Iterable[list[Example]]]:
    """Batches of `size` examples of similar length, in random order.

    Padding costs as much time as text. With sorted examples an epoch takes about half as long.

    size: number of examples in a batch.
    buffer: number of examples that are sorted together. A small buffer mixes batches better.
    max_padded: largest number of tokens of a batch, padding included. Larger batches are cut. 0
        for no limit.
    RETURNS: a function from examples to batches of them.
    Raises BertCrfError for a size below 1, a buffer below size, or a max_padded below 0.
    """
    if size < 1 or buffer < size or max_padded < 0:
        raise BertCrfError(
            f"batcher settings size = {size}, buffer = {buffer}, max_padded = {max_padded}: size "
            "must be 1 or more, buffer not below size, max_padded 0 or more."
        )

    def batch_by_length(examples: Iterable[Example]) -> Iterator[list[Example]]:
        held: list[Example] = []
        for example in examples:
            held.append(example)
            if len(held) == buffer:
                yield from _batches(held, size, max_padded)
                held = []
        yield from _batches(held, size, max_padded)

    return batch_by_length


def count_batches(section: dict[str, Any], examples: list[Example], epochs: int) -> int:
    """Number of batches in some epochs.

    section: the section [training.batcher]. A batcher of its own is made of it, because some
        batchers change their batch size as they go.
    examples: those of one epoch.
    epochs: how many epochs to count.
    """
    batcher = registry.resolve({"batcher": section})["batcher"]
    return sum(1 for _ in range(epochs) for _ in batcher(list(examples)))


def _batches(examples: list[Example], size: int, max_padded: int) -> list[list[Example]]:
    examples.sort(key=lambda eg: len(eg.predicted))
    batches: list[list[Example]] = []
    for example in examples:
        # Sorted upwards, so this one is the longest of its batch.
        padded = (len(batches[-1]) + 1) * len(example.predicted) if batches else 0
        if not batches or len(batches[-1]) == size or (max_padded and padded > max_padded):
            batches.append([])
        batches[-1].append(example)
    random.shuffle(batches)
    return batches
