"""A spaCy pipeline as a source."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Optional

from spacy import util
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import raise_error

from ...._memory import is_out_of_memory
from ....annotation.formats.text import AnnotatedText, Entity
from ....component.doc_entities import names_of, span_score
from ....component.pipelines import entity_labels, is_bert_crf, load_pipeline
from ....errors import BertCrfError, first_line
from .source import Outcome, Text, aligned
from .spec import Spec


class PipelineSource:
    """A pipeline that writes entities. Its entities of low probability are in doubt.

    It covers the labels of the components that declare that they write entities.

    spec: its settings.
    nlp: the pipeline.
    Raises BertCrfError if it writes no entities, or has no probabilities where they are needed.
    """

    def __init__(self, spec: Spec, nlp: Language) -> None:
        self.spec, self.nlp = spec, nlp
        found = entity_labels(nlp)
        self.labels: Optional[list[str]] = None if found is None else sorted(found)
        if self.labels == []:
            raise spec.error(
                f"no component of {spec.path} writes entities, only {nlp.pipe_names} are there: "
                "name another pipeline"
            )
        self._declared = _declared_labels(nlp)
        if self.labels is None and not self._declared and spec.covers is None:
            raise spec.error(
                f"the labels of {spec.path} are not known, because a component does not say them: "
                "set covers in --sources"
            )
        nlp.set_error_handler(raise_error)
        self._scored: list[str] = []
        if spec.min_probability:
            self._scored = [name for name in nlp.pipe_names if is_bert_crf(nlp, name)]
            if not self._scored:
                raise spec.error(
                    "min_probability needs a component bert_crf, and the pipeline has only "
                    f"{', '.join(nlp.pipe_names)}: leave it out"
                )
            for name in self._scored:
                pipe = nlp.get_pipe(name)
                pipe.scores = True
                pipe.register_extensions()

    @classmethod
    def open(cls, spec: Spec) -> "PipelineSource":
        """Load the pipeline. Raises BertCrfError if it can't be loaded or used."""
        folder = Path(spec.path)
        if folder.exists() or not util.is_package(spec.path):
            return cls(spec, load_pipeline(folder))
        try:
            return cls(spec, util.load_model(spec.path))
        except BertCrfError:
            raise
        except Exception as err:
            raise spec.error(f"can't load the pipeline {spec.path}: {first_line(err)}") from err

    def opinions(self, texts: Sequence[Text]) -> list[Outcome]:
        """The entities of each text, or why the pipeline raised an error."""
        covers = self.spec.covered(self._declared)
        outcomes: list[Outcome] = []
        with _memory_zone(self.nlp):
            for text, found in zip(texts, self._run([t.doc.text for t in texts]), strict=True):
                if isinstance(found, str):
                    outcomes.append(found)
                else:
                    item = self.spec.label_map.apply(found)
                    outcomes.append(aligned(text.doc, item, covers))
        return outcomes

    def close(self, asked: int) -> list[str]:
        """Nothing is left to do."""
        return []

    def _run(self, texts: Sequence[str]) -> Iterator[AnnotatedText | str]:
        """Read texts. After an error, they are read one by one."""
        done = 0
        try:
            for doc in self.nlp.pipe(texts):
                yield self._item(doc)
                done += 1
            return
        except Exception as err:
            if is_out_of_memory(err) or isinstance(err, MemoryError):
                raise
            if len(texts) == 1:
                yield f"{type(err).__name__}: {first_line(err)}"
                return
        for text in texts[done:]:
            yield from self._run([text])

    def _item(self, doc: Doc) -> AnnotatedText:
        item = AnnotatedText(doc.text, [])
        groups = [names_of(name).group for name in self._scored]
        for ent in doc.ents:
            score = span_score(groups, ent) if groups else None
            if score is not None and score < self.spec.min_probability:
                item.unknown.append((ent.start_char, ent.end_char))
            else:
                item.entities.append(Entity(ent.start_char, ent.end_char, ent.label_))
        return item


def _declared_labels(nlp: Language) -> list[str]:
    """The labels of the components that are known to write entities."""
    labels: set[str] = set()
    for name, pipe in nlp.pipeline:
        if "doc.ents" in nlp.get_pipe_meta(name).assigns:
            labels.update(getattr(pipe, "labels", None) or ())
    return sorted(labels)


def _memory_zone(nlp: Language) -> AbstractContextManager[Any]:
    """Strings that a batch adds to the vocabulary are forgotten after it."""
    return nlp.memory_zone() if hasattr(nlp, "memory_zone") else nullcontext()
