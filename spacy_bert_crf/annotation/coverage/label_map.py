"""Labels of a corpus by other names: several become one, and some are dropped."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

from ...errors import BertCrfError
from .covers import covers_of, set_covers

if TYPE_CHECKING:
    from spacy.tokens import Doc

    from ..formats.text import AnnotatedText

#: Stands for all labels that are not named.
REST = "*"


@dataclass(frozen=True)
class LabelMap:
    """How the labels of a corpus become those of a pipeline.

    names: new name of each label that gets one. Several labels may get the same.
    outside: labels whose entities are dropped. Their tokens are annotated as no entity.
    unknown: labels whose entities are dropped. Nothing is known of their tokens.

    REST in `outside` or `unknown` stands for all labels that none of the three names.
    Raises BertCrfError for an empty label, or one that is named twice.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    outside: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        groups = (set(self.names), self.outside, self.unknown)
        if not all(label.strip() for label in (*self.names.values(), *set().union(*groups))):
            raise BertCrfError("the label map has an empty label: write OLD=NEW,OLD=NEW.")
        twice = {
            label for group in groups for label in group if sum(label in g for g in groups) > 1
        }
        if twice or REST in self.names:
            named = ", ".join(sorted(twice)) or REST
            raise BertCrfError(
                f"the label map names {named} twice or in the wrong place: a label is either "
                f"renamed, outside or unknown, and {REST} can only be outside or unknown."
            )

    @classmethod
    def of(
        cls,
        names: Optional[Mapping[str, str]] = None,
        outside: Iterable[str] = (),
        unknown: Iterable[str] = (),
    ) -> "LabelMap":
        """The map of plain settings. Raises BertCrfError as LabelMap does."""
        return cls(dict(names or {}), frozenset(outside), frozenset(unknown))

    def __bool__(self) -> bool:
        return bool(self.names or self.outside or self.unknown)

    def fate(self, label: str) -> tuple[str, bool]:
        """The new name of a label, "" if it is dropped; and whether its tokens become unknown."""
        if label in self.names:
            return self.names[label], False
        if label in self.outside or label in self.unknown:
            return "", label in self.unknown
        # A name that labels are mapped to is a label of the pipeline, and stays.
        is_rest = label not in self.names.values() and REST in (self.outside | self.unknown)
        return ("", REST in self.unknown) if is_rest else (label, False)

    def covers(
        self, covered: Optional[frozenset[str]], labels: Collection[str] = ()
    ) -> Optional[frozenset[str]]:
        """The labels that a text covers by their new names.

        A label into which several are mapped is covered if all of them are.

        covered: the labels that the text covers by their old names; None for all.
        labels: old names of the corpus. A label that is no new name of others is its own old name.
        """
        if covered is None:
            return None
        sources: dict[str, set[str]] = {}
        for old in {*self.names, *covered, *labels}:
            new, _ = self.fate(old)
            if new:
                sources.setdefault(new, set()).add(old)
        return frozenset(new for new, old in sources.items() if old <= covered)

    def apply(self, item: "AnnotatedText") -> "AnnotatedText":
        """A text with the new labels. The text itself stays as it is."""
        from dataclasses import replace

        entities, unknown = [], list(item.unknown)
        for entity in item.entities:
            label, is_unknown = self.fate(entity.label)
            if label:
                entities.append(entity._replace(label=label))
            elif is_unknown:
                unknown.append((entity.start, entity.end))
        # A partial text has no unknown parts of its own: all outside of its entities is unknown.
        unknown = [] if item.partial else sorted(unknown)
        covers = self.covers(item.covers, [entity.label for entity in item.entities])
        return replace(item, entities=entities, unknown=unknown, covers=covers)

    def apply_to_doc(self, doc: "Doc") -> None:
        """Give a doc the new labels. It is changed."""
        from spacy.tokens import Span

        ents, old = [], [ent.label_ for ent in doc.ents]
        is_missing = [token.ent_iob == 0 for token in doc]
        for ent in doc.ents:
            label, is_unknown = self.fate(ent.label_)
            if label:
                ents.append(Span(doc, ent.start, ent.end, label=label))
            elif is_unknown:
                is_missing[ent.start : ent.end] = [True] * len(ent)
        if doc.has_annotation("ENT_IOB"):
            missing = [doc[i : i + 1] for i, each in enumerate(is_missing) if each]
            doc.set_ents(ents, missing=missing, default="outside")
        set_covers(doc, self.covers(covers_of(doc), old))


def parse_names(text: str) -> dict[str, str]:
    """The new names of `PERSON=PER,GPE=LOC`. Raises BertCrfError for other texts."""
    names: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        old, equals, new = (each.strip() for each in part.partition("="))
        if not (old and equals and new) or names.get(old, new) != new:
            raise BertCrfError(
                f"--map has {part!r}: write OLD=NEW for each label, such as PERSON=PER,GPE=LOC."
            )
        names[old] = new
    return names


def parse_labels(text: str) -> list[str]:
    """The labels of `PER,LOC`."""
    return [label for label in (each.strip() for each in text.split(",")) if label]
