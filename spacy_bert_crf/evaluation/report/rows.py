"""The sentences of a report: entities with their probabilities, kinds of errors, and an order."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch
from tqdm import tqdm

from ...annotation.gold import Gold, read_gold
from ...component.doc_entities import span_score
from ...component.pipelines import docs_before
from ..scores import SpanTuple, border_error, match
from .entities import BOTH, KINDS, MISSED, OTHER_LABEL, RIGHT, SPURIOUS, UNKNOWN, Entity, Row

if TYPE_CHECKING:
    from ...component.pipe import BertCrf
    from ..evaluate import Predictions

#: Docs whose gold entities are read at a time.
_BATCH = 256


def make_rows(
    nlp: Language, pipe: "BertCrf", found: "Predictions", *, progress: bool = False
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
        if gold.decides(e.start, e.end, e.label_)
    }
    wanted = {span: _entity(ours, span, MISSED) for span in gold.scored}
    for entity in compared.values():
        entity.kind = SPURIOUS
    pairs, _, _ = match(list(compared), gold.scored)
    for theirs, own in pairs:
        wanted[theirs].kind = compared[own].kind = _kind(theirs, own)
        if theirs == own:
            wanted[theirs].probability = compared[own].probability
    lost = [
        Entity(e.start_char, e.start_char + len(e.text), e.label, MISSED)
        for e in gold.lost
        if gold.is_covered(e.label)
    ]
    every = sorted([*wanted.values(), *lost], key=lambda e: (e.start, e.end))
    return Row(number, ours.text, every, predicted)


def _kind(gold: SpanTuple, predicted: SpanTuple) -> str:
    same_span, same_label = gold[:2] == predicted[:2], gold[2] == predicted[2]
    if same_span:
        return RIGHT if same_label else OTHER_LABEL
    return border_error(predicted[:2], gold[:2]) if same_label else BOTH


def _entity(doc: Doc, span: SpanTuple, kind: str, probability: Optional[float] = None) -> Entity:
    start, end, label = span
    last = doc[end - 1]
    return Entity(doc[start].idx, last.idx + len(last), label, kind, probability)


def _add_gold_probabilities(
    nlp: Language, pipe: "BertCrf", rows: list[Row], gold: list[Doc], progress: bool
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
            for row, doc, wanted_spans, reading in zip(batch, docs, spans, readings, strict=True):
                placed = [_entity(doc, span, RIGHT) for span in wanted_spans]
                probabilities = {
                    (e.start, e.end, e.label): p
                    for e, p in zip(placed, reading.requested, strict=True)
                }
                for entity in row.gold:
                    if entity.kind in KINDS:
                        key = (entity.start, entity.end, entity.label)
                        entity.probability = probabilities.get(key)
            bar.update(len(batch))


def _readable(gold: Gold, pipe: "BertCrf") -> Iterator[SpanTuple]:
    return (span for span in gold.spans if span[2] in pipe.labels)
