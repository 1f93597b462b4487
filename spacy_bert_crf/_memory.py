"""Says what to lower where the memory of a device is full."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import BertCrfError, first_line

#: What torch, CUDA's libraries and CuPy say in errors of other classes than OutOfMemoryError.
_FULL = re.compile(
    r"out of memory|can't allocate memory|not enough memory|_STATUS_ALLOC_FAILED", re.IGNORECASE
)


class OutOfMemory(BertCrfError, torch.OutOfMemoryError):
    """The memory of a device is full. Code that catches torch's OutOfMemoryError catches it too."""


def is_out_of_memory(err: BaseException) -> bool:
    """Whether an error of torch, CUDA or CuPy says that the memory of a device is full.

    torch has a class for a GPU's memory. On the CPU and at the start of CUDA it raises a
    RuntimeError. CuPy's error is a MemoryError; other MemoryErrors do not count.
    """
    if isinstance(err, torch.OutOfMemoryError):
        return True
    known = isinstance(err, RuntimeError) or type(err).__module__.split(".")[0] == "cupy"
    return known and _FULL.search(str(err)) is not None


def what_to_lower(err: BaseException) -> str:
    """The message for an error that `is_out_of_memory`: what happened, and what to lower."""
    # torch adds how the memory is divided, and a link.
    said = ". ".join(first_line(err).split(". ")[:2]).rstrip(".")
    return (
        f"not enough memory ({said}). Lower batch_pieces of the encoder, the largest number of "
        "wordpieces of one pass. Then lower the batch size: that of [training.batcher], or "
        "batch_size of nlp.pipe. For long texts, lower max_length of the encoder."
    )


@contextmanager
def explained_memory() -> Iterator[None]:
    """Within, an error of full memory becomes an OutOfMemory that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as err:
        if isinstance(err, BertCrfError) or not is_out_of_memory(err):
            raise
        raise OutOfMemory(what_to_lower(err)) from err
