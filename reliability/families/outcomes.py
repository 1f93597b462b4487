"""What a command does with an encoder, and how its results are compared."""

from pathlib import Path
from typing import Any, NamedTuple

WORKS, REFUSED, FAULT = "works", "refused", "FAULT"
#: States of a part that an encoder does without, and of an encoder that this transformers lacks.
NONE, ABSENT = "none", "absent"
#: State of a command that was not tried with this version of transformers.
NOT_RUN = "not run"
#: Formats whose entities must be those of the pipeline, and those that round.
EXACT = ("huggingface", "bert4torch", "torchscript", "onnx")
INT8 = ("torch-int8", "onnx-int8", "onnx-int8-static")
#: Formats that import-model reads; the empty one is best_model.pt.
IMPORTED = ("", "huggingface", "bert4torch")
COMMANDS = [
    "convert-checkpoint", "convert-checkpoint --layers 1", "train", "resume", "save and load",
    "long text", "batch and alone", "dropout 0", "evaluate", "fast path", "quantize int8",
    *(f"export {name}" for name in (*EXACT, *INT8)),
    "compare-exports",
    *(f"import-model {name or 'best_model.pt'}" for name in IMPORTED),
    "import-model foreign",
]  # fmt: skip
#: Largest difference of emissions, relative to the largest one: exact ways, and int8.
TOLERANCE, TOLERANCE_INT8 = 1e-4, 0.5
#: Docs that are predicted.
PREDICTED = 8


class Outcome(NamedTuple):
    """What a command did with an encoder.

    state: WORKS, REFUSED, FAULT, NONE, ABSENT, or empty where the command was not reached.
    note: the message of a refusal or a fault, or a warning.
    """

    state: str
    note: str = ""


class WrongResult(Exception):
    """A command ended well with a result that is wrong."""


def same(what: str, found: Any, right: Any, bound: float = TOLERANCE) -> None:
    """Raise WrongResult unless two tensors are the same, except for rounding.

    what: their name in the message.
    found: the tensor in question.
    right: the tensor that it must equal.
    bound: largest difference, relative to the largest value.
    """
    if found.shape != right.shape:
        raise WrongResult(f"{what}: shape {list(found.shape)}, expected {list(right.shape)}")
    difference = float((found - right).abs().max())
    if not difference <= bound * max(1.0, float(right.abs().max())):
        raise WrongResult(f"{what}: they differ by {difference:.2g}")


def entities(doc: Any) -> list[tuple[int, int, str]]:
    """Start, end and label of the entities of a doc."""
    return [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]


def plain(message: str, work: Path) -> str:
    """A message in one line, without the name of the scratch folder."""
    return " ".join(message.replace(str(work), "WORK").split())
