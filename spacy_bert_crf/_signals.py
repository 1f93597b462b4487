"""SIGINT and SIGTERM, turned into exceptions or into a request to stop.

As an exception, a signal lets temporary files be removed before the process ends. A request to stop
is fulfilled between two updates of a training.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .errors import BertCrfError


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM or SIGHUP. `except Exception` does not catch it."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise Terminated, as SIGINT raises KeyboardInterrupt.

    Outside the main thread nothing changes. Systems without SIGHUP are fine.
    """
    old: dict[int, Any] = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Under nohup, SIGHUP is ignored, and stays so.
        if number is None or signal.getsignal(number) != signal.SIG_DFL:
            continue
        try:
            old[number] = signal.signal(number, _raise)
        except ValueError:  # not the main thread
            break
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def exit_status(err: KeyboardInterrupt) -> int:
    """The exit status that a shell reports for a process that was ended by this signal."""
    return 128 + int(err.args[0] if err.args else signal.SIGINT)


def script_status(run: Callable[[], Any], name: str) -> int:
    """Run a script's work and return its exit status.

    An error is printed to stderr as one message, without a traceback.

    run: does the work.
    name: printed with errors of the system that name no file.
    """
    try:
        with terminable():
            run()
    except BertCrfError as err:
        print(f"✘ {err}", file=sys.stderr)
        return 1
    except OSError as err:
        print(f"✘ {err.filename or name}: {err.strerror or err}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt as err:
        print("✘ interrupted; nothing half-written is left", file=sys.stderr)
        return exit_status(err)
    return 0


def _raise(number: int, frame: Any) -> None:
    raise Terminated(number)


class Stop:
    """Turns SIGINT and SIGTERM into a request to stop, which the training checks between updates.

    A second signal raises KeyboardInterrupt.

    signal_name: name of the signal; empty if there was none.
    """

    def __init__(self) -> None:
        self.signal_name = ""
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        if self.signal_name:  # the second signal
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
