"""The Typer app and what its commands share."""

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from wasabi import msg

from .._signals import exit_status, terminable
from ..errors import BertCrfError

F = TypeVar("F", bound=Callable[..., Any])

cli = typer.Typer(
    name="bert-crf",
    help="BERT + CRF named entities: convert checkpoints and corpora, train, evaluate, export.",
    no_args_is_help=True,
    add_completion=False,
)


def command(name: str, **settings: Any) -> Callable[[F], F]:
    """Add a command. Bad input ends it with one message and exit status 1, not a traceback."""

    def add(function: F) -> F:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            # Fast tokenizers warn when a process forks after it used their threads.
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            try:
                with terminable():
                    return function(*args, **kwargs)
            except BertCrfError as err:
                msg.fail(str(err))
                raise typer.Exit(1) from err
            except OSError as err:
                file = os.fsdecode(err.filename) if err.filename else "the system"
                msg.fail(f"{file}: {err.strerror or err}. Nothing half-written is left.")
                raise typer.Exit(1) from err
            except MemoryError as err:
                msg.fail("not enough memory. Nothing half-written is left.")
                raise typer.Exit(1) from err
            except KeyboardInterrupt as err:
                msg.fail("interrupted; nothing half-written is left")
                raise typer.Exit(exit_status(err)) from None

        cli.command(name, **settings)(run)
        return function

    return add
