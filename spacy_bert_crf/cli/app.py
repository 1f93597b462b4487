"""The Typer app, and helpers of all commands."""

import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperGroup
from wasabi.util import locale_escape

from .._files import write_text
from .._signals import exit_status, terminable
from ..errors import BertCrfError

F = TypeVar("F", bound=Callable[..., Any])

#: The commands in the order of use, in which `--help` lists them. Others come last.
_ORDER = (
    *("new", "init-config", "convert-corpus", "convert-checkpoint", "train", "distill"),
    *("evaluate", "report"),
    *("find-errors", "calibrate", "nbest", "export", "compare-exports", "import-model"),
    *("package", "card", "push"),
    *("select", "bootstrap", "annotate", "serve"),
)


class _InOrderOfUse(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


cli = typer.Typer(
    name="bert-crf",
    cls=_InOrderOfUse,
    help="BERT + CRF named entities: convert checkpoints and corpora, train, evaluate, export.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # as under `python -m spacy`: text in brackets stays
)


def command(name: str, **settings: Any) -> Callable[[F], F]:
    """Add a command. Bad input ends it with one message and exit status 1, not a traceback.

    name: name of the command.
    settings: arguments of Typer's `command`.
    """

    def add(function: F) -> F:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            # Fast tokenizers warn when a process forks after it used their threads.
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            try:
                with terminable(), _messages():
                    return function(*args, **kwargs)
            except BertCrfError as err:
                print_error(str(err))
                raise typer.Exit(1) from err
            except OSError as err:
                file = os.fsdecode(err.filename) if err.filename else "the system"
                print_error(f"{file}: {err.strerror or err}. Nothing half-written is left.")
                raise typer.Exit(1) from err
            except MemoryError as err:
                print_error("not enough memory. Nothing half-written is left.")
                raise typer.Exit(1) from err
            except RuntimeError as err:  # Typer's own Exit and Abort are some, too
                if message := _full_memory(err):
                    print_error(message)
                    raise typer.Exit(1) from err
                raise
            except KeyboardInterrupt as err:
                print_error("interrupted; nothing half-written is left")
                raise typer.Exit(exit_status(err)) from None

        cli.command(name, **settings)(run)
        return function

    return add


def _full_memory(err: RuntimeError) -> str:
    """What to lower where an error says that the memory of a device is full; else empty."""
    if "torch" not in sys.modules:
        return ""
    from .._memory import is_out_of_memory, what_to_lower

    return what_to_lower(err) if is_out_of_memory(err) else ""


def print_error(message: str) -> None:
    """Print an error message to stdout. Its lines are not wrapped.

    wasabi's `msg.fail` would wrap it at 80 characters, within lists and paths.
    """
    first, *others = locale_escape(f"✘ {message}").splitlines()
    typer.secho(first, fg=typer.colors.RED)
    for line in others:
        typer.echo(line)


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file, indented, by rename."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


class _Print(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


@contextmanager
def _messages() -> Iterator[None]:
    """Within the block, messages that the package logs are printed."""
    logger = logging.getLogger("spacy_bert_crf")
    handler, level = _Print(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
