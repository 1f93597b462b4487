"""Run a pipeline over the texts of a shard, in this process.

Texts are sorted by length, so that a batch needs little padding. Equal texts are read once. Where a
batch raises an error, it is halved until the text is found.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Optional, Union

from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import raise_error

from ..errors import BertCrfError, first_line
from .rows import AnnotatedRow, Entity, Row, SetApart

#: Characters of a batch, padding included.
_BATCH_CHARACTERS = 16_384
#: Texts of a batch, whatever their length.
_BATCH_TEXTS = 256

#: Called after each text with its number of characters.
Report = Callable[[int], None]


class Found(NamedTuple):
    """What was found in a text.

    entities: its entities.
    doc: the Doc, if it is kept.
    """

    entities: list[Entity]
    doc: Optional[Doc]


#: What was found in a text, or why it could not be annotated.
Outcome = Union[Found, str]


def prepare(nlp: Language, *, scores: bool = False, int8: bool = False) -> None:
    """Set up a pipeline for annotation.

    scores: components bert_crf write probabilities.
    int8: they compute in 8-bit integers.
    Raises BertCrfError if this is requested, and there is no such component.
    """
    nlp.set_error_handler(raise_error)
    if not (scores or int8):
        return
    pipes = [nlp.get_pipe(name) for name in _bert_crfs(nlp)]
    if not pipes:
        raise BertCrfError(
            f"--scores and --int8 need a component bert_crf, and the pipeline has only "
            f"{', '.join(nlp.pipe_names) or 'none'}: leave them out."
        )
    for pipe in pipes:
        if scores:
            pipe.scores = True
            pipe.register_extensions()
        if int8:
            pipe.quantize = "int8"


def plan(texts: Sequence[str]) -> list[tuple[int, list[int]]]:
    """The order in which texts are read: the longest first, each of several equal ones once.

    RETURNS: runs of texts with the same batch size: the size, and the indices of the texts. The
        size is the largest power of two whose batch has at most _BATCH_CHARACTERS characters.
    """
    first = {text: index for index, text in reversed([*enumerate(texts)])}
    order = sorted(first.values(), key=lambda index: (-len(texts[index]), index))

    def batch_size(index: int) -> int:
        most = min(_BATCH_CHARACTERS // max(len(texts[index]), 1), _BATCH_TEXTS)
        return 1 << max(most, 1).bit_length() - 1

    return [(size, list(indices)) for size, indices in groupby(order, batch_size)]


class Annotator:
    """Annotates texts with a pipeline.

    nlp: the pipeline, after `prepare`.
    scores: entities get their probabilities.
    keep_docs: the Docs are returned, too.
    """

    def __init__(self, nlp: Language, *, scores: bool = False, keep_docs: bool = False) -> None:
        self.nlp = nlp
        self.scored = _bert_crfs(nlp) if scores else []
        self.keep_docs = keep_docs

    def annotate(
        self,
        texts: Sequence[str],
        excluded: Optional[dict[int, str]] = None,
        one_by_one: bool = False,
        report: Optional[Report] = None,
    ) -> list[Outcome]:
        """Annotate texts.

        texts: the texts, in any order, also equal ones.
        excluded: texts that are not read, by index, each with the reason.
        one_by_one: a batch has one text.
        report: called after each text, in the order of `plan`.
        RETURNS: for each text, what was found, or why it could not be annotated.
        """
        left_out = {texts[index]: reason for index, reason in (excluded or {}).items()}
        outcomes: dict[str, Outcome] = dict(left_out)
        for size, indices in plan(texts):
            wanted = [texts[index] for index in indices if texts[index] not in left_out]
            for text, outcome in self._run(wanted, 1 if one_by_one else size):
                outcomes[text] = outcome
                if report is not None:
                    report(len(text))
        return [outcomes[text] for text in texts]

    def _run(self, texts: list[str], size: int) -> Iterator[tuple[str, Outcome]]:
        """Read texts in batches. After an error, its batch is halved, and the others go on."""
        left = [(texts, size)]
        while left:
            part, most = left.pop()
            done = 0
            try:
                for doc in self.nlp.pipe(part, batch_size=most):
                    found = Found(self._entities(doc), doc if self.keep_docs else None)
                    yield part[done], found
                    done += 1
                if done < len(part):
                    raise ValueError("the pipeline gave no Doc for a text of its batch")
                continue
            except Exception as err:
                if len(part) == 1:
                    yield part[0], f"{type(err).__name__}: {first_line(err)}"
                    continue
            rest = part[done:]
            half = (min(most, len(rest)) + 1) // 2
            left.append((rest[2 * half :], most))
            left.append((rest[half : 2 * half], half))
            left.append((rest[:half], half))

    def _entities(self, doc: Doc) -> list[Entity]:
        probability = _probabilities(doc, self.scored)
        return [
            Entity(
                ent.start_char,
                ent.end_char,
                ent.label_,
                ent.text,
                probability.get((ent.start_char, ent.end_char, ent.label_)),
            )
            for ent in doc.ents
        ]


def combine(
    rows: Sequence[Row], outcomes: Sequence[Outcome]
) -> tuple[list[AnnotatedRow], list[SetApart]]:
    """The rows with what was found in them, and those that could not be annotated."""
    done: list[AnnotatedRow] = []
    apart: list[SetApart] = []
    for row, outcome in zip(rows, outcomes, strict=True):
        if isinstance(outcome, str):
            apart.append(SetApart(row.id, row.where, outcome))
        else:
            done.append(AnnotatedRow(row, outcome.entities, outcome.doc))
    return done, apart


def _bert_crfs(nlp: Language) -> list[str]:
    return [name for name in nlp.pipe_names if nlp.get_pipe_meta(name).factory == "bert_crf"]


def _probabilities(doc: Doc, components: Sequence[str]) -> dict[tuple[int, int, str], float]:
    """Probabilities of the entities that these components found, by offsets and label."""
    found: dict[tuple[int, int, str], float] = {}
    for name in components:
        attrs: dict[str, Any] = doc.spans[name].attrs if name in doc.spans else {}
        if attrs:
            columns = (attrs["offsets"].tolist(), attrs["labels"], attrs["scores"].tolist())
            for (start, end), label, value in zip(*columns, strict=True):
                found[(start, end, label)] = round(float(value), 6)
    return found
