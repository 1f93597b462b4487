"""What a run does: its pipeline and the settings that decide its output, with their digests."""

import functools
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import xxhash

from .. import _provenance
from ..errors import BertCrfError, first_line
from .sinks import Sink, find_sink
from .sources.read import Fields

if TYPE_CHECKING:
    from spacy.language import Language

#: Files of a package that are not its pipeline.
_LEFT_OUT = ("__pycache__",)


@dataclass(frozen=True)
class Settings:
    """The settings that decide the bytes of the output.

    fields: which fields of the input are read.
    shard_rows: largest number of rows of a shard.
    shard_characters: a shard ends with the row that reaches this number of characters.
    output: format of the output: parquet, jsonl or spacy.
    per_entity: a row of the output is an entity. Otherwise it is a document.
    scores: entities have probabilities. This needs a component bert_crf.
    int8: components bert_crf compute in 8-bit integers.
    gpu: the pipeline runs on a GPU.
    """

    fields: Fields = field(default_factory=Fields)
    shard_rows: int = 2_000
    shard_characters: int = 1_000_000
    output: str = "parquet"
    per_entity: bool = False
    scores: bool = False
    int8: bool = False
    gpu: bool = False

    @property
    def sink(self) -> Sink:
        """The format of the output."""
        return find_sink(self.output)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def check(self) -> None:
        """Raises BertCrfError for settings that can't be."""
        sink = self.sink
        if self.per_entity and not sink.has_entity_rows:
            raise BertCrfError(f"--rows entities is not known of {self.output}: leave it out.")
        for name, value in (
            ("--shard-rows", self.shard_rows),
            ("--shard-characters", self.shard_characters),
        ):
            if value < 1:
                raise BertCrfError(f"{name} is {value}: it must be 1 or more.")
        taken = {"id", "entities", *(("start", "end", "label") if self.per_entity else ())}
        for name in self.fields.keep:
            if name in taken and not (name == "id" and self.fields.id == "id"):
                raise BertCrfError(f"--keep {name}: the output has a field {name} of its own.")


@dataclass(frozen=True)
class Job:
    """A pipeline, what it does and where the output goes. It can be sent to another process.

    pipeline: folder of a pipeline, or name of an installed one.
    pipeline_digest: digest of its files, and of `code`.
    settings: what decides the output.
    output: folder of the output.
    code: file with registered functions of the pipeline, or None.
    gpu_id: number of the GPU, -1 for the CPU.
    """

    pipeline: str
    pipeline_digest: str
    settings: Settings
    output: Path
    code: Optional[Path] = None
    gpu_id: int = -1

    @property
    def data(self) -> Path:
        """The folder of the shards."""
        return self.output / "data"

    def path(self, name: str) -> Path:
        """The file of a shard."""
        return self.data / f"{name}{self.settings.sink.suffix}"

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for two runs to share their shards."""
        return {"pipeline": self.pipeline_digest, "settings": self.settings.to_dict()}

    def load(self) -> "Language":
        """The pipeline, set up for the job. Raises BertCrfError if it can't be loaded."""
        from .annotator import prepare

        nlp = load(self.pipeline, self.code, self.gpu_id)
        prepare(nlp, scores=self.settings.scores, int8=self.settings.int8)
        return nlp


def load(pipeline: str, code: Optional[Path] = None, gpu_id: int = -1) -> "Language":
    """Load a pipeline from a folder, or an installed one by its name.

    Raises BertCrfError if it can't be loaded.
    """
    from spacy import util

    from .._devices import use_device
    from ..component.pipelines import load_pipeline

    if code is not None:
        try:
            util.import_file("python_code", code)
        except Exception as err:
            raise BertCrfError(f"can't import {code}: {first_line(err)}") from err
    if gpu_id >= 0:
        use_device(gpu_id)
    folder = Path(pipeline)
    if folder.exists() or not util.is_package(pipeline):
        return load_pipeline(folder)
    try:
        return util.load_model(pipeline)
    except Exception as err:
        raise BertCrfError(f"can't load the pipeline {pipeline}: {first_line(err)}") from err


def digest_of(pipeline: str, code: Optional[Path] = None) -> str:
    """Digest of the files of a pipeline, and of the file of its registered functions.

    Raises BertCrfError if there is no such pipeline.
    """
    from spacy import util

    folder = Path(pipeline)
    if not folder.is_dir():
        if not util.is_package(pipeline):
            raise BertCrfError(
                f"there is no pipeline {pipeline}: name the folder of a pipeline, or an installed "
                "one."
            )
        folder = Path(util.get_package_path(pipeline))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [path for path in files if not set(path.parts) & set(_LEFT_OUT)]
    total = xxhash.xxh3_128()
    for path in [*files, *([code] if code else [])]:
        name = path.relative_to(folder).as_posix() if path != code else ""
        own = xxhash.xxh3_128()
        with path.open("rb") as file:
            while block := file.read(2**20):
                own.update(block)
        total.update(f"{name}\0{own.hexdigest()}\0".encode("utf8", "surrogateescape"))
    return str(total.hexdigest())


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that decide the output."""
    from importlib import metadata

    return _provenance.versions() | {"pyarrow": metadata.version("pyarrow")}


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The first difference between two identities, in words; "" if they are equal."""
    if ours.get("pipeline") != theirs.get("pipeline"):
        return "another pipeline"
    mine, other = (dict(_flat(each.get("settings", {}))) for each in (ours, theirs))
    for name in sorted({*mine, *other}):
        if mine.get(name) != other.get(name):
            return f"another setting {name}: {other.get(name)!r}, and now {mine.get(name)!r}"
    return ""


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((prefix + key, value))
    return pairs
