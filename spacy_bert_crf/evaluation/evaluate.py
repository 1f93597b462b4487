"""Scores of a trained pipeline on annotated docs, and the content of metrics.json."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from tqdm import tqdm

from .._provenance import versions
from ..annotation.gold import read_gold
from ..component.doc_entities import span_score
from ..component.pipelines import check_labels, is_bert_crf
from ..errors import BertCrfError
from .reliability import Reliability, reliability
from .report.intervals import Intervals, bootstrap
from .scores import Confusion, Scores, SpanTuple, score
from .scores import confusion as count_confusion


@dataclass(frozen=True)
class Evaluation:
    """How well a pipeline does on annotated docs.

    scores: precision, recall and F1 by entity and by token.
    reliability: calibration of the entities' probabilities; None without a bert_crf component.
    confusion: how predicted entities differ from gold ones; None if it was not requested.
    characters: length of the texts, in characters.
    seconds: time that prediction took, in seconds.
    intervals: 95 % intervals of the scores by label, and of all labels under ""; None if they were
        not requested.
    """

    scores: Scores
    reliability: Optional[Reliability]
    confusion: Optional[Confusion]
    characters: int
    seconds: float
    intervals: Optional[dict[str, Intervals]] = None

    @property
    def characters_per_second(self) -> float:
        """Speed of the prediction."""
        return round(self.characters / max(self.seconds, 1e-9), 1)

    def to_dict(self) -> dict[str, Any]:
        """The entries of metrics.json."""
        out = self.scores.to_dict()
        out["characters"] = self.characters
        out["characters_per_second"] = self.characters_per_second
        if self.reliability is not None:
            out["reliability"] = self.reliability.to_dict()
        if self.confusion is not None:
            out["confusion"] = self.confusion.to_dict()
        if self.intervals is not None:
            out["intervals"] = {
                label: {key: list(bounds) for key, bounds in found._asdict().items()}
                for label, found in self.intervals.items()
            }
        return out

    def tables(self, title: str) -> str:
        """All figures as text, under a title."""
        speed = f"{self.characters_per_second:.0f} characters a second"
        parts = [f"{self.scores.table(title)}\n{speed}"]
        parts += [part.table() for part in (self.reliability, self.confusion) if part is not None]
        return "\n\n".join(parts)


def evaluate(
    nlp: Language,
    docs: list[Doc],
    *,
    confusion: bool = False,
    intervals: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Score a pipeline's entities on annotated docs.

    Docs without any entity annotation are left out, because their gold is not known. The settings
    of the pipeline's components are the same afterwards.

    nlp: a trained pipeline.
    docs: annotated docs. The pipeline reads only their texts.
    confusion: also count how predicted entities differ from gold ones.
    intervals: also compute intervals of the scores, by the bootstrap over docs.
    progress: show a progress bar on stderr, if that is a terminal.
    RETURNS: scores, calibration and speed.
    Warns of labels that the pipeline does not have.
    Raises BertCrfError if no doc is annotated, or the pipeline has none of their labels.
    """
    found = predict(nlp, docs, progress=progress)
    return found.evaluation(confusion=confusion, intervals=intervals)


@dataclass(frozen=True)
class Predictions:
    """What a pipeline predicts for annotated docs.

    gold: the annotated docs.
    docs: the predicted docs of the same texts, in the same order.
    groups: names of the span groups that hold the probabilities of entities.
    scheme: the tag scheme in which tokens are compared.
    seconds: time that prediction took, in seconds.
    """

    gold: list[Doc]
    docs: list[Doc]
    groups: list[str]
    scheme: str
    seconds: float

    def evaluation(self, *, confusion: bool, intervals: bool = False) -> Evaluation:
        """The figures. Arguments are those of `evaluate`."""
        pairs = list(aligned_spans(self.docs, self.gold))
        return Evaluation(
            score(pairs, self.scheme),
            reliability(_outcomes(self.docs, self.gold, self.groups)) if self.groups else None,
            count_confusion((ours, gold) for ours, gold, _ in pairs) if confusion else None,
            sum(len(doc.text) for doc in self.gold),
            self.seconds,
            bootstrap((ours, gold) for ours, gold, _ in pairs) if intervals else None,
        )


