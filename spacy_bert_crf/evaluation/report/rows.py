"""The sentences of a report: entities with their probabilities, kinds of errors, and an order."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch
from tqdm import tqdm

from ...annotation.gold import Gold, read_gold
from ...component.doc_entities import span_score
from ...component.pipe import BertCrf
from ...component.pipelines import docs_before
from ..evaluate import Predictions
from ..scores import LONG, SHIFTED, SHORT, SpanTuple, border_error, match

RIGHT, OTHER_LABEL, BOTH = "right", "other label", "other borders and label"
MISSED, SPURIOUS = "missed", "spurious"
#: Not compared, because the gold is not known there.
UNKNOWN = "gold not known"
#: The kinds of errors, in the order in which a page lists them.
KINDS = (OTHER_LABEL, SHORT, LONG, SHIFTED, BOTH, MISSED, SPURIOUS)
#: Probabilities are kept away from 0 and 1 by so much, where their logarithm is needed.
_LEAST = 1e-6
#: Docs whose gold entities are read at a time.
_BATCH = 256


@dataclass
class Entity:
    """An entity of a sentence.

    start: offset of its first character in the text.
    end: offset after its last character.
    label: its entity type.
    kind: RIGHT, UNKNOWN, or one of KINDS.
    probability: from 0 to 1; None if it is not known. That of a gold entity is the CRF's, that of
        a predicted one is as the component writes it.
    """

    start: int
    end: int
    label: str
    kind: str
    probability: Optional[float] = None


@dataclass(frozen=True)
class Row:
    """A sentence (a doc of the corpus).

    number: number of the doc among the annotated ones, from 0.
    text: its text.
    gold: gold entities, by their start.
    predicted: predicted entities, by their start.
    """

    number: int
    text: str
    gold: list[Entity]
    predicted: list[Entity]

    @property
    def surprise(self) -> float:
        """How sure the pipeline was of the errors, in nats; 0 without errors.

        It is the sum of -log p over the gold entities that were not found, and of -log(1 - p) over
        the wrong predicted entities. An entity without a probability counts as p = 0.5.
        """
        gold = sum(_cost(e.probability) for e in self.gold if e.kind in KINDS)
        wrong = (e.probability for e in self.predicted if e.kind in KINDS)
        return gold + sum(_cost(None if p is None else 1 - p) for p in wrong)


def make_rows(
    nlp: Language, pipe: BertCrf, found: Predictions, *, progress: bool = False
) -> list[Row]:
    """The sentences of a corpus, the worst first, and then in the order of the corpus.

    nlp: the pipeline.
    pipe: the component whose probabilities of gold entities are computed.
    found: what the pipeline predicts.
    progress: show a progress bar on stderr, if that is a terminal.
    """
    rows = [
        _row(number, ours, reference, found.groups)
        for number, (ours, reference) in enumerate(zip(found.docs, found.gold, strict=True))
    ]
    _add_gold_probabilities(nlp, pipe, rows, found.gold, progress)
    return sorted(rows, key=lambda row: (-row.surprise, row.number))


def _row(number: int, ours: Doc, reference: Doc, groups: list[str]) -> Row:
    gold = read_gold(Example(ours, reference))
    predicted = [
        _entity(ours, (e.start, e.end, e.label_), UNKNOWN, span_score(groups, e)) for e in ours.ents
    ]
    # A prediction where the gold is not known is neither right nor wrong, as in `evaluate`.
    compared = {
        (e.start, e.end, e.label_): entity
        for e, entity in zip(ours.ents, predicted, strict=True)
        if gold.known[e.start : e.end].all()
    }
    wanted = {span: _entity(ours, span, MISSED) for span in gold.spans}
    for entity in compared.values():
        entity.kind = SPURIOUS
    pairs, _, _ = match(list(compared), gold.spans)
    for theirs, own in pairs:
        wanted[theirs].kind = compared[own].kind = _kind(theirs, own)
        if theirs == own:
            wanted[theirs].probability = compared[own].probability
    lost = [
        Entity(e.start_char, e.start_char + len(e.text), e.label, MISSED) for e in gold.lost
    ]  # fmt: skip
    every = sorted([*wanted.values(), *lost], key=lambda e: (e.start, e.end))
    return Row(number, ours.text, every, predicted)


def _kind(gold: SpanTuple, predicted: SpanTuple) -> str:
    same_span, same_label = gold[:2] == predicted[:2], gold[2] == predicted[2]
    if same_span:
        return RIGHT if same_label else OTHER_LABEL
    return border_error(predicted[:2], gold[:2]) if same_label else BOTH


def _entity(
    doc: Doc, span: SpanTuple, kind: str, probability: Optional[float] = None
) -> Entity:  # fmt: skip
    start, end, label = span
    last = doc[end - 1]
    return Entity(doc[start].idx, last.idx + len(last), label, kind, probability)


def _add_gold_probabilities(
    nlp: Language, pipe: BertCrf, rows: list[Row], gold: list[Doc], progress: bool
) -> None:
    """Set the probabilities of gold entities that were not found, where the component has any."""
    wrong = [row for row in rows if any(e.kind in KINDS for e in row.gold)]
    with tqdm(total=len(wrong), disable=None if progress else True, desc="gold") as bar:
        for batch in minibatch(wrong, _BATCH):
            docs = docs_before(nlp, pipe.name, [row.text for row in batch])
            golds = [
                read_gold(Example(doc, gold[row.number]))
                for doc, row in zip(docs, batch, strict=True)
            ]
            spans = [list(_readable(each, pipe)) for each in golds]
            readings = pipe.read(docs, requested=spans)
            for row, doc, asked, reading in zip(batch, docs, spans, readings, strict=True):
                placed = [_entity(doc, span, RIGHT) for span in asked]
                probabilities = {
                    (e.start, e.end, e.label): p
                    for e, p in zip(placed, reading.requested, strict=True)
                }
                for entity in row.gold:
                    if entity.kind in KINDS:
                        key = (entity.start, entity.end, entity.label)
                        entity.probability = probabilities.get(key)
            bar.update(len(batch))


def _readable(gold: Gold, pipe: BertCrf) -> Iterator[SpanTuple]:
    return (span for span in gold.spans if span[2] in pipe.labels)


def _cost(probability: Optional[float]) -> float:
    p = 0.5 if probability is None else min(max(probability, _LEAST), 1.0)
    return -math.log(p)
