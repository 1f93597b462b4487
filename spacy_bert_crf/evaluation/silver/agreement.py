"""What sources agree on: entities, and tokens of which nothing is known.

Everything here counts in tokens and knows no spaCy. The order of the sources does not matter.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum, inf, isfinite
from typing import Optional

from ...errors import BertCrfError

#: An entity as (start, end, label), in tokens; the end is exclusive.
Span = tuple[int, int, str]
#: Rules: no source is against it; more weight is for it than against it.
ALL, MAJORITY = "all", "majority"
#: What a source says of a span: it is an entity, it is none, nothing.
FOR, AGAINST, SILENT = 1, -1, 0


@dataclass(frozen=True)
class Opinion:
    """What a source says of a text.

    entities: its entities, without overlaps.
    covers: labels of which it would have found every entity, so that its silence means "none". None
        for all labels. The empty set is for a source that finds some entities only.
    doubts: (start, end) of tokens of which it says nothing.
    denied: spans that are no entity of their label.
    parts: whether its entities may be parts of longer ones, as names of a dictionary may. It is not
        against a longer entity then.
    """

    entities: tuple[Span, ...]
    covers: Optional[frozenset[str]] = None
    doubts: tuple[tuple[int, int], ...] = ()
    denied: frozenset[Span] = frozenset()
    parts: bool = False

    def is_covered(self, label: str) -> bool:
        """Whether it would have found every entity of this label."""
        return self.covers is None or label in self.covers

    @cached_property
    def _places(self) -> dict[int, Span]:
        """The entity of each token that has one."""
        return {i: span for span in self.entities for i in range(span[0], span[1])}

    @cached_property
    def _doubtful(self) -> set[int]:
        return {i for start, end in self.doubts for i in range(start, end)}

    @cached_property
    def _own(self) -> frozenset[Span]:
        return frozenset(self.entities)

    def near(self, start: int, end: int) -> list[Span]:
        """Its entities that have a token from `start` to `end - 1`, in order."""
        places = self._places
        return list(dict.fromkeys(places[i] for i in range(start, end) if i in places))

    def stance(self, span: Span) -> int:
        """What it says of a span: FOR, AGAINST or SILENT.

        It is against a span that overlaps another entity of its own. Without one, it is against
        spans of labels that it covers, unless it is in doubt there.
        """
        start, end, label = span
        if span in self._own:
            return FOR
        if span in self.denied:
            return AGAINST
        if near := self.near(start, end):
            is_whole = self.parts and all(is_part(each, span) for each in near)
            return SILENT if is_whole else AGAINST
        if any(i in self._doubtful for i in range(start, end)):
            return SILENT
        return AGAINST if self.is_covered(label) else SILENT


@dataclass(frozen=True)
class Rule:
    """When a span is an entity.

    least: the least weight of sources that are for it, whoever is against it. 0 without such a
        bound.
    majority: more weight must be for it than against it. Without either, nobody may be against it.
    """

    least: float = 0.0
    majority: bool = False

    @classmethod
    def of(cls, text: str) -> "Rule":
        """The rule of `all`, `majority` or a number. Raises BertCrfError for another text."""
        if text in (ALL, MAJORITY):
            return cls(majority=text == MAJORITY)
        try:
            least = float(text)
        except ValueError:
            least = -inf
        if not (least > 0 and isfinite(least)):
            raise BertCrfError(
                f"the agreement {text!r} is not known: use {ALL}, {MAJORITY}, or the number of "
                "sources that must find an entity, such as 2."
            )
        return cls(least)

    def takes(self, support: float, against: float) -> bool:
        """Whether a span with these sums of weights is an entity."""
        if self.least:
            return support >= self.least
        return support > against if self.majority else not against


@dataclass(frozen=True)
class Agreement:
    """What sources agree on.

    entities: the entities, in order and without overlaps.
    doubts: (start, end) of what they do not agree on, in order: unions of overlapping spans. Tokens
        of entities may be among them, and are no doubt.
    unknown: the tokens of doubts that are in no entity, in order.
    covers: labels whose absence is known from the other tokens; None for all. If it is empty, the
        other tokens are unknown as well.
    """

    entities: tuple[Span, ...]
    doubts: tuple[tuple[int, int], ...]
    unknown: tuple[int, ...]
    covers: Optional[frozenset[str]]


def agree(
    opinions: Sequence[Optional[Opinion]],
    rule: Optional[Rule] = None,
    weights: Optional[Sequence[float]] = None,
) -> Agreement:
    """What sources agree on.

    A span that the rule takes is an entity. The tokens of other spans that a source has are
    unknown, and so are tokens that a source doubts, unless they are in an entity. If two spans that
    overlap are both taken, neither is. The other tokens are outside. A name that may be a part of a
    longer entity is no disagreement with it.

    opinions: what each source says; None for one that failed. At least one must not be None.
    rule: the rule; None for "nobody is against it".
    weights: of each source, above 0; None for 1 each.
    """
    rule = rule or Rule()
    weights = [1.0] * len(opinions) if weights is None else weights
    heard = [(each, w) for each, w in zip(opinions, weights, strict=True) if each is not None]
    spans = sorted({span for opinion, _ in heard for span in opinion.entities})
    taken = []
    for span in spans:
        stances = [(opinion.stance(span), weight) for opinion, weight in heard]
        support, against = (
            fsum(weight for stance, weight in stances if stance == side) for side in (FOR, AGAINST)
        )
        if rule.takes(support, against):
            taken.append(span)
    entities = tuple(_alone(taken))
    kept = frozenset(entities)
    whole = {span for opinion, _ in heard if not opinion.parts for span in opinion.entities}
    left = [
        span[:2]
        for span in spans
        if span not in kept
        and (span in whole or not any(is_part(span, entity) for entity in entities))
    ]
    doubts = tuple(unions([*left, *(part for opinion, _ in heard for part in opinion.doubts)]))
    known = {i for start, end, _ in entities for i in range(start, end)}
    unknown = tuple(i for start, end in doubts for i in range(start, end) if i not in known)
    covers = [opinion.covers for opinion, _ in heard]
    every = None if None in covers else frozenset().union(*(each or () for each in covers))
    return Agreement(entities, doubts, unknown, every)


def is_part(span: Span, whole: Span) -> bool:
    """Whether a span lies in a longer one."""
    return whole[0] <= span[0] and span[1] <= whole[1] and span[:2] != whole[:2]


def _alone(spans: Sequence[Span]) -> Iterator[Span]:
    """The spans that overlap no other one. They are sorted by their starts."""
    ends = [0]
    for span in spans:
        ends.append(max(ends[-1], span[1]))
    for i, (start, end, label) in enumerate(spans):
        if ends[i] <= start and (i + 1 == len(spans) or spans[i + 1][0] >= end):
            yield start, end, label


def unions(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The unions of parts that overlap, in order. Parts that only touch stay apart."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
