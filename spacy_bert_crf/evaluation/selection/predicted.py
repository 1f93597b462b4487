"""What a pipeline finds in texts, for tasks of annotation: entities, doubts and tokens."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import minibatch

from ...component.doc_entities import writable
from ...component.pipelines import docs_before
from ...component.reading import Reading, corrected

if TYPE_CHECKING:
    from ...component.pipe import BertCrf

#: Texts that are read together.
_BATCH = 64
#: Smallest probability of a reading that is ever shown.
_LEAST = 0.01


class Prediction(NamedTuple):
    """An entity that may be in a text.

    start: offset of its first character.
    end: offset after its last character.
    label: its entity type.
    probability: its probability, from 0 to 1.
    """

    start: int
    end: int
    label: str
    probability: float


@dataclass(frozen=True)
class Predicted:
    """What a pipeline finds in a text.

    entities: the entities of the best path, in order.
    uncertain: those of them that are less probable than the bound, and other readings that are as
        probable as one minus the bound, ordered by their start.
    words: (start, end) of each token.
    """

    entities: tuple[Prediction, ...]
    uncertain: tuple[Prediction, ...]
    words: tuple[tuple[int, int], ...]


def predict(nlp: Language, pipe: "BertCrf", texts: list[str], uncertain: float) -> list[Predicted]:
    """What a pipeline finds in each text.

    Probabilities of entities are those that the pipeline would write, corrected by `calibrate`.

    nlp: the pipeline.
    pipe: its component.
    texts: the texts.
    uncertain: the bound, from 0.5 to 1: less probable entities are uncertain, and so are other
        readings with a probability of one minus the bound or more.
    Raises BertCrfError for a text that the pipeline does not take.
    """
    found: list[Predicted] = []
    for batch in minibatch(texts, _BATCH):
        docs = docs_before(nlp, pipe.name, list(batch))
        readings = pipe.read(docs, candidates=max(1 - uncertain, _LEAST))
        for doc, reading in zip(docs, corrected(readings, pipe.score_map), strict=True):
            found.append(_predicted(doc, reading, uncertain, pipe.settings.overwrite))
    return found


def _predicted(doc: Doc, reading: Reading, bound: float, overwrite: bool) -> Predicted:
    own = [] if overwrite else [_of(ent, 1.0) for ent in doc.ents]
    spans = writable(doc, (entity.span for entity in reading.entities), overwrite)
    pairs = zip(spans, reading.entities, strict=True)
    entities = sorted([*own, *(_of(span, e.probability) for span, e in pairs if span is not None)])
    there = {entity[:3] for entity in entities}
    spans = writable(doc, (candidate.span for candidate in reading.candidates), overwrite)
    others: dict[tuple[int, int, str], Prediction] = {}
    for span, candidate in zip(spans, reading.candidates, strict=True):
        if span is None:
            continue
        other = _of(span, candidate.probability)
        key = (other.start, other.end, other.label)
        if key not in there and (key not in others or others[key].probability < other.probability):
            others[key] = other
    doubtful = [entity for entity in entities if entity.probability < bound]
    words = tuple((token.idx, token.idx + len(token)) for token in doc)
    return Predicted(tuple(entities), tuple(sorted([*doubtful, *others.values()])), words)


def _of(span: Span, probability: float) -> Prediction:
    rounded = round(float(probability), 4)
    return Prediction(span.start_char, span.end_char, span.label_, rounded)
