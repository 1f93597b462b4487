"""Tags of tokens: their spelling, their scheme, and the entities of a sequence of tags."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from typing import NamedTuple

from ..errors import BertCrfError, quote
from .schemes import SCHEMES, EntitySpan, Role, TagSet, has_space, split_tag

#: Keys of schemes.SCHEMES by their names on the command line, the smallest scheme first.
SCHEME_NAMES = {"bio": "BIO", "bmes": "BMES", "bioes": "BIOES", "bilu": "BILUO"}
#: The scheme of CoNLL-2003's first edition: B only separates an entity from one before it.
IOB1 = "iob1"
_PREFIX = f"([{''.join(sorted({prefix for roles in SCHEMES.values() for prefix in roles}))}])"
#: Spellings of a tag, the usual one first.
_STYLES = {
    "B-PER": re.compile(f"{_PREFIX}-(.+)", re.DOTALL),
    "B_PER": re.compile(f"{_PREFIX}_(.+)", re.DOTALL),
    "PER-B": re.compile(f"(.+)-{_PREFIX}", re.DOTALL),
    "PER_B": re.compile(f"(.+)_{_PREFIX}", re.DOTALL),
}
STYLES = tuple(_STYLES)


class Row(NamedTuple):
    """A token and its tag. A tag that can't be read has an empty prefix.

    line: line number, from 1.
    token: the token.
    prefix: prefix of the tag, "O" for the tag O.
    label: label of the tag, empty for O.
    wrong: what is wrong with the line, or "".
    """

    line: int
    token: str
    prefix: str
    label: str
    wrong: str = ""


class TagProblem(NamedTuple):
    """Something wrong with a row.

    line: line number.
    message: what is wrong.
    repairable: whether entities can still be read from the sentence.
    """

    line: int
    message: str
    repairable: bool = False


def find_style(tags: Iterable[str]) -> str:
    """The spelling of most tags, one of STYLES. The usual one if none fits."""
    counts = Counter(
        style for tag in tags for style, form in _STYLES.items() if form.fullmatch(tag)
    )
    return max(STYLES, key=lambda style: counts[style])


def is_tag(text: str) -> bool:
    """Whether a text is a tag of any spelling."""
    return text == "O" or any(form.fullmatch(text) for form in _STYLES.values())


@lru_cache(maxsize=4096)
def parse_tag(tag: str, style: str = "B-PER") -> tuple[str, str, str]:
    """Prefix and label, empty if the tag can't be read, and what is wrong with it or "".

    style: one of STYLES.
    """
    if not tag:
        return "", "", "no tag"
    if has_space(tag):
        return "", "", f"whitespace in the tag {tag!r}"
    if style != "B-PER" and tag != "O":
        match = _STYLES[style].fullmatch(tag)
        if not match:
            return "", "", f"tag {tag!r} is neither O nor of the form {style}"
        first, second = match.groups()
        return (first, second, "") if style.startswith("B") else (second, first, "")
    if tag.startswith("O-"):
        return "", "", f"tag {tag!r} gives O a label"
    try:
        return *split_tag(tag), ""
    except BertCrfError as err:
        return "", "", str(err).rstrip(".")


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


def is_iob1(sentences: Iterable[Sequence[Row]]) -> bool:
    """Whether BIO tags follow the older rule IOB1: B only after an entity of the same label.

    Both rules fit tags in which no entity begins; such tags are BIO.
    """
    orphans = False
    for rows in sentences:
        before = ("O", "")
        for row in rows:
            here = (row.prefix, row.label)
            if row.prefix == "B" and (before[0] == "O" or before[1] != row.label):
                return False
            if row.prefix == "I" and (before[0] == "O" or before[1] != row.label):
                orphans = True
            if row.prefix:
                before = here
    return orphans


def read_spans(rows: Sequence[Row], scheme: str) -> tuple[list[EntitySpan], list[TagProblem]]:
    """The entities of a sentence, repaired, and the problems of its rows.

    An orphan continuation begins an entity, and an unfinished entity ends at its last token. If a
    tag can't be read, there are no entities.

    rows: the sentence.
    scheme: a key of SCHEME_NAMES, or IOB1. In IOB1 a continuation may begin an entity.
    """
    tag_set = make_tag_set((row.label for row in rows if row.label), scheme)
    roles = {**SCHEMES[tag_set.scheme], "O": Role.OUT}
    outside = Row(0, "", "O", "")
    problems: list[TagProblem] = []
    for before, row in pairwise([outside, *rows, outside]):
        if row.wrong:
            problems.append(TagProblem(row.line, row.wrong))
        if row.prefix and row.prefix not in roles:
            message = f"unknown tag prefix {row.prefix!r} (scheme {scheme}: {_prefixes(scheme)})"
            problems.append(TagProblem(row.line, f"{message}: {_quote_row(row)}"))
        if before.prefix not in roles or row.prefix not in roles:
            continue  # Any tag may be next to one that can't be read.
        opened = roles[before.prefix] in (Role.BEGIN, Role.INSIDE)
        continuation = roles[row.prefix] in (Role.INSIDE, Role.LAST)
        continued = opened and continuation and before.label == row.label
        if opened and not continued and tag_set.has_last:
            message = f"unfinished entity, nothing continues {_quote_row(before)}"
            problems.append(TagProblem(before.line, message, repairable=True))
        if continuation and not continued and scheme != IOB1:
            message = f"orphan continuation, no entity of this label before {_quote_row(row)}"
            problems.append(TagProblem(row.line, message, repairable=True))
    if any(row.prefix not in roles for row in rows):
        return [], problems
    return tag_set.decode([tag_set.ids[roles[row.prefix], row.label] for row in rows]), problems


def make_tag_set(labels: Iterable[str], scheme: str) -> TagSet:
    """The tags of some labels.

    labels: entity types, which are sorted.
    scheme: a key of SCHEME_NAMES. IOB1 has the tags of `bio`.
    """
    return TagSet(tuple(sorted(set(labels))), SCHEME_NAMES["bio" if scheme == IOB1 else scheme])


def _prefixes(scheme: str) -> str:
    return ", ".join(SCHEMES[SCHEME_NAMES["bio" if scheme == IOB1 else scheme]])


def _quote_row(row: Row) -> str:
    return quote(f"{row.token} {row.prefix}-{row.label}")
