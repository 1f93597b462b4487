"""A pipeline that annotates texts with options: from tasks to answers."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc

from ..component import doc_entities
from ..component.decoding.allowed import labels_extension
from ..component.decoding.dictionary import can_find_names
from ..component.pipelines import entity_labels, find_component, is_bert_crf, load_pipeline
from ..errors import BertCrfError, first_line
from .decoding import Entity, Figures, annotate_docs
from .options import Answer, FixedSpan, Options, Refused, TextTask

if TYPE_CHECKING:
    from ..component.pipe import BertCrf


class About(NamedTuple):
    """What a served pipeline is.

    name: the name that requests use.
    labels: entity types, in the order of their tags.
    settings: the component's own settings, for options that are left out.
    description: that of meta.json.
    lang: language of the pipeline.
    version: that of meta.json.
    has_options: whether requests may have options, which need a bert_crf component.
    """

    name: str
    labels: tuple[str, ...]
    settings: dict[str, float]
    description: str
    lang: str
    version: str
    has_options: bool


class Annotator:
    """Annotates texts by a pipeline. Not for use by several threads at once.

    nlp: the pipeline.
    name: the name that requests use.
    component: name of the bert_crf component that options concern; needed only if there are
        several. A pipeline without one takes no options.
    Raises BertCrfError as `find_component` does.
    """

    def __init__(self, nlp: Language, name: str, component: str = "") -> None:
        self.nlp = nlp
        has_any = any(is_bert_crf(nlp, each) for each in nlp.pipe_names)
        self.pipe: Optional[BertCrf] = find_component(nlp, component) if has_any else None
        names = list(nlp.pipe_names)
        at = names.index(self.pipe.name) if self.pipe else len(names)
        self._before, self._after = names[:at], names[at + 1 :]
        self.about = self._describe(name)

    @classmethod
    def load(cls, path: Path, name: str, component: str = "") -> "Annotator":
        """Load a pipeline, and annotate a text once, so that no request waits for what is prepared.

        Raises BertCrfError if the pipeline can't be loaded.
        """
        annotator = cls(load_pipeline(path), name, component)
        every = Options(scores=True, candidates=0.5, nbest=2) if annotator.pipe else Options()
        for answer in annotator.annotate([TextTask("A 中"), TextTask("A 中", every)]):
            if isinstance(answer, Exception):
                reason = first_line(answer)
                raise BertCrfError(f"{path} can't annotate a text: {reason}") from answer
        return annotator

    def check(self, task: TextTask) -> None:
        """Check what can be checked before a text is annotated.

        Raises Refused, which says what is wrong and where.
        """
        options = task.options
        if self.pipe is None and (options != Options() or task.fixed):
            raise Refused(
                "", f"the pipeline {self.about.name!r} has no bert_crf component: leave out "
                "entities, labels, dictionary, scores, candidates, threshold and nbest.",
            )  # fmt: skip
        unknown = sorted(set(options.labels or ()) - set(self.about.labels))
        if unknown:
            raise Refused("labels", f"unknown: {', '.join(unknown)}. {self._known_labels()}")
        unknown = sorted({name.label for name in options.names} - set(self.about.labels))
        if unknown:
            raise Refused("dictionary", f"unknown: {', '.join(unknown)}. {self._known_labels()}")
        if options.names and not can_find_names():
            raise Refused(
                "dictionary", 'the server needs pip install "spacy-bert-crf[dictionary]".'
            )
        _check_spans(task)

    def annotate(self, tasks: Sequence[TextTask]) -> list[Answer]:
        """Annotate texts together.

        tasks: texts that `check` has accepted.
        RETURNS: for each text an answer, or the error why there is none. A text that raises an
            error changes no other.
        """
        try:
            return self._annotate(tasks)
        except Exception as err:
            if len(tasks) == 1:
                return [err]
        return [answer for task in tasks for answer in self.annotate([task])]

    def _annotate(self, tasks: Sequence[TextTask]) -> list[Answer]:
        with _memory_zone(self.nlp):
            docs = [self.nlp.make_doc(task.text) for task in tasks]
            if self.pipe is None:
                docs = list(self.nlp.pipe(docs))
                return [
                    _answer(doc, task, Figures(), ()) for doc, task in zip(docs, tasks, strict=True)
                ]
            docs = self._run(docs, self._before)
            answers: dict[int, Answer] = {}
            for i, (doc, task) in enumerate(zip(docs, tasks, strict=True)):
                try:
                    self._prepare(doc, task)
                except Refused as err:
                    answers[i] = err
            members = [i for i in range(len(tasks)) if i not in answers]
            figures = annotate_docs(
                self.pipe,
                [docs[i] for i in members],
                [tasks[i].options for i in members],
                [bool(tasks[i].fixed) for i in members],
            )
            done = self._run([docs[i] for i in members], self._after)
            group, others = doc_entities.names_of(self.pipe.name)[:2]
            for i, doc, found in zip(members, done, figures, strict=True):
                answers[i] = _answer(doc, tasks[i], found, (group, others))
            return [answers[i] for i in range(len(tasks))]

    def _run(self, docs: list[Doc], names: Sequence[str]) -> list[Doc]:
        """The docs after some of the pipes."""
        if not names or not docs:
            return docs
        with self.nlp.select_pipes(enable=list(names)):
            return list(self.nlp.pipe(docs))

    def _prepare(self, doc: Doc, task: TextTask) -> None:
        """Put fixed entities and allowed labels on a doc. Raises Refused for a cut token."""
        assert self.pipe is not None
        if task.options.labels is not None:
            doc._.set(labels_extension(self.pipe.name), list(task.options.labels))
        if not task.fixed:
            return
        ents: list[Any] = []
        blocked: list[Any] = []
        for i, span in enumerate(task.fixed):
            found = doc.char_span(span.start, span.end, span.label or "")
            if found is None:
                raise Refused(f"entities[{i}]", _off_tokens(doc, span))
            (ents if span.label is not None else blocked).append(found)
        taken = {token for span in (*ents, *blocked) for token in range(span.start, span.end)}
        ents += [ent for ent in doc.ents if not taken & set(range(ent.start, ent.end))]
        doc.set_ents(ents, blocked=blocked, default="outside")

    def _known_labels(self) -> str:
        return f"The labels of {self.about.name!r} are {', '.join(self.about.labels)}."

    def _describe(self, name: str) -> About:
        meta, pipe = self.nlp.meta, self.pipe
        labels = tuple(sorted(entity_labels(self.nlp) or ())) if pipe is None else pipe.labels
        settings = {}
        if pipe is not None:
            own = pipe.settings
            settings = {"scores": own.scores, "candidates": own.candidates,
                        "threshold": pipe.threshold}  # fmt: skip
        return About(
            name, labels, settings, meta.get("description", ""), self.nlp.lang,
            meta.get("version", ""), pipe is not None,
        )  # fmt: skip


def _memory_zone(nlp: Language) -> AbstractContextManager[Any]:
    """Within, strings of texts that the vocabulary learns are forgotten at the end.

    Otherwise a server that reads words for weeks would fill its memory.
    """
    return nlp.memory_zone() if hasattr(nlp, "memory_zone") else nullcontext()


def _check_spans(task: TextTask) -> None:
    """Check the fixed entities of a text. Raises Refused."""
    end, length = 0, len(task.text)
    order = sorted(range(len(task.fixed)), key=lambda i: task.fixed[i][:2])
    for i in order:
        span, where = task.fixed[i], f"entities[{i}]"
        if not 0 <= span.start < span.end <= length:
            raise Refused(
                where, f"start {span.start} and end {span.end} must be 0 <= start < end <= "
                f"{length}, the number of characters of the text.",
            )  # fmt: skip
        if span.start < end:
            raise Refused(where, f"it overlaps another one, which ends at {end}.")
        if span.label is not None and not span.label.strip():
            raise Refused(where, "the label is empty: give one, or null for no entity here.")
        end = span.end


def _off_tokens(doc: Doc, span: FixedSpan) -> str:
    """Why characters are no span of tokens, with the next larger one that is."""
    wider = doc.char_span(span.start, span.end, alignment_mode="expand")
    near = "" if wider is None else f" {wider.start_char} to {wider.end_char} do."
    return f"{span.start} to {span.end} do not begin and end where tokens do.{near}"


def _answer(doc: Doc, task: TextTask, figures: Figures, groups: Sequence[str]) -> dict[str, Any]:
    """The answer for a doc.

    groups: names of the span groups of entities and of candidates; or empty.
    """
    text = task.text
    given = {(span.start, span.end, span.label) for span in task.fixed}
    entities = []
    for ent in doc.ents:
        item = _entity(text, (ent.start_char, ent.end_char, ent.label_))
        if (item["start"], item["end"], item["label"]) in given:
            item["fixed"] = True
        elif figures.entropy is not None and groups:
            item["probability"] = doc_entities.span_score(groups[:1], ent)
        entities.append(item)
    out: dict[str, Any] = {"entities": entities}
    if figures.entropy is not None:
        out["log_probability"], out["entropy"] = figures.log_probability, figures.entropy
    if groups and groups[1] in doc.spans:
        out["candidates"] = [
            {**_entity(text, entity), "probability": p} for entity, p in _scored(doc, groups[1])
        ]
    if task.options.nbest:
        out["readings"] = [
            {"probability": p, "entities": [_entity(text, entity) for entity in found]}
            for found, p in figures.readings
        ]
    return out


def _entity(text: str, entity: Entity) -> dict[str, Any]:
    start, end, label = entity
    return {"start": start, "end": end, "label": label, "text": text[start:end]}


def _scored(doc: Doc, group: str) -> Iterator[tuple[Entity, float]]:
    """The spans of a group and their probabilities. Tokens may have been merged since."""
    attrs = doc.spans[group].attrs
    offsets = np.asarray(attrs[doc_entities.OFFSETS]).reshape(-1, 2).tolist()
    scores = np.asarray(attrs[doc_entities.SCORES]).tolist()
    for (start, end), label, p in zip(offsets, attrs[doc_entities.LABELS], scores, strict=True):
        yield (start, end, label), p
