"""The folder of a repository on a model hub: pipeline, wheel, exports, card.

The files of the pipeline stand at the top, as spacy-huggingface-hub puts them. So `spacy.load`
takes a clone of the repository.
"""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from spacy.language import Language

from ..._files import write_text
from ...component.pipelines import is_bert_crf, load_pipeline
from ...errors import BertCrfError
from ..package.about import About, check_about
from ..package.card import Place
from ..package.files import write_pipeline
from ..package.meta import complete_meta, gaps
from ..package.wheel import package_pipeline
from .card import hub_card

EXPORT = "export"
#: Files that git keeps outside of its history (LFS). The first rows are those that the hub writes
#: to each new repository, the last one is for pipelines of spaCy.
_LARGE = (
    *("*.7z", "*.arrow", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gz", "*.h5", "*.joblib"),
    *("*.lfs.*", "*.mlmodel", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.ot"),
    *("*.parquet", "*.pb", "*.pickle", "*.pkl", "*.pt", "*.pth", "*.rar", "*.safetensors"),
    *("saved_model/**/*", "*.tar.*", "*.tar", "*.tflite", "*.tgz", "*.wasm", "*.xz", "*.zip"),
    *("*.zst", "*tfevents*"),
    *("*.whl", "*strings.json", "vectors", "model"),
)


@dataclass(frozen=True)
class Source:
    """What a repository is made of.

    pipeline: folder of a trained pipeline. It is not changed.
    metrics: figures for the card, as `measure.figures` returns them.
    about: what the maker says of the pipeline.
    wheel: also build a wheel of it.
    export: folder that `export` wrote, to be copied; None for none.
    """

    pipeline: Path
    metrics: dict[str, Any] = field(default_factory=dict)
    about: About = field(default_factory=About)
    wheel: bool = True
    export: Optional[Path] = None


@dataclass(frozen=True)
class Layout:
    """A folder that was written.

    meta: the meta.json of the pipeline.
    files: the files by their paths in the repository.
    gaps: what a reader of the card would miss, a line for each.
    """

    meta: dict[str, Any]
    files: dict[str, Path]
    gaps: list[str]


def write_repository(
    folder: Path, source: Source, place: Place, *, nlp: Optional[Language] = None
) -> Layout:
    """Write the files of a repository to a folder.

    folder: an empty folder.
    source: what to write.
    place: where the reader will find the repository.
    nlp: the pipeline, if it is loaded already.
    RETURNS: what was written.
    Raises BertCrfError for a pipeline, an export or a description that can't be used, and where the
    wheel can't be built.
    """
    check_about(source.about)
    nlp = nlp or load_pipeline(source.pipeline)
    if source.export is not None:
        _check_export(source.export, nlp)
    meta = complete_meta(nlp, source.about, source.metrics)
    write_pipeline(source.pipeline, folder, nlp, meta, source.about)
    if source.export is not None:
        hidden = shutil.ignore_patterns(".*")
        shutil.copytree(source.export, folder / EXPORT, ignore=hidden)
        place = replace(place, export=EXPORT)
    if source.wheel:
        package = package_pipeline(
            source.pipeline, folder, about=source.about, metrics=source.metrics, nlp=nlp
        )
        place = replace(place, wheel=package.wheel.name)
    for name, text in hub_card(meta, source.metrics, place).items():
        write_text(folder / name, text)
    lines = (f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LARGE)
    write_text(folder / ".gitattributes", "".join(lines))
    return Layout(meta, files_of(folder), gaps(meta))


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a folder by their paths in a repository, in order."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {name: path for name, path in sorted(found.items()) if path.is_file()}


def _check_export(export: Path, nlp: Language) -> None:
    """Raise BertCrfError unless a folder is an export of this pipeline's weights."""
    infos = sorted(export.rglob("best_model.json"))
    if not (export / "best_model.json").is_file():
        raise BertCrfError(
            f"{export} has no best_model.json: name the folder that `bert-crf export` wrote."
        )
    if EXPORT in nlp.component_names:
        raise BertCrfError(
            f"a component of the pipeline is called {EXPORT}, as the folder for its exports is: "
            "push it without --export."
        )
    from ..trained import gather  # it imports all that a component needs

    own = {
        gather(nlp, name, {}).info["weights_sha256"]
        for name in nlp.component_names
        if is_bert_crf(nlp, name)
    }
    for path in infos:
        made_of = json.loads(path.read_text(encoding="utf8")).get("weights_sha256")
        if made_of not in own:
            raise BertCrfError(
                f"{path.parent} was made of other weights than the pipeline's: export it again."
            )
