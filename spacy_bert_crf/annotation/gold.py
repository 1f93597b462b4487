"""The gold annotation of a spaCy Example on its predicted tokens, and the tags that it allows.

Allowed tags are a boolean array [tokens, K] over the K tags. The CRF is trained on such arrays.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc, Span
from spacy.training import Example

from ..errors import BertCrfError
from .coverage.covers import covers_of
from .schemes import Role, TagSet
from .tag_counts import TagCounts, joined_counts
from .word_runs import inner_borders

BoolArray = NDArray[np.bool_]

#: Docs from which the model may infer its sizes.
_SAMPLE = 10
_O = 2  # spaCy's ENT_IOB: 0 missing, 1 I, 2 O, 3 B (blocked if it has no type).


class LostEntity(NamedTuple):
    """A gold entity that can't be learned, in its text.

    text: its text.
    label: its entity type.
    start_char: offset of its first character in the reference.
    context: the text around it.
    """

    text: str
    label: str
    start_char: int
    context: str

    def __str__(self) -> str:
        return f"{self.text!r} ({self.label}) at character {self.start_char} of {self.context!r}"

    @classmethod
    def in_text(cls, text: str, start: int, end: int, label: str) -> "LostEntity":
        """Of the whole text and the entity's offsets in characters."""
        context = text[max(0, start - 10) : end + 10].replace("\n", " ")
        return cls(text[start:end], label, start, context)


class Gold(NamedTuple):
    """Gold of one Example on its predicted tokens.

    spans: entities as (start, end, label), of all labels.
    known: whether each token's annotation is known. bool [tokens]
    lost: entities that could not be aligned. Their tokens are unknown.
    covers: the labels that the annotation covers; None for all. See coverage/covers.py.
    """

    spans: list[tuple[int, int, str]]
    known: NDArray[np.bool_]
    lost: list[LostEntity]
    covers: Optional[frozenset[str]] = None

    def is_covered(self, label: str) -> bool:
        """Whether all entities of this label are annotated, where the annotation is known."""
        return self.covers is None or label in self.covers

    def decides(self, start: int, end: int, label: str) -> bool:
        """Whether gold says if tokens `start` to `end - 1` are an entity of this label."""
        return self.is_covered(label) and bool(self.known[start:end].all())

    @property
    def scored(self) -> list[tuple[int, int, str]]:
        """The entities whose label is covered."""
        return [span for span in self.spans if self.is_covered(span[2])]


class MarkedText(NamedTuple):
    """A text and its entities as (start, end, label), in characters."""

    text: str
    entities: list[tuple[int, int, str]]


class Corpus(NamedTuple):
    """A training corpus as read.

    golds: the gold of each example. sample: the first few docs.
    texts: the texts that have entities.
    cut: entities that begin or end inside a word of Latin letters or digits; see word_runs.py.
    """

    golds: list[Gold]
    sample: list[Doc]
    texts: list[MarkedText]
    cut: list[LostEntity]


def read_gold(example: Example) -> Gold:
    """The aligned annotation of an Example. A token without annotation is unknown, never O."""
    predicted, reference = example.predicted, example.reference
    n_tokens, covers = len(predicted), covers_of(reference)
    if not reference.has_annotation("ENT_IOB"):
        return Gold([], np.zeros(n_tokens, dtype=bool), [], covers)
    if n_tokens == len(reference) and _same_tokens(example):
        iob = reference.to_array("ENT_IOB").astype(np.int64)
        spans = [(ent.start, ent.end, ent.label_) for ent in reference.ents]
        lost: list[LostEntity] = []
        known = iob == _O
    else:
        spans, lost, known = [], [], np.zeros(n_tokens, dtype=bool)
        for ent in reference.ents:
            aligned = example.get_aligned_spans_y2x([ent])
            if aligned and not _overlaps(aligned[0], spans):
                spans.append((aligned[0].start, aligned[0].end, ent.label_))
            else:
                lost.append(_lost(ent))
        known[:] = [iob == _O for iob in example.get_aligned("ENT_IOB")]
    # Whitespace is never annotated. It is outside, as in spaCy's own alignment.
    known |= np.fromiter((token.is_space for token in predicted), dtype=bool, count=n_tokens)
    for start, end, _ in spans:
        known[start:end] = True
    return Gold(spans, known, lost, covers)


