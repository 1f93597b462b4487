"""SIGINT and SIGTERM: as exceptions, so that temporary files are removed before the process ends,
or as a wish that is met where it suits."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .errors import BertCrfError


class Terminated(KeyboardInterrupt):
    """The process was asked to end. Like Ctrl-C, it passes through every `except Exception`."""


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM (and SIGHUP, where there is one) raises Terminated, as SIGINT
    KeyboardInterrupt. Does nothing outside the main thread."""
    old: dict[int, Any] = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # nohup ignores SIGHUP: that stays so.
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
    """What a shell reports for a process that ended by this signal."""
    return 128 + int(err.args[0] if err.args else signal.SIGINT)


def script_status(run: Callable[[], Any], name: str) -> int:
    """Run a script's work; its exit status, 0 or after one line on stderr of what went wrong.

    name: what an error of the system is put down to where it names no file.
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
    """Turns SIGINT and SIGTERM into a wish, in `wanted`, that is met between two updates."""

    def __init__(self) -> None:
        self.wanted = ""
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
        if self.wanted:  # the second time at once
            raise KeyboardInterrupt
        self.wanted = signal.Signals(number).name
