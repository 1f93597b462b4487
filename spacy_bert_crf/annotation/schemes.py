"""Tag schemes: the tags of some labels, legal transitions, spans to tag ids and back.

Pure Python. A tag is `O`, or a one-letter prefix, a hyphen and the label (`B-LOC`). Only the first
hyphen counts, so labels may contain hyphens and dots.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from typing import NamedTuple

from ..errors import BertCrfError


class Role(Enum):
    """The place of a token in an entity, which its tag encodes."""

    OUT = "out"
    BEGIN = "begin"
    INSIDE = "inside"
    LAST = "last"
    UNIT = "unit"


#: The role of each prefix, by scheme. BIO does not mark the last token of an entity.
SCHEMES: dict[str, dict[str, Role]] = {
    "BIO": {"B": Role.BEGIN, "I": Role.INSIDE},
    "BIOES": {"B": Role.BEGIN, "I": Role.INSIDE, "E": Role.LAST, "S": Role.UNIT},
    "BMES": {"B": Role.BEGIN, "M": Role.INSIDE, "E": Role.LAST, "S": Role.UNIT},
    "BILUO": {"B": Role.BEGIN, "I": Role.INSIDE, "L": Role.LAST, "U": Role.UNIT},
}


class EntitySpan(NamedTuple):
    """An entity over tokens `start` to `end - 1`."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class TagSet:
    """The tags of some labels under a scheme, in id order: `O`, then the tags of each label.

    K is the number of tags.

    labels: entity types. Their order decides the tag ids.
    scheme: a key of SCHEMES.
    Raises BertCrfError for an unknown scheme, an empty or a repeated label.
    """

    labels: tuple[str, ...]
    scheme: str = "BIO"

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise BertCrfError(
                f"unknown tag scheme {self.scheme!r}: use one of {', '.join(SCHEMES)}."
            )
        if any(not isinstance(label, str) or not label.strip() for label in self.labels):
            raise BertCrfError(
                f"an entity label is empty or no string: {list(self.labels)!r}. Name each label."
            )
        if len(set(self.labels)) != len(self.labels):
            raise BertCrfError(
                f"an entity label occurs twice: {list(self.labels)!r}. Name each label once."
            )

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """All tags in id order."""
        prefixes = SCHEMES[self.scheme]
        return ("O", *(f"{prefix}-{label}" for label in self.labels for prefix in prefixes))

    @cached_property
    def roles(self) -> tuple[tuple[Role, str], ...]:
        """(role, label) of each tag id; the label of `O` is empty."""
        prefixes = SCHEMES[self.scheme]
        return ((Role.OUT, ""), *((r, label) for label in self.labels for r in prefixes.values()))

    @cached_property
    def ids(self) -> dict[tuple[Role, str], int]:
        """Tag id of each (role, label)."""
        return {role: i for i, role in enumerate(self.roles)}

    @cached_property
    def has_last(self) -> bool:
        """Whether the scheme marks the last token of an entity."""
        return Role.LAST in SCHEMES[self.scheme].values()

    @cached_property
    def marking_last(self) -> "TagSet":
        """The tags of these labels that mark the last token: its own, else those of BIOES. K' tags.

        Each legal sequence of tags here is one legal sequence there, and the other way round.
        """
        return self if self.has_last else tag_set_of(self.labels, "BIOES")

    @cached_property
    def of_marking_last(self) -> list[int]:
        """The tag here of each tag of `marking_last`. [K']"""
        first = {Role.UNIT: Role.BEGIN, Role.LAST: Role.INSIDE}
        return [
            self.ids.get((role, label), self.ids.get((first.get(role, role), label), 0))
            for role, label in self.marking_last.roles
        ]

    @cached_property
    def parts(self) -> dict[str, tuple[int, int, int, int]]:
        """Tag ids of each label: of its only token, of its first, inner and last token."""
        found = {}
        for label in self.labels:
            begin, inside = self.ids[Role.BEGIN, label], self.ids[Role.INSIDE, label]
            unit = self.ids.get((Role.UNIT, label), begin)
            found[label] = unit, begin, inside, self.ids.get((Role.LAST, label), inside)
        return found

    def begins(self) -> list[bool]:
        """Whether each tag begins an entity. [K]"""
        return [role in (Role.BEGIN, Role.UNIT) for role, _ in self.roles]

    def legal(self) -> tuple[list[bool], list[bool], list[list[bool]]]:
        """Which tags may begin a sequence, which may end it, and which may follow which.

        RETURNS: start [K], end [K], transitions [from][to] [K, K].
        """
        start = [role in (Role.OUT, Role.BEGIN, Role.UNIT) for role, _ in self.roles]
        end = [not self._is_open(role) for role, _ in self.roles]
        return start, end, [[self._may_follow(a, b) for b in self.roles] for a in self.roles]

    def inside(self) -> list[list[bool]]:
        """Whether no entity begins or ends between two tags, as `decode` reads them.

        RETURNS: [from][to] [K, K].
        """
        opened, continued = (Role.BEGIN, Role.INSIDE), (Role.INSIDE, Role.LAST)
        return [
            [
                a is b is Role.OUT or (a in opened and b in continued and label == other)
                for b, other in self.roles
            ]
            for a, label in self.roles
        ]

    def begun(self) -> list[list[bool]]:
        """Whether an entity begins at the second of two tags, as `decode` reads them.

        RETURNS: [from][to] [K, K].
        """
        inside = self.inside()
        return [
            [bool(label) and not within for (_, label), within in zip(self.roles, row, strict=True)]
            for row in inside
        ]

    def label_ids(self) -> list[int]:
        """The number of each tag's label, from 1; 0 for `O`. [K]"""
        numbers = {label: i for i, label in enumerate(("", *self.labels))}
        return [numbers[label] for _, label in self.roles]

    def encode(self, spans: Iterable[tuple[int, int, str]], length: int) -> list[int]:
        """Tag ids of a sequence.

        spans: its entities (start, end, label), in tokens.
        length: its number of tokens.
        RETURNS: the tag ids. [length]
        Raises BertCrfError for spans that overlap, are empty, lie outside or have another label.
        """
        out = [0] * length
        taken = 0
        for start, end, label in sorted(spans):
            if not 0 <= start < end <= length:
                raise BertCrfError(f"entity {label!r} at {start}:{end} lies outside 0:{length}.")
            if start < taken:
                raise BertCrfError(f"entity {label!r} at {start}:{end} overlaps another one.")
            if label not in self.labels:
                raise BertCrfError(f"entity label {label!r} is not among {list(self.labels)}.")
            out[start:end] = self.span_tags(end - start, label)
            taken = end
        return out

    def span_tags(self, length: int, label: str) -> list[int]:
        """Tag ids of one entity.

        length: its number of tokens, 1 or more.
        label: its entity type, one of `labels`.
        RETURNS: the tag ids. [length]
        """
        unit, begin, inside, last = self.parts[label]
        return [unit] if length == 1 else [begin, *[inside] * (length - 2), last]

    def closing(self, label: str) -> list[bool]:
        """Whether an entity of this label is complete when each tag follows its last token. [K]

        Under BIO an I- tag of the label would continue it. Other schemes mark the last token.

        label: the entity type, one of `labels`.
        """
        return [
            self.has_last or role is not Role.INSIDE or other != label for role, other in self.roles
        ]

    def decode(self, tag_ids: Sequence[int]) -> list[EntitySpan]:
        """Entities of a sequence of tag ids.

        Any sequence can be decoded. A continuation without a beginning starts an entity, as in
        conlleval. Only unconstrained decoding returns such sequences.

        tag_ids: the tag id of each token. [tokens]
        RETURNS: the entities in order.
        """
        roles = self.roles
        spans: list[EntitySpan] = []
        start, current = -1, ""
        for i, tag_id in enumerate(tag_ids):
            if tag_id == 0 and start < 0:  # The case of nearly all tokens.
                continue
            role, label = roles[tag_id]
            continues = role in (Role.INSIDE, Role.LAST) and start >= 0 and label == current
            if start >= 0 and not continues:
                spans.append(EntitySpan(start, i, current))
                start = -1
            if role is not Role.OUT and not continues:
                start, current = i, label
            if role in (Role.LAST, Role.UNIT):
                spans.append(EntitySpan(start, i + 1, current))
                start = -1
        if start >= 0:
            spans.append(EntitySpan(start, len(tag_ids), current))
        return spans

    def _is_open(self, role: Role) -> bool:
        """Whether the entity must continue after a tag of this role."""
        return self.has_last and role in (Role.BEGIN, Role.INSIDE)

    def _may_follow(self, before: tuple[Role, str], after: tuple[Role, str]) -> bool:
        if after[0] in (Role.INSIDE, Role.LAST):
            return before[0] in (Role.BEGIN, Role.INSIDE) and before[1] == after[1]
        return not self._is_open(before[0])


