"""Copies that do not block, and the events and streams that the host waits by.

The device takes its work in order. A copy with `non_blocking=True` is done at the next wait:
before it the host finds noise where the numbers will be. A pinned buffer that the host overwrites
before the wait is an error, as the copy may still read it.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Optional

import torch
from torch.utils._python_dispatch import _disable_current_modes

from .log import LOG

_numbers = itertools.count(1)
#: Copies that have not been waited for: number in the order of the stream, and what ends it.
_pending: list[tuple[int, Callable[[], None]]] = []
#: A byte that stands for numbers that have not arrived.
_NOISE = 0x5A


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Operations on the numbers: not counted, no gradient, inference tensors may be written."""
    with _disable_current_modes(), torch.inference_mode():
        yield


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's memory. [bytes]"""
    return tensor.detach().view(-1).view(torch.uint8)


def to_host_later(target: torch.Tensor, source: torch.Tensor) -> None:
    """Copy to pinned memory: noise now, the numbers at the next wait.

    target: tensor of the CPU. source: numbers of the tensor of the device.
    """
    with _plainly():
        kept = source.clone()  # later kernels may overwrite it, but the stream keeps the order
        if target.is_contiguous():
            _bytes(target).fill_(_NOISE)
    _pending.append((next(_numbers), lambda: target.copy_(kept)))


def from_host_later(source: torch.Tensor) -> None:
    """Note a copy from pinned memory, so that an overwritten buffer is found at the next wait."""
    with _plainly():
        kept = source.clone()

    def check() -> None:
        if not torch.equal(_bytes(source.contiguous()), _bytes(kept.contiguous())):
            raise RuntimeError(
                f"a pinned buffer of shape {tuple(kept.shape)} was overwritten before its copy to "
                "the device had ended: wait for an event, or take a new buffer."
            )

    _pending.append((next(_numbers), check))


def finish(until: Optional[int] = None) -> None:
    """End the copies up to a number, or all: what a wait does."""
    with _plainly():
        while _pending and (until is None or _pending[0][0] <= until):
            _pending.pop(0)[1]()


def wait(what: str) -> None:
    """The host waits for all that was launched: note it, and end the copies."""
    LOG.wait(what)
    finish()


class Stream:
    """torch.cuda.Stream: there is one stream."""

    device = torch.device("cuda", 0)
    cuda_stream = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *args: Any) -> None:
        pass

    def wait_stream(self, stream: Any) -> None:
        """Nothing to wait for: all work is in one stream."""

    def wait_event(self, event: Any) -> None:
        """Nothing to wait for: all work is in one stream."""

    def record_event(self, event: Optional["Event"] = None) -> "Event":
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        synchronize()


class Event:
    """torch.cuda.Event. Waiting for it is one host wait."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._until: Optional[int] = None
        self._asked = False

    def record(self, stream: Any = None) -> None:
        self._until, self._asked = next(_numbers), False

    def wait(self, stream: Any = None) -> None:
        """The stream waits, not the host."""

    def query(self) -> bool:
        """Whether the work is done: no at first, as a GPU may be busy, then yes."""
        asked, self._asked = self._asked, True
        if asked and self._until is not None:
            finish(self._until)
        return asked or self._until is None

    def synchronize(self) -> None:
        LOG.wait("Event.synchronize")
        self._asked = True
        if self._until is not None:  # one that was never recorded waits for nothing
            finish(self._until)

    def elapsed_time(self, end: "Event") -> float:
        """The device has no clock: 0 milliseconds."""
        return 0.0


def synchronize(device: Any = None) -> None:
    """torch.cuda.synchronize: one host wait."""
    wait("synchronize")
