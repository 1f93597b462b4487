"""Sources compared two by two, and the places where they do not agree."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from .agreement import SILENT, Agreement, Opinion, Span, is_part

#: How two sources compare in a span: both have it, only one of them has it, they have other
#: borders, they have the same borders and other labels.
SAME, FIRST, SECOND = "same", "only_first", "only_second"
BORDERS, LABEL = "other_borders", "other_label"
KINDS = (SAME, FIRST, SECOND, BORDERS, LABEL)


class Disagreement(NamedTuple):
    """A place where sources do not agree.

    start, end: its tokens; the end is exclusive.
    said: the entities of each source that have a token there; None for a source that failed.
    """

    start: int
    end: int
    said: tuple[Optional[tuple[Span, ...]], ...]


def compare(first: Opinion, second: Opinion) -> Iterator[tuple[str, str]]:
    """Compare two sources. RETURNS: label and kind, one of KINDS, of each span of either.

    A span of which the other source says nothing is left out, and so is a name that may be a part
    of a longer entity. Overlapping spans of one label and
    other borders count once. With other labels they count for both labels.
    """
    for own, other, alone in ((first, second, FIRST), (second, first, SECOND)):
        for span in own.entities:
            near = other.near(span[0], span[1])
            if span in near:
                if own is first:
                    yield span[2], SAME
            elif any(each[:2] == span[:2] for each in near):
                yield span[2], LABEL
            elif near:
                is_inside = own.parts and all(is_part(span, each) for each in near)
                if is_inside or other.stance(span) == SILENT:
                    continue
                if own is first or all(each[2] != span[2] for each in near):
                    yield span[2], BORDERS
            elif other.stance(span):
                yield span[2], alone


def disagreements(
    opinions: Sequence[Optional[Opinion]], agreement: Agreement
) -> list[Disagreement]:
    """The places where sources do not agree, in order, and what each of them says there."""
    return [
        Disagreement(
            start,
            end,
            tuple(None if each is None else tuple(each.near(start, end)) for each in opinions),
        )
        for start, end in agreement.doubts
    ]