@lru_cache(maxsize=64)
def tag_set_of(labels: tuple[str, ...], scheme: str) -> TagSet:
    """The TagSet of these labels, made once. Raises BertCrfError as TagSet does."""
    return TagSet(labels, scheme)


def split_tag(tag: str) -> tuple[str, str]:
    """`B-LOC` → (`B`, `LOC`); `O` → (`O`, ``). Only the first hyphen counts.

    Raises BertCrfError for a tag that is neither `O` nor prefix, hyphen, label.
    """
    if tag == "O":
        return "O", ""
    prefix, hyphen, label = tag.partition("-")
    if not hyphen or not prefix or not label:
        raise BertCrfError(f"tag {tag!r} is neither O nor a prefix, a hyphen and a label.")
    return prefix, label


def tag_set_from_tags(tags: Sequence[str], scheme: str) -> TagSet:
    """The TagSet whose tags in id order are exactly these.

    Raises BertCrfError if there is none: another order, another scheme, or a missing tag.
    """
    labels = list(dict.fromkeys(split_tag(tag)[1] for tag in tags if tag != "O"))
    tag_set = TagSet(tuple(labels), scheme)
    if list(tag_set.tags) != list(tags):
        raise BertCrfError(
            f"tags {list(tags)} are not those of scheme {scheme} in order; "
            f"expected {list(tag_set.tags)}."
        )
    return tag_set


def has_space(text: str) -> bool:
    """Whether a text contains whitespace of any kind."""
    return any(char.isspace() for char in text)
