"""Write texts that are to be annotated as tasks of annotation tools, with what was predicted."""

import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._files import write_text
from ...annotation.formats.records import PREDICTED, PROBABILITIES, UNCERTAIN, write_lines
from .predicted import Predicted, Prediction
from .uncertainty import check_choice

if TYPE_CHECKING:
    from .select import Selected, Selection


def write_tasks(selection: "Selection", path: Path, to: str = "jsonl") -> None:
    """Write the texts that were chosen, with predicted entities, their probabilities and doubts.

    `convert-corpus` reads all of these formats once they are annotated.

    selection: the texts.
    path: the file.
    to: a key of TASKS.
    Raises BertCrfError for another format, or if the file can't be written.
    """
    check_choice("to", to, tuple(TASKS))
    TASKS[to](Path(path), selection)


def _write_jsonl(path: Path, selection: "Selection") -> None:
    write_lines(path, (_jsonl_record(each) for each in selection.chosen))


def _jsonl_record(each: "Selected") -> dict[str, Any]:
    entities = [
        {
            "start": start,
            "end": end,
            "label": label,
            "text": each.text[start:end],
            "probability": probability,
        }
        for start, end, label, probability in each.predicted.entities
    ]
    figures = each.figures
    return {
        "text": each.text,
        "entities": entities,
        UNCERTAIN: each.predicted.uncertain,
        **_origin(each),
        "entropy": round(figures.entropy, 6),
        "best_path": _best_path(each),
        "expected_errors": round(figures.errors, 6),
        PREDICTED: True,
    }


def _write_doccano(path: Path, selection: "Selection") -> None:
    """doccano keeps the keys that it does not know as metadata of the text."""
    write_lines(
        path,
        (
            {
                "text": each.text,
                "label": [entity[:3] for entity in each.predicted.entities],
                PROBABILITIES: each.predicted.entities,
                UNCERTAIN: each.predicted.uncertain,
                **_origin(each),
            }
            for each in selection.chosen
        ),
    )


def _write_label_studio(path: Path, selection: "Selection") -> None:
    tasks = []
    for number, each in enumerate(selection.chosen, 1):
        data = {
            "text": each.text,
            **_origin(each),
            UNCERTAIN: each.predicted.uncertain,
            "doubts": doubts(each.text, each.predicted.uncertain),
        }
        uncertain = each.predicted.uncertain
        result = [
            label_studio_region(each.text, f"{number}-{i}", entity, entity in uncertain)
            for i, entity in enumerate(each.predicted.entities)
        ]
        prediction = {
            "model_version": selection.model,
            "score": _best_path(each),
            "result": result,
        }
        tasks.append({"id": number, "data": data, "predictions": [prediction]})
    write_text(path, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")


def label_studio_region(
    text: str, ident: str, entity: Prediction, is_uncertain: bool = False
) -> dict[str, Any]:
    """A region of Label Studio for an entity that was found.

    text: the text of the task.
    ident: id of the region, unique in the task.
    entity: the entity.
    is_uncertain: a note at the region says so.
    """
    start, end, label, probability = entity
    doubt = {"meta": {"text": [f"uncertain: {probability:.2f}"]}} if is_uncertain else {}
    return {
        "id": ident,
        "from_name": "label",
        "to_name": "text",
        "type": "labels",
        "value": {"start": start, "end": end, "text": text[start:end], "labels": [label]},
        "score": probability,
        **doubt,
    }


def _write_prodigy(path: Path, selection: "Selection") -> None:
    """Without an answer, which Prodigy adds."""
    records = []
    for each in selection.chosen:
        parts = prodigy_parts(each.text, each.predicted)
        parts["meta"] = {**_origin(each), **parts["meta"]}
        records.append({"text": each.text, **parts, PREDICTED: True})
    write_lines(path, records)


def prodigy_parts(text: str, predicted: Predicted, labels: Collection[str] = ()) -> dict[str, Any]:
    """The parts of a task of Prodigy that come from a prediction: tokens, spans, doubts.

    text: the text of the task.
    predicted: what was found in it.
    labels: other labels are left out; none for all.
    """
    words = predicted.words
    tokens = [
        {
            "text": text[start:end],
            "start": start,
            "end": end,
            "id": index,
            "ws": text[end : end + 1] == " ",
        }
        for index, (start, end) in enumerate(words)
    ]
    first = {start: index for index, (start, _) in enumerate(words)}
    last = {end: index for index, (_, end) in enumerate(words)}
    spans = [
        {
            "start": start,
            "end": end,
            "token_start": first[start],
            "token_end": last[end],
            "label": label,
            "score": probability,
        }
        for start, end, label, probability in predicted.entities
        if not labels or label in labels
    ]
    uncertain = [doubt for doubt in predicted.uncertain if not labels or doubt.label in labels]
    meta = {"uncertain": doubts(text, uncertain)} if uncertain else {}
    return {"tokens": tokens, "spans": spans, UNCERTAIN: uncertain, "meta": meta}


def _origin(each: "Selected") -> dict[str, Any]:
    return {"where": each.name, "score": round(each.score, 6)}


def _best_path(each: "Selected") -> float:
    return round(1 - each.figures.score("best-path", "text"), 6)


def doubts(text: str, uncertain: Iterable[Prediction]) -> str:
    """What is uncertain in a text, for people."""
    return "; ".join(f"{text[s:e]} {label} {p:.2f}" for s, e, label, p in uncertain)


#: The formats of tasks, by name.
TASKS: dict[str, Callable[[Path, "Selection"], None]] = {
    "jsonl": _write_jsonl,
    "doccano": _write_doccano,
    "label-studio": _write_label_studio,
    "prodigy": _write_prodigy,
}
