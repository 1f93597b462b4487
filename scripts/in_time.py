"""Calls that are given up on when they take too long."""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class TooLong(Exception):
    """A call took too long."""


class InTime:
    """Makes calls one after another in a thread of its own, and waits `seconds` for each.

    For reads from a server: the timeout of a socket is one of each single read, and a server that
    sends a byte at a time, or interim answers or trailers without end, makes one call last for
    ever. A call that was given up on goes on until it ends, at the latest with the process.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def do(self, call: Callable[[], T]) -> T:
        """What the call returns or raises. Raises TooLong after `seconds`; then only `end`
        may be called."""
        self._calls.put(call)
        try:
            value, error = self._results.get(timeout=self.seconds)
        except Empty:
            raise TooLong(f"nothing for {self.seconds:g} seconds") from None
        if error is not None:
            raise error
        result: T = value
        return result

    def end(self, *calls: Callable[[], Any]) -> None:
        """Make these last calls, without waiting for them."""
        for call in (*calls, None):
            self._calls.put(call)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                self._results.put((call(), None))
            except Exception as error:
                self._results.put((None, error))