def labels_of(golds: Iterable[Gold]) -> set[str]:
    """The labels of gold entities, those of lost ones included."""
    labels: set[str] = set()
    for gold in golds:
        labels.update(label for _, _, label in gold.spans)
        labels.update(entity.label for entity in gold.lost)
    return labels


def cut_words(doc: Doc, gold: Gold) -> list[LostEntity]:
    """Gold entities that begin or end inside a word of Latin letters or digits.

    doc: the doc.
    gold: its annotation.
    """
    inner = inner_borders(doc, (border for start, end, _ in gold.spans for border in (start, end)))
    return [
        _lost(Span(doc, start, end, label=label))
        for start, end, label in gold.spans
        if inner & {start, end}
    ]


def lost_report(lost: list[LostEntity], total: int, limit: int = 10) -> str:
    """The text of a warning that counts the lost entities and names the first of them.

    lost: the gold entities that can't be aligned.
    total: the number of gold entities.
    limit: largest number of entities to name.
    """
    return (
        f"{len(lost)} of {total} gold entities can't be aligned with the predicted tokens and are "
        f"left out (their tokens count as unknown): {named_entities(lost, limit)}. Their borders "
        "lie inside a token of the pipeline's tokenizer, or they overlap."
    )


def named_entities(lost: Sequence[LostEntity], limit: int = 10) -> str:
    """The first `limit` entities in one line, and how many more there are."""
    names = "; ".join(str(entity) for entity in lost[:limit])
    return names + (f"; and {len(lost) - limit} more" if len(lost) > limit else "")


def _overlaps(span: Span, spans: list[tuple[int, int, str]]) -> bool:
    return any(start < span.end and span.start < end for start, end, _ in spans)


def _same_tokens(example: Example) -> bool:
    a, b = example.predicted.to_array("ORTH"), example.reference.to_array("ORTH")
    return bool((a == b).all()) and len(example.predicted.text) == len(example.reference.text)


def _lost(ent: Span) -> LostEntity:
    return LostEntity.in_text(ent.doc.text, ent.start_char, ent.end_char, ent.label_)


class GoldReader:
    """Reads gold, and warns once about entities that do not train the component.

    component: its name, for the warnings.
    """

    def __init__(self, component: str) -> None:
        self.component = component
        self._warned_lost = False
        self._warned_labels: set[str] = set()

    def read_corpus(self, examples: Iterable[Example]) -> Corpus:
        """All examples, each read once."""
        corpus, n_open = Corpus([], [], [], []), 0
        for example in examples:
            n_open += len(example.predicted) > 0 and not example.reference.has_annotation("ENT_IOB")
            gold, doc = read_gold(example), example.predicted
            corpus.golds.append(gold)
            if len(corpus.sample) < _SAMPLE:
                corpus.sample.append(doc)
            if gold.spans:
                spans = [(doc[start:end], label) for start, end, label in gold.spans]
                entities = [(span.start_char, span.end_char, label) for span, label in spans]
                corpus.texts.append(MarkedText(doc.text, entities))
                corpus.cut.extend(cut_words(doc, gold))
        self._warn_lost(corpus.golds, "", "")
        if n_open:
            warnings.warn(
                f"[{self.component}] {n_open} of {len(corpus.golds)} training texts have no entity "
                "annotation and train nothing. For a text without entities, set doc.ents = [].",
                stacklevel=4,
            )
        return corpus

    def read_batch(self, examples: Iterable[Example], labels: Sequence[str]) -> list[Gold]:
        """The gold of a batch of an update.

        examples: the batch.
        labels: labels of the component.
        """
        golds = [read_gold(example) for example in examples]
        if not self._warned_lost:
            self._warn_lost(golds, "of this batch ", " (This warning is shown once.)")
        unknown = {label for gold in golds for _, _, label in gold.spans} - set(labels)
        if unknown - self._warned_labels:
            self._warned_labels |= unknown
            warnings.warn(
                f"[{self.component}] gold entities of labels {sorted(unknown)} count as outside: "
                f"the component has {list(labels)}. (This warning is shown once for each label.)",
                stacklevel=5,
            )
        return golds

    def _warn_lost(self, golds: Sequence[Gold], where: str, once: str) -> None:
        lost = [entity for gold in golds for entity in gold.lost]
        if lost:
            self._warned_lost = True
            total = sum(len(gold.spans) + len(gold.lost) for gold in golds)
            report = lost_report(lost, total)
            warnings.warn(f"[{self.component}] {where}{report}{once}", stacklevel=5)


