"""What a card says of a pipeline's quality: read from files, or measured on annotated docs."""

from pathlib import Path
from typing import Any, Optional

from spacy.language import Language
from spacy.tokens import Doc

from ...errors import BertCrfError
from ...evaluation.evaluate import evaluate, read_history
from ...evaluation.figures import reliability_picture
from ...evaluation.reliability import Reliability

#: What metrics.json has of the training, and not of the evaluated texts.
_OF_TRAINING = ("seconds", "epochs", "best_epoch", "seed", "dev")


def figures(
    nlp: Language,
    *,
    metrics: Optional[dict[str, Any]] = None,
    docs: Optional[list[Doc]] = None,
    data: str = "",
    history: Optional[Path] = None,
    progress: bool = False,
) -> dict[str, Any]:
    """The figures for a card.

    Scores, intervals, calibration and errors are of the same texts: those of `docs` if they are
    given, else those of `metrics`.

    nlp: a trained pipeline.
    metrics: the content of metrics.json, as `evaluate` writes it.
    docs: annotated docs to measure on.
    data: name of the docs, for the card.
    history: the training's history.json, for the time that it took.
    progress: show a progress bar on stderr, if that is a terminal.
    RETURNS: the content of a metrics.json; empty where nothing is known.
    Raises BertCrfError for docs that can't be scored, and for a history that can't be read.
    """
    known = dict(metrics or {})
    if history is not None:
        known = {**read_history(history), **known}
    if docs is None:
        return known
    found = evaluate(nlp, docs, confusion=True, intervals=True, progress=progress)
    kept = {key: known[key] for key in _OF_TRAINING if key in known}
    return {**kept, **found.to_dict(), "data": data}


def picture(metrics: dict[str, Any]) -> str:
    """The reliability diagram of figures as SVG; empty where they have no bins.

    Raises BertCrfError for a reliability that `evaluate` did not write.
    """
    found = metrics.get("reliability") or {}
    if not found.get("bins") or not found.get("entities"):
        return ""
    try:
        known = Reliability.from_dict(found)
    except (KeyError, TypeError) as err:
        raise BertCrfError(
            f"the key reliability of the metrics has no {err}: write them anew with `evaluate`."
        ) from err
    on = metrics.get("data")
    return reliability_picture(known, f"Entities in {on}" if on else "Entities")
