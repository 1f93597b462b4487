"""The project's student: a small pipeline in 8-bit integers that learns from the full pipeline.

The steps are those of scripts.step. A profile without a student has none of the files.
"""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import srsly
from spacy.tokens import DocBin
from thinc.api import Config

from spacy_bert_crf._files import atomic_file, atomic_folder, remove_folder, write_text
from spacy_bert_crf.errors import BertCrfError

#: Word of the variable student_layers for no student.
NONE = "none"
#: Settings of `distill` that a profile may have, by the name of the option.
_OPTIONS = ("which_layers", "inner_width", "gold_weight", "teacher_weight", "temperature")
#: Entries of a profile's student.
_KNOWN = ("layers", "texts", "seed", "epochs", "encoder_lr", "settings", *_OPTIONS)


class BertCrfCommand(Protocol):
    """Runs a command of this package."""

    def __call__(self, *words: Any) -> None: ...


@dataclass(frozen=True)
class Paths:
    """Where the files of a profile's student are."""

    profile: str

    @property
    def full(self) -> Path:
        """Folder of the full pipeline's training."""
        return Path("training") / self.profile

    @property
    def training(self) -> Path:
        """Folder of the student's training."""
        return self.full / "student"

    @property
    def model(self) -> Path:
        """The student's pipeline."""
        return self.full / "model-small"

    @property
    def about(self) -> Path:
        """What was made. Written without a student too, so that later steps notice changes."""
        return self.full / "student.json"

    @property
    def metrics(self) -> Path:
        """Scores of the student."""
        return self.full / "metrics-small.json"

    @property
    def exported(self) -> Path:
        """The exported student."""
        return Path("export") / f"{self.profile}-small"

    @property
    def corpus(self) -> Path:
        """Folder of the converted corpus."""
        return Path("corpus") / self.profile

    @property
    def dev(self) -> Path:
        """Sentences by which the student's best epoch is chosen, if there are more than dev's."""
        return self.full / "student-dev.spacy"

    @property
    def texts(self) -> Path:
        """Texts without annotation, if the profile has them."""
        return self.corpus / "unlabelled.txt"


def student_of(profile: dict[str, Any], layers: str = "") -> dict[str, Any]:
    """A profile's student.

    profile: the profile.
    layers: number of layers, or "none". "" or "0" for that of the profile.
    RETURNS: its entries. `layers` is 0 for no student.
    Raises BertCrfError for an unknown entry, and for layers that are no number.
    """
    found = dict(profile.get("student") or {})
    if unknown := sorted(set(found) - set(_KNOWN)):
        raise BertCrfError(
            f"student.{unknown[0]} in the profile is not known: use {', '.join(_KNOWN)}."
        )
    if layers == NONE:
        found["layers"] = 0
    elif layers.isdecimal():
        found["layers"] = int(layers) or found.get("layers", 0)
    elif layers:
        raise BertCrfError(
            f"student_layers is {layers!r}: use a number of layers, or {NONE!r} for no student."
        )
    found.setdefault("layers", 0)
    return found


def train_student(
    profile: dict[str, Any],
    name: str,
    bert_crf: BertCrfCommand,
    *,
    layers: str = "",
    gpu_id: int = -1,
    save_minutes: float = 10.0,
    max_epochs: int = 0,
) -> None:
    """Write training/<profile>/model-small and student.json.

    A pipeline that has no more layers than the student would have gets none.

    profile: the profile.
    name: its name.
    bert_crf: runs a command of this package.
    layers: see `student_of`.
    gpu_id: number of a GPU, -1 for the CPU.
    save_minutes: minutes between two saved states.
    max_epochs: the config's epochs count if this is not 0, else those of the profile.
    """
    paths, started = Paths(name), time.monotonic()
    student = student_of(profile, layers)
    reason = _why_none(student["layers"], paths)
    if reason:
        print(f"no student: {reason}.")
        for folder in (paths.training, paths.model, paths.exported):
            remove_folder(folder)
        for file in (paths.metrics, paths.dev):
            file.unlink(missing_ok=True)
        write_text(paths.about, srsly.json_dumps({"layers": 0}) + "\n")
        return
    quantize = _quantize()
    words: list[Any] = ["--layers", student["layers"]]
    for option in _OPTIONS:
        if option in student:
            words += [f"--{option.replace('_', '-')}", student[option]]
    if paths.texts.is_file():
        words += ["--text", paths.texts]
    if quantize and gpu_id < 0:
        words += ["--teacher-quantize", quantize]
    settings: dict[str, Any] = {}
    if _write_dev(paths):
        settings["paths.dev"] = paths.dev
    if student.get("encoder_lr"):
        settings["training.optimizer.encoder_lr"] = student["encoder_lr"]
    if student.get("epochs") and not max_epochs:
        settings["training.max_epochs"] = student["epochs"]
    for key, value in (settings | (student.get("settings") or {})).items():
        words += [f"--{key}", value]
    bert_crf(
        "distill", paths.full / "model-best", paths.full / "config.cfg", paths.training,
        "--resume", "--gpu-id", gpu_id, "--save-minutes", save_minutes, *words,
    )  # fmt: skip
    _copy_quantized(paths.training / "model-best", paths.model, quantize)
    history = json.loads((paths.training / "history.json").read_text(encoding="utf8"))
    about = {"layers": student["layers"], "quantize": quantize, "history": history}
    write_text(paths.about, srsly.json_dumps(about, indent=2) + "\n")
    print(f"{paths.model}: {student['layers']} layers, {time.monotonic() - started:.0f} seconds")