def choose_labels(
    requested: Optional[Sequence[str]],
    present: Sequence[str],
    golds: Iterable[Gold],
    trained: Optional[Sequence[str]],
) -> list[str]:
    """The labels of a component that is initialised, in the order of their tags.

    requested: labels that the user listed, or None.
    present: labels that were added before.
    golds: of the training examples.
    trained: labels of the head, None if there is no head yet. They keep their places.
    Raises BertCrfError if there are none, or if a trained label would be moved or left out.
    """
    found = labels_of(golds)
    if requested is not None:
        labels = list(requested)
    elif trained is not None:
        labels = [*trained, *sorted(found - set(trained))]
    else:
        labels = sorted({*found, *present})
    if not labels:
        raise BertCrfError(
            "no entity labels: the training examples have no entities. Give labels in "
            "[initialize.components], or check the corpus (doc.ents must be set)."
        )
    if trained is not None and labels[: len(trained)] != list(trained):
        raise BertCrfError(
            f"it is trained for labels {list(trained)} and can't be changed to {labels}: put new "
            "labels after the trained ones, which keep their order."
        )
    return labels


def allowed_tags(gold: Gold, tags: TagSet) -> BoolArray:
    """The tags that each token may have by its gold annotation. bool [tokens, K]

    A token of an entity has one tag. A known token outside of entities has O, and so has one of an
    entity whose label is not in the tag set. Such a token may also have any tag of a label that the
    annotation does not cover. An unknown token may have any tag. A tag that would continue a known
    entity beyond its end is never allowed.

    gold: the annotation.
    tags: the K tags.
    """
    n_tokens = len(gold.known)
    spans = [span for span in gold.spans if span[2] in tags.parts]
    allowed = np.ones((n_tokens, len(tags.tags)), dtype=bool)
    # shape: [tokens]
    ids = np.zeros(n_tokens, dtype=np.int64)
    for start, end, label in spans:
        unit, begin, inside, last = tags.parts[label]
        ids[start:end] = inside
        ids[end - 1] = last
        ids[start] = begin if end - start > 1 else unit
    at = np.flatnonzero(gold.known)
    allowed[at] = False
    allowed[at, ids[at]] = True
    if gold.covers is not None:
        outside = [not gold.is_covered(label) if label else True for _, label in tags.roles]
        allowed[at[ids[at] == 0]] = outside
    if not tags.has_last:
        inner = [i for i, (role, _) in enumerate(tags.roles) if role is Role.INSIDE]
        for _, end, _ in spans:
            if end < n_tokens and np.count_nonzero(allowed[end]) > 1:
                allowed[end, inner] = False
    return allowed


def count_tags(golds: Iterable[Gold], tags: TagSet) -> TagCounts:
    """How often tags begin a doc, follow one another and end it.

    What some docs do not cover is estimated from the docs that do; see `joined_counts`.

    golds: the annotation of each doc.
    tags: the K tags.
    """
    parts: dict[Optional[frozenset[str]], TagCounts] = {}
    for gold in golds:
        own = parts.setdefault(gold.covers, TagCounts(len(tags.tags)))
        own.add(allowed_tags(gold._replace(covers=None), tags))
    return joined_counts(parts, [label for _, label in tags.roles])


def open_weights(
    share: float, tags: TagSet, covers: Optional[frozenset[str]] = None
) -> Optional[list[float]]:
    """Logarithm of each tag's weight at tokens without annotation. [K], None for equal weights

    If each entity is annotated with the probability `share`, the likelihood has a factor of
    1 - share for each entity that is not annotated. An entity of a label that is not covered is
    never annotated, so it has the factor 1.

    share: the share of a doc's entities that is annotated, from 0 to below 1. 0 where it is not
        known.
    tags: the K tags.
    covers: the labels that the annotation covers; None for all.
    """
    if not share:
        return None
    missing = math.log1p(-share)
    return [
        missing if begins and (covers is None or label in covers) else 0.0
        for begins, (_, label) in zip(tags.begins(), tags.roles, strict=True)
    ]
