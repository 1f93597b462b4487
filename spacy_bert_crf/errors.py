"""The exception that this package raises for bad input, and helpers for error messages."""

from collections.abc import Sequence


class BertCrfError(ValueError):
    """Bad input: a file, a setting or a model that can't be used as it is.

    The message says what is wrong, where (file, line, entity, key) and what to do. In a message of
    several lines, each problem has a line of its own. The commands print the message without a
    traceback and end with exit status 1.
    """


def first_of(problems: Sequence[str], limit: int = 10) -> list[str]:
    """The first problems of a list, for a message, and a line with the number of the others.

    problems: one line for each problem.
    limit: largest number of problems to keep.
    """
    others = len(problems) - limit
    return [*problems[:limit], *([f"... and {others:,} more"] if others > 0 else [])]


def first_line(err: BaseException) -> str:
    """The first line of an error's message, or the name of its class if it has none.

    Libraries add advice and tracebacks of their own below the first line. The message of a KeyError
    is only the key, so that the line adds what is wrong with it.
    """
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    if not lines:
        return type(err).__name__
    return f"no entry {lines[0]}" if isinstance(err, KeyError) else lines[0]


def quote(text: str) -> str:
    """A text as messages show it: quoted, and cut after 60 characters."""
    return repr(text if len(text) <= 60 else text[:60] + "…")
