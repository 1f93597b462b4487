"""Scoring a trained pipeline on annotated docs."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from tqdm import tqdm

from .._files import write_text
from .._provenance import versions
from ..annotation.docbin import read_docs
from ..annotation.gold import read_gold
from ..component.doc_output import span_score
from ..component.pipe import BertCrf
from ..component.pipelines import load_pipeline
from ..errors import BertCrfError
from .calibration_picture import picture as draw
from .confusion import confusion
from .confusion_picture import confusion_picture
from .reliability import reliability
from .scores import Scores, SpanTuple, score, table


def evaluate_docs(nlp: Language, docs: list[Doc], scheme: str) -> tuple[Scores, float]:
    """Scores of a pipeline on annotated docs, and the seconds that prediction took.

    Docs without any entity annotation are left out: their gold is not known.
    Raises BertCrfError if that leaves none.
    """
    predicted, docs, seconds = predict_docs(nlp, docs)
    return score_docs(predicted, docs, scheme), seconds


def predict_docs(nlp: Language, docs: list[Doc]) -> tuple[list[Doc], list[Doc], float]:
    """Predicted docs, the annotated ones of the same texts, and the seconds it took.

    Docs and errors as in evaluate_docs.
    """
    docs = [doc for doc in docs if doc.has_annotation("ENT_IOB") or not len(doc)]
    if not any(len(doc) for doc in docs):
        raise BertCrfError(
            "no doc of the corpus has entity annotation (doc.ents must be set, to [] where there "
            "is none)."
        )
    began = time.perf_counter()
    texts = (doc.text for doc in docs)
    predicted = list(tqdm(nlp.pipe(texts), total=len(docs), disable=None))
    return predicted, docs, time.perf_counter() - began


def outcomes(
    predicted: list[Doc], docs: list[Doc], groups: Sequence[str]
) -> Iterator[tuple[float, bool]]:
    """Probability of each predicted entity that has one, and whether it is right. Entities where
    the gold is not known are left out.

    groups: names of the span groups with the probabilities.
    """
    for ours, reference in zip(predicted, docs, strict=True):
        if not ours.ents:
            continue
        gold = read_gold(Example(ours, reference))
        for ent in ours.ents:
            p = span_score(groups, ent)
            if p is not None and gold.known[ent.start : ent.end].all():
                yield p, (ent.start, ent.end, ent.label_) in gold.spans


def aligned_spans(
    predicted: list[Doc], docs: list[Doc]
) -> Iterator[tuple[list[SpanTuple], list[SpanTuple], int]]:
    """Predicted and gold entities of docs in the tokens of the predicted ones, and their number.

    A gold entity that has no place in these tokens stands before token 0.
    """
    for ours, reference in zip(predicted, docs, strict=True):
        aligned = read_gold(Example(ours, reference))
        # An entity that has no place in these tokens can't be found, and counts as missed.
        lost = [(-1 - i, -i, e.label) for i, e in enumerate(aligned.lost)]
        # A prediction where the gold is not known is neither right nor wrong (as in spaCy).
        spans = [
            (ent.start, ent.end, ent.label_)
            for ent in ours.ents
            if aligned.known[ent.start : ent.end].all()
        ]
        yield spans, [*aligned.spans, *lost], len(ours)


def score_docs(predicted: list[Doc], docs: list[Doc], scheme: str) -> Scores:
    """Scores of predicted docs against annotated ones of the same texts."""
    return score(aligned_spans(predicted, docs), scheme)


def evaluate(
    pipeline: Path,
    data: Path,
    *,
    dev: Optional[Path] = None,
    history: Optional[Path] = None,
    output: Optional[Path] = None,
    picture: Optional[Path] = None,
    confused: Optional[Path] = None,
) -> dict[str, Any]:
    """Score a pipeline on a DocBin, print tables, and write the figures as JSON.

    dev: a second DocBin, whose figures stand under `dev`. history: the training's history.json,
        from which epochs and seed are taken over. picture: reliability diagram to write (.svg).
    confused: confusion matrix to write (.svg); the figures then stand under `confusion`.
    RETURNS: what is written.
    Raises BertCrfError for a pipeline or a file that can't be read.
    """
    for drawn in (picture, confused):
        if drawn is not None and drawn.suffix.lower() != ".svg":
            raise BertCrfError(f"the picture {drawn} must be an .svg file.")
    began = time.perf_counter()
    nlp = load_pipeline(pipeline)
    groups = [name for name, pipe in nlp.pipeline if isinstance(pipe, BertCrf)]
    for name in groups:
        nlp.get_pipe(name).scores = True
    scheme = next(
        (getattr(p, "scheme") for _, p in nlp.pipeline if hasattr(p, "scheme")), "BIO"  # noqa: B009
    )  # fmt: skip
    metrics: dict[str, Any] = {}
    for key, path in (("", data), ("dev", dev)):
        if path is None:
            continue
        docs = read_docs(path, nlp)
        predicted, docs, seconds = predict_docs(nlp, docs)
        scores = score_docs(predicted, docs, scheme)
        print(table(scores, path.name))
        figures = {**scores.to_dict(), "characters": sum(len(doc.text) for doc in docs)}
        figures["characters_per_second"] = round(figures["characters"] / max(seconds, 1e-9), 1)
        print(f"{figures['characters_per_second']:.0f} characters a second\n", flush=True)
        if groups:
            found = reliability(outcomes(predicted, docs, groups))
            figures["reliability"] = found.to_dict()
            print(f"{found.table()}\n", flush=True)
            if picture is not None and not key:
                write_text(picture, draw(found, f"Entities in {path.name}"))
        if confused is not None:
            counts = confusion((a, b) for a, b, _ in aligned_spans(predicted, docs))
            figures["confusion"] = counts.to_dict()
            print(f"{counts.table()}\n", flush=True)
            if not key:
                write_text(confused, confusion_picture(counts, f"Entities in {path.name}"))
        metrics |= {key: figures} if key else figures
    if history is not None:
        metrics |= _from_history(history)
    metrics["evaluation_seconds"] = round(time.perf_counter() - began, 3)
    metrics["versions"] = versions()
    if output is not None:
        write_text(output, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    return metrics


def _from_history(path: Path) -> dict[str, Any]:
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
        return {
            "epochs": epochs,
            "best_epoch": history["best_epoch"],
            "seconds": history["seconds"],
            "seed": history["seed"],
        }
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise BertCrfError(f"{path} is no training history: {err}") from err
