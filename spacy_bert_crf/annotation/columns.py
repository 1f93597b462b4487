"""Column files (`字 TAG`, a blank line between sentences): their rows, schemes and entities.

Pure Python. Lines are split at LF only, and columns at one space or tab only. U+3000, U+2028,
U+0085 and similar characters belong to the corpus, but str.split, str.strip and str.splitlines
would remove them.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

from ..errors import BertCrfError
from .schemes import SCHEMES, EntitySpan, Role, TagSet, split_tag

#: Keys of schemes.SCHEMES by their names on the command line, the smallest scheme first.
SCHEME_NAMES = {"bio": "BIO", "bmes": "BMES", "bioes": "BIOES", "bilu": "BILUO"}
#: The byte order mark.
BOM = "\ufeff"


class Row(NamedTuple):
    """One line of a column file. A tag that can't be read has an empty prefix.

    line: line number, from 1.
    token: first column.
    prefix: prefix of the tag, "O" for the tag O.
    label: label of the tag, empty for O.
    wrong: what is wrong with the line, or "".
    """

    line: int
    token: str
    prefix: str
    label: str
    wrong: str = ""


class Problem(NamedTuple):
    """Something wrong in a corpus.

    line: line number, or the index of the doc in a DocBin.
    message: what is wrong.
    repairable: whether `--on-error repair` can correct it.
    """

    line: int
    message: str
    repairable: bool = False


def read_columns(path: Path, join: str = "") -> list[list[Row]]:
    """The sentences of a column file, which one or more blank lines separate.

    join: the text between two tokens, "" or " ". With "", each token must be one character.
    Raises BertCrfError if the file can't be read, is not UTF-8 or has no sentences.
    """
    data = read_bytes(path)
    try:
        text = data.decode("utf8").removeprefix(BOM)
    except UnicodeDecodeError as err:
        lines = data.count(b"\n", 0, err.start)
        raise BertCrfError(
            f"{path}:{lines + 1}: invalid UTF-8 at byte {err.start} (0x{data[err.start]:02x}). "
            "Save the file as UTF-8 first, for example by `iconv -f GB18030 -t UTF-8`."
        ) from None
    sentences: list[list[Row]] = [[]]
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line.strip(" \t\r"):
            sentences[-1].append(_parse_line(number, line, join))
        elif sentences[-1]:
            sentences.append([])
    if not sentences[-1]:
        sentences.pop()
    if not sentences:
        raise BertCrfError(f"{path}: file has no sentences: choose a file with tokens and tags.")
    return sentences


def detect_scheme(sentences: Iterable[Sequence[Row]]) -> str:
    """The smallest scheme with all prefixes that occur, as a key of SCHEME_NAMES. `bio` if none do.

    Prefixes that no scheme has do not count here: `read_spans` reports them as bad lines.
    Raises BertCrfError if no scheme has all the prefixes.
    """
    known = {prefix for roles in SCHEMES.values() for prefix in roles}
    first: dict[str, int] = {}
    for row in chain.from_iterable(sentences):
        if row.prefix in known:
            first.setdefault(row.prefix, row.line)
    for name, key in SCHEME_NAMES.items():
        if first.keys() <= SCHEMES[key].keys():
            return name
    found = ", ".join(f"{prefix} (line {line})" for prefix, line in first.items())
    schemes = "; ".join(f"{name}: {_prefixes(name)}" for name in SCHEME_NAMES)
    raise BertCrfError(
        f"no tag scheme has all of the prefixes {found}. Known are {schemes}. Choose one by "
        "--scheme to see the lines that don't fit it."
    )


def read_spans(rows: Sequence[Row], scheme: str) -> tuple[list[EntitySpan], list[Problem]]:
    """The entities of a sentence, repaired, and the problems of its rows.

    An orphan continuation begins an entity, and an unfinished entity ends at its last token. If a
    tag can't be read, there are no entities.

    rows: the sentence.
    scheme: a key of SCHEME_NAMES.
    """
    tag_set = make_tag_set((row.label for row in rows if row.label), scheme)
    roles = {**SCHEMES[tag_set.scheme], "O": Role.OUT}
    outside = Row(0, "", "O", "")
    problems: list[Problem] = []
    for before, row in pairwise([outside, *rows, outside]):
        if row.wrong:
            problems.append(Problem(row.line, row.wrong))
        if row.prefix and row.prefix not in roles:
            message = f"unknown tag prefix {row.prefix!r} (scheme {scheme}: {_prefixes(scheme)})"
            problems.append(Problem(row.line, f"{message}: {_quote_row(row)}"))
        if before.prefix not in roles or row.prefix not in roles:
            continue  # Any tag may be next to one that can't be read.
        opened = roles[before.prefix] in (Role.BEGIN, Role.INSIDE)
        continuation = roles[row.prefix] in (Role.INSIDE, Role.LAST)
        continued = opened and continuation and before.label == row.label
        if opened and not continued and tag_set.has_last:
            message = f"unfinished entity, nothing continues {_quote_row(before)}"
            problems.append(Problem(before.line, message, repairable=True))
        if continuation and not continued:
            message = f"orphan continuation, no entity of this label before {_quote_row(row)}"
            problems.append(Problem(row.line, message, repairable=True))
    if any(row.prefix not in roles for row in rows):
        return [], problems
    return tag_set.decode([tag_set.ids[roles[row.prefix], row.label] for row in rows]), problems


def make_tag_set(labels: Iterable[str], scheme: str) -> TagSet:
    """The tags of some labels.

    labels: entity types, which are sorted.
    scheme: a key of SCHEME_NAMES.
    """
    return TagSet(tuple(sorted(set(labels))), SCHEME_NAMES[scheme])


def read_bytes(path: Path, size: int = -1) -> bytes:
    """The first `size` bytes of a file, all for -1. Raises BertCrfError if it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as err:
        raise BertCrfError(
            f"can't read {path}: {err.strerror or err}. Name a file that can be read."
        ) from err


