"""SIGINT and SIGTERM, turned into exceptions or into a request to stop.

As an exception, a signal lets temporary files be removed before the process ends. A request to stop
is fulfilled between two updates of a training.
"""

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .errors import BertCrfError


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM or SIGHUP. `except Exception` does not catch it."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise Terminated, as SIGINT raises KeyboardInterrupt.

    Outside the main thread nothing changes. Systems without SIGHUP are fine.
    """
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Under nohup, SIGHUP is ignored, and stays so.
    with _handled((n for n in known if signal.getsignal(n) == signal.SIG_DFL), _raise):
        yield


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


@contextmanager
def _handled(numbers: Iterable[int], handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within, these signals have this handler. Outside the main thread nothing changes."""
    old: dict[int, Any] = {}
    for number in numbers:
        try:
            old[number] = signal.signal(number, handler)
        except ValueError:  # not the main thread
            break
    try:
        yield
    finally:
        for number, former in old.items():
            signal.signal(number, former)


class Stop(ExitStack):
    """Turns SIGINT and SIGTERM into a request to stop, which the training checks between updates.

    A second signal raises KeyboardInterrupt.

    signal_name: name of the signal; empty if there was none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.signal_name = ""

    def __enter__(self) -> "Stop":
        self.enter_context(_handled((signal.SIGINT, signal.SIGTERM), self._handle))
        return self

    def _handle(self, number: int, frame: Any) -> None:
        if self.signal_name:  # the second signal
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