def _write_dev(paths: Paths) -> bool:
    """Join dev and news-dev to one file. RETURNS: whether there is a news-dev.

    By dev alone, epochs differ by chance as much as by what was learned.
    """
    parts = [paths.corpus / name for name in ("dev.spacy", "news-dev.spacy")]
    if not parts[1].is_file():
        paths.dev.unlink(missing_ok=True)
        return False
    joined, news = (DocBin(store_user_data=True).from_disk(part) for part in parts)
    joined.merge(news)
    with atomic_file(paths.dev) as file:
        joined.to_disk(file)
    return True


def evaluate_student(name: str, bert_crf: BertCrfCommand) -> None:
    """Write training/<profile>/metrics-small.json, and print both pipelines' scores."""
    paths = Paths(name)
    if not _exists(paths):
        return
    bert_crf(
        "evaluate", paths.model, paths.corpus / "test.spacy", "--dev", paths.corpus / "dev.spacy",
        "--history", paths.training / "history.json", "--output", paths.metrics,
    )  # fmt: skip
    print(compared(paths.full / "metrics.json", paths.metrics))


def compared(full: Path, small: Path) -> str:
    """A table of the scores in two files of metrics.

    full: those of the full pipeline.
    small: those of the student.
    """
    found = [json.loads(path.read_text(encoding="utf8")) for path in (full, small)]
    labels = sorted({label for each in found for label in each["ents_per_type"]})
    head = ["", *labels, "all", "dev", "chars/s"]
    lines = ["".join(f"{cell:>12}" for cell in head)]
    for pipeline, metrics in zip(("model-best", "model-small"), found, strict=True):
        scores = [metrics["ents_per_type"].get(label, {}).get("f") for label in labels]
        scores += [metrics["ents_f"], metrics["dev"]["ents_f"]]
        cells = ["-" if score is None else f"{100 * score:.2f}" for score in scores]
        cells.append(f"{metrics['characters_per_second']:.0f}")
        lines.append("".join(f"{cell:>12}" for cell in (pipeline, *cells)))
    return "\n".join(["F1 of entities on test, in percent:", *lines])


def export_student(name: str, bert_crf: BertCrfCommand) -> None:
    """Write export/<profile>-small."""
    paths = Paths(name)
    if _exists(paths):
        bert_crf("export", paths.model, paths.exported, "--metrics", paths.metrics)


def _why_none(layers: int, paths: Paths) -> str:
    """Why there is no student; "" if there is one."""
    if not layers:
        return "student.layers is 0"
    encoder = Path("encoders") / paths.profile / "config.json"
    has = json.loads(encoder.read_text(encoding="utf8"))["num_hidden_layers"]
    return "" if layers < has else f"{layers} layers requested, the full pipeline has {has}"


def _exists(paths: Paths) -> bool:
    about = json.loads(paths.about.read_text(encoding="utf8"))
    if not about["layers"]:
        print("no student.")
    return bool(about["layers"])


def _quantize() -> str:
    """The student's `quantize`: "int8", or "" with a note where this machine can't run it."""
    from spacy_bert_crf.encoder.cpu.int8 import check_kernels

    try:
        check_kernels()
    except BertCrfError as err:
        print(f"note: the student stays in float32: {err}")
        return ""
    return "int8"


def _copy_quantized(trained: Path, dst: Path, quantize: str) -> None:
    """Copy a pipeline, with another `quantize` in its config.

    trained: folder of the pipeline.
    dst: the folder to write.
    quantize: the value.
    """
    with atomic_folder(dst) as tmp:
        shutil.copytree(trained, tmp, dirs_exist_ok=True)
        config = Config().from_disk(tmp / "config.cfg", interpolate=False)
        for component in config["components"].values():
            if component.get("factory") == "bert_crf":
                component["quantize"] = quantize
        config.to_disk(tmp / "config.cfg")