def predict(nlp: Language, docs: list[Doc], *, progress: bool = False) -> Predictions:
    """Run a pipeline, with probabilities, on the texts of annotated docs.

    Arguments, warnings and errors are those of `evaluate`.
    """
    docs = [doc for doc in docs if doc.has_annotation("ENT_IOB") or not len(doc)]
    if not any(len(doc) for doc in docs):
        raise BertCrfError(
            "no doc of the corpus has entity annotation (doc.ents must be set, to [] where there "
            "is none)."
        )
    check_labels(nlp, docs, "the corpus")
    scheme = next(
        (pipe.scheme for name, pipe in nlp.pipeline if is_bert_crf(nlp, name)), "BIO"
    )  # fmt: skip
    with _probabilities(nlp) as groups:
        began = time.perf_counter()
        texts = (doc.text for doc in docs)
        bar = tqdm(nlp.pipe(texts), total=len(docs), disable=None if progress else True)
        predicted = list(bar)
        seconds = time.perf_counter() - began
    return Predictions(docs, predicted, groups, scheme, seconds)


def metrics(
    data: Evaluation,
    *,
    dev: Optional[Evaluation] = None,
    history: Optional[Path] = None,
    seconds: float,
) -> dict[str, Any]:
    """The content of metrics.json.

    data: the evaluation whose figures are at the top level.
    dev: the evaluation whose figures are under the key `dev`.
    history: the training's history.json. Epochs, best epoch, seconds and seed are taken from it.
    seconds: time that the whole evaluation took, in seconds.
    Raises BertCrfError for a history that can't be read.
    """
    out = data.to_dict()
    if dev is not None:
        out["dev"] = dev.to_dict()
    if history is not None:
        out |= read_history(history)
    return {**out, "evaluation_seconds": round(seconds, 3), "versions": versions()}


def score_docs(predicted: list[Doc], docs: list[Doc], scheme: str) -> Scores:
    """Scores of predicted docs against annotated ones of the same texts.

    predicted: docs with predicted entities.
    docs: annotated docs.
    scheme: the tag scheme in which tokens are compared.
    """
    return score(aligned_spans(predicted, docs), scheme)


def aligned_spans(
    predicted: list[Doc], docs: list[Doc]
) -> Iterator[tuple[list[SpanTuple], list[SpanTuple], int]]:
    """Predicted and gold entities of each doc in its predicted tokens, and the number of tokens.

    A gold entity that can't be aligned with these tokens is placed before token 0. A predicted
    entity where the gold is not known is left out. So are entities of labels that the gold does not
    cover.

    predicted: docs with predicted entities.
    docs: annotated docs of the same texts.
    """
    for ours, reference in zip(predicted, docs, strict=True):
        aligned = read_gold(Example(ours, reference))
        # An entity that can't be aligned with these tokens can't be found, and counts as missed.
        lost = [e.label for e in aligned.lost if aligned.is_covered(e.label)]
        placed = [(-1 - i, -i, label) for i, label in enumerate(lost)]
        # A prediction where the gold is not known is neither right nor wrong (as in spaCy).
        spans = [(ent.start, ent.end, ent.label_) for ent in ours.ents]
        spans = [span for span in spans if aligned.decides(*span)]
        yield spans, [*aligned.scored, *placed], len(ours)


def _outcomes(
    predicted: list[Doc], docs: list[Doc], groups: Sequence[str]
) -> Iterator[tuple[float, bool]]:
    """Probability of each predicted entity that has one, and whether the entity is right.

    Entities where the gold is not known, or does not cover their label, are left out.

    groups: names of the span groups that hold the probabilities.
    """
    for ours, reference in zip(predicted, docs, strict=True):
        if not ours.ents:
            continue
        gold = read_gold(Example(ours, reference))
        for ent in ours.ents:
            p = span_score(groups, ent)
            if p is not None and gold.decides(ent.start, ent.end, ent.label_):
                yield p, (ent.start, ent.end, ent.label_) in gold.spans


@contextmanager
def _probabilities(nlp: Language) -> Iterator[list[str]]:
    """Within the block, each bert_crf component writes probabilities. Yields their names."""
    pipes = {name: pipe for name, pipe in nlp.pipeline if is_bert_crf(nlp, name)}
    before = {name: pipe.scores for name, pipe in pipes.items()}
    try:
        for pipe in pipes.values():
            pipe.scores = True
        yield list(pipes)
    finally:
        for name, pipe in pipes.items():
            pipe.scores = before[name]


def read_history(path: Path) -> dict[str, Any]:
    """Epochs, best epoch, seconds and seed of a training.

    path: the history.json that `train` wrote.
    Raises BertCrfError if it can't be read.
    """
    try:
        history = json.loads(path.read_text(encoding="utf8"))
        epochs = [
            {
                "epoch": row["epoch"],
                "loss": row["loss"],
                "ents_f": row.get("ents_f", row["score"]),
                "seconds": row["seconds"],
            }
            for row in history["epochs"]
        ]
        kept = ("best_epoch", "seconds", "seed")
        return {"epochs": epochs, **{key: history[key] for key in kept}}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise BertCrfError(
            f"{path} is no training history ({err}): name the history.json that `train` wrote."
        ) from err
