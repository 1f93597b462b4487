"""Write the folder of a new project."""

import json
import re
import shlex
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import atomic_folder
from ..annotation.docbin import DocBinWriter
from ..annotation.formats import write_corpus
from ..encoder.checkpoint import CheckpointReport
from ..errors import BertCrfError
from ..training.config import make_config
from .encoder import Fit, check_fit, obtain_encoder
from .survey import Survey

if TYPE_CHECKING:
    from jinja2 import Template

#: Shares of wordpieces that the encoder does not know: doubtful, and too many to learn anything.
DOUBTFUL_UNKNOWN, MAX_UNKNOWN = 0.02, 0.5


@dataclass(frozen=True)
class Project:
    """A project that was written.

    folder: its folder.
    encoder: what was converted.
    fit: how well its wordpieces suit the texts.
    epochs: epochs that the training will take.
    """

    folder: Path
    encoder: CheckpointReport
    fit: Fit
    epochs: int

    def doubts(self) -> list[str]:
        """What may be wrong with the encoder for this corpus, a line for each."""
        lines = []
        if self.fit.unknown > DOUBTFUL_UNKNOWN:
            lines.append(f"the encoder does not know {self.fit.unknown:.0%} of the wordpieces")
        if self.fit.inner_borders:
            lines.append(
                f"{self.fit.inner_borders:,} entities begin or end inside a wordpiece of the "
                "encoder, where no border can be learned"
            )
        return lines


def check_folder(folder: Path) -> None:
    """Raise BertCrfError unless the folder is new or empty."""
    if folder.is_dir() and any(folder.iterdir()):
        raise BertCrfError(f"the folder {folder} is not empty: name a new one.")
    if folder.exists() and not folder.is_dir():
        raise BertCrfError(f"{folder} is a file: name a new folder.")


def make_project(
    folder: Path, survey: Survey, *, encoder: str, layers: int = 0, seed: int = 0
) -> Project:
    """Write a project: encoder, texts, DocBins, labels, and files of the template.

    folder: the folder, which must be new or empty. On failure nothing is left of it.
    survey: the corpus.
    encoder, layers: see `obtain_encoder`.
    seed: seed of the training.
    RETURNS: what was written.
    Raises BertCrfError if the folder holds files or can't be written, or if the encoder can't be
    had, can't be used, or does not know most of the texts.
    """
    folder = Path(folder)
    check_folder(folder)
    texts = [text for part in survey.texts.values() for text in part]
    with atomic_folder(folder) as tmp:
        script = survey.language.script
        report = obtain_encoder(encoder, tmp / "encoder", script=script, layers=layers)
        fit = check_fit(tmp / "encoder", texts)
        if fit.unknown > MAX_UNKNOWN:
            raise BertCrfError(
                f"the encoder {encoder} does not know {fit.unknown:.0%} of the wordpieces of the "
                "texts, so it can't learn from them. Use an encoder made for "
                f"{survey.language.lang}."
            )
        _write_corpus(tmp, survey)
        config = _make_config(tmp / "encoder", survey, seed)
        (tmp / "config.cfg").write_text(config.to_str(interpolate=False) + "\n", encoding="utf8")
        _write_template(tmp, folder, survey, encoder, layers, report, seed)
    return Project(folder, report, fit, config["training"]["max_epochs"])


def _write_corpus(folder: Path, survey: Survey) -> None:
    (folder / "assets").mkdir()
    (folder / "corpus").mkdir()
    for part, texts in survey.texts.items():
        write_corpus(folder / "assets" / f"{part}.jsonl", texts, "doccano")
        docs = DocBinWriter()
        for doc in survey.docs[part]:
            docs.add(doc)
        (folder / "corpus" / f"{part}.spacy").write_bytes(docs.to_bytes())
    labels = json.dumps(survey.labels, ensure_ascii=False)
    (folder / "labels.json").write_text(labels + "\n", encoding="utf8")


def _make_config(encoder: Path, survey: Survey, seed: int) -> Any:
    """The config. Its paths are relative to the project, where the steps run."""
    return make_config(
        lang=survey.language.lang,
        encoder=str(encoder),
        train="corpus/train.spacy",
        dev="corpus/dev.spacy",
        labels="labels.json",
        sentences=len(survey.texts["train"]),
        settings={"components.bert_crf.model.tok2vec.name": "encoder", "system.seed": seed},
    )


def _write_template(
    tmp: Path,
    folder: Path,
    survey: Survey,
    encoder: str,
    layers: int,
    report: CheckpointReport,
    seed: int,
) -> None:
    from .. import __version__

    source = shlex.quote(Path(encoder).resolve().as_posix()) if Path(encoder).is_dir() else ""
    words = f" --layers {layers}" if layers else ""
    values = {
        "name": folder.resolve().name,
        "package": _package_name(folder.resolve().name),
        "lang": survey.language.lang,
        "labels": survey.labels,
        "parts": list(survey.texts),
        "convert": f"{source} encoder{words}" if source else "",
        "encoder": f"{encoder}: {report.model_type}, {report.layers} layers, width "
        f"{report.hidden_size}",
        "version": __version__,
        "seed": seed,
    }
    for name in ("project.yml", "package.yml", "README.md"):
        text = _template(name).render(values)
        (tmp / name).write_text(text + "\n", encoding="utf8", newline="\n")


def _package_name(name: str) -> str:
    """A name for a package, made of the name of the project's folder."""
    words = re.findall("[a-z0-9]+", name.lower())
    return "_".join(words if words and words[0][0].isalpha() else ["bert_crf", *words])


def _template(name: str) -> "Template":
    from jinja2 import Environment, StrictUndefined

    text = (files(__package__) / "template" / name).read_text(encoding="utf8")
    return Environment(undefined=StrictUndefined).from_string(text)
