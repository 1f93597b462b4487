"""Places where a corpus may be annotated wrongly: the gold that a pipeline finds improbable."""

from dataclasses import asdict, dataclass
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from ..component.pipelines import check_labels, find_component
from ..component.reading import Reading, ScoredSpan
from .gold_docs import GoldDoc, gold_docs

#: Characters of context on either side of an entity.
_CONTEXT = 12


@dataclass(frozen=True)
class PredictedEntity:
    """An entity that the pipeline predicts.

    start: offset of its first character in the text.
    end: offset after its last character.
    text: its text.
    label: its label.
    probability: probability of the entity, from 0 to 1.
    """

    start: int
    end: int
    text: str
    label: str
    probability: float


@dataclass(frozen=True)
class Suspect:
    """A gold entity, or an entity that the gold lacks.

    doc: number of the doc in the corpus, from 0.
    start: offset of its first character in the text.
    end: offset after its last character.
    text: its text.
    label: its label.
    probability: the pipeline's probability of the entity, from 0 to 1.
    reading: the pipeline's entities that overlap it.
    before: the text before it.
    after: the text after it.
    """

    doc: int
    start: int
    end: int
    text: str
    label: str
    probability: float
    reading: tuple[PredictedEntity, ...]
    before: str
    after: str


@dataclass(frozen=True)
class Findings:
    """The result of `find_errors`.

    gold: gold entities, in the order of rising probability.
    missing: entities of the best paths that overlap no gold, in the order of falling probability.
    docs: number of annotated docs.
    entities: number of gold entities.
    unread: number of gold entities that the pipeline can't read, which are in neither list. They
        can't be aligned with its tokens, or it does not have their label.
    """

    gold: list[Suspect]
    missing: list[Suspect]
    docs: int
    entities: int
    unread: int

    def to_dict(self, top: int = 0) -> dict[str, Any]:
        """The findings for JSON.

        top: number of rows of each list; 0 for all.
        """
        return {
            "docs": self.docs,
            "gold_entities": self.entities,
            "gold_entities_not_read": self.unread,
            "gold": [asdict(row) for row in self.gold[: top or None]],
            "missing": [asdict(row) for row in self.missing[: top or None]],
        }

    def table(self, top: int = 0) -> str:
        """The findings as text.

        top: number of rows of each list; 0 for all.
        """
        parts = [
            f"{self.entities} gold entities in {self.docs} docs"
            + (f"; {self.unread} of them can't be read by the pipeline" if self.unread else "")
        ]
        gold, missing = self.gold[: top or None], self.missing[: top or None]
        if gold:
            parts.append("\ngold entities, the least probable first")
            parts += _rows(gold, with_reading=True)
        if missing:
            parts.append("\nfound where the gold has nothing, the most probable first")
            parts += _rows(missing, with_reading=False)
        return "\n".join(parts)


def find_errors(
    nlp: Language, docs: list[Doc], *, component: str = "", progress: bool = False
) -> Findings:
    """Compare the annotation of a corpus with the entities that a pipeline finds in it.

    nlp: a trained pipeline. It finds more errors if it was not trained on these docs.
    docs: annotated docs.
    component: name of the bert_crf component, if there are several.
    progress: show a progress bar on stderr, if that is a terminal.
    RETURNS: improbable gold entities, and entities that the gold lacks.
    Warns of labels that the pipeline does not have.
    Raises BertCrfError if no doc is annotated, the pipeline has none of their labels, or there is
    no such component.
    """
    pipe = find_component(nlp, component)
    check_labels(nlp, docs, "the corpus", "These entities can't be read, and are in neither list.")
    labels = set(pipe.labels)
    gold_rows: list[Suspect] = []
    missing: list[Suspect] = []
    n_docs = n_entities = n_unread = 0
    for batch in gold_docs(nlp, pipe.name, docs, progress):
        known = [[span for span in item.gold.spans if span[2] in labels] for item in batch]
        readings = pipe.read([item.doc for item in batch], requested=known)
        for item, spans, reading in zip(batch, known, readings, strict=True):
            n_docs += 1
            n_entities += len(item.gold.spans) + len(item.gold.lost)
            n_unread += len(item.gold.spans) + len(item.gold.lost) - len(spans)
            for span, p in zip(spans, reading.requested, strict=True):
                gold_rows.append(_suspect(item, span, p, reading))
            missing += [
                _suspect(item, entity.span, entity.probability, reading)
                for entity in reading.entities
                if item.gold.decides(*entity.span)
                and not any(a < entity.end and entity.start < b for a, b, _ in item.gold.spans)
            ]
    gold_rows.sort(key=lambda row: (row.probability, row.doc, row.start))
    missing.sort(key=lambda row: (-row.probability, row.doc, row.start))
    return Findings(gold_rows, missing, n_docs, n_entities, n_unread)


def _suspect(
    item: GoldDoc, span: tuple[int, int, str], probability: float, reading: Reading
) -> Suspect:
    doc, (start, end, label) = item.doc, span
    begin, stop = _offsets(doc, start, end)
    near = [e for e in reading.entities if e.start < end and start < e.end]
    return Suspect(
        item.number,
        begin,
        stop,
        doc.text[begin:stop],
        label,
        probability,
        tuple(_read(doc, entity) for entity in near),
        doc.text[max(0, begin - _CONTEXT) : begin],
        doc.text[stop : stop + _CONTEXT],
    )


def _read(doc: Doc, entity: ScoredSpan) -> PredictedEntity:
    begin, stop = _offsets(doc, entity.start, entity.end)
    return PredictedEntity(begin, stop, doc.text[begin:stop], entity.label, entity.probability)


def _offsets(doc: Doc, start: int, end: int) -> tuple[int, int]:
    return doc[start].idx, doc[end - 1].idx + len(doc[end - 1])


def _rows(rows: list[Suspect], with_reading: bool) -> list[str]:
    out = ["       P   doc  offset  label   entity in its text"]
    for row in rows:
        text = f"{row.before}[{row.text}]{row.after}".replace("\n", " ")
        line = f"{row.probability:8.2g} {row.doc:5d} {row.start:7d}  {row.label:<6}  {text}"
        if with_reading:
            read = ", ".join(f"{r.text} {r.label} {r.probability:.2g}" for r in row.reading)
            line += f"   read as: {read or 'no entity'}"
        out.append(line)
    return out
