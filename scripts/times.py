"""How long the steps of the project took."""

import json
from pathlib import Path

import srsly

from spacy_bert_crf._files import write_text

_FILE = "seconds.json"


def record(folder: Path, step: str, seconds: float) -> None:
    """Record what a step took. An earlier record of it is replaced.

    folder: training/<profile>.
    step: name of the step.
    seconds: what it took, in seconds.
    """
    found = _read(folder)
    found.pop(step, None)
    found[step] = round(seconds, 1)
    write_text(folder / _FILE, srsly.json_dumps(found, indent=2) + "\n")


def table(folder: Path) -> str:
    """What each step took in its last run: the recorded ones, and training by its history.

    folder: training/<profile>.
    """
    found = _read(folder)
    history = folder / "history.json"
    if history.is_file():
        found["train"] = json.loads(history.read_text(encoding="utf8"))["seconds"]
    lines = [f"{step:<18}{seconds:>9.1f}" for step, seconds in found.items()]
    return "\n".join(["seconds of the last run of each step:", *lines])


def _read(folder: Path) -> dict[str, float]:
    path = folder / _FILE
    return dict(json.loads(path.read_text(encoding="utf8"))) if path.is_file() else {}