def has_space(text: str) -> bool:
    """Whether a text contains whitespace of any kind."""
    return any(char.isspace() for char in text)


def quote(text: str) -> str:
    """A text as messages show it: quoted, and cut after 60 characters."""
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _parse_line(number: int, line: str, join: str) -> Row:
    """The row of a line that is not blank."""
    cut = max(line.rfind(" "), line.rfind("\t"))
    token, tag = (line, "") if cut < 0 else (line[:cut], line[cut + 1 :])
    prefix, label, wrong = _parse_tag(tag)
    if tag:
        wrong = "; ".join(filter(None, (_token_problem(token, join), wrong)))
    return Row(number, token, prefix, label, wrong and f"{wrong}: {quote(line)}")


def _token_problem(token: str, join: str) -> str:
    if not token:
        return "there is no token before the tag"
    if not join and len(token) == 1:
        return "a carriage return is no character" if token == "\r" else ""
    separators = token.count(" ") + token.count("\t")
    if separators:
        return f"{separators + 2} columns instead of 2 (one space or tab separates them)"
    if not join:
        return f"{len(token)} characters in the character column"
    return "whitespace in the word" if has_space(token) else ""


@lru_cache(maxsize=4096)
def _parse_tag(tag: str) -> tuple[str, str, str]:
    """Prefix and label, empty if the tag can't be read, and what is wrong with it or ""."""
    if not tag:
        return "", "", "no tag"
    if has_space(tag):
        return "", "", f"whitespace in the tag {tag!r}"
    if tag.startswith("O-"):
        return "", "", f"tag {tag!r} gives O a label"
    try:
        return *split_tag(tag), ""
    except BertCrfError as err:
        return "", "", str(err).rstrip(".")


def _prefixes(scheme: str) -> str:
    return ", ".join(SCHEMES[SCHEME_NAMES[scheme]])


def _quote_row(row: Row) -> str:
    return quote(f"{row.token} {row.prefix}-{row.label}")
