"""The description of an export format: how it is written and opened, and where its scores are."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...crf.chain_weights import ChainWeights
from ...errors import BertCrfError

if TYPE_CHECKING:
    from ..trained import Trained

#: File with the scores of the CRF in the folder of every further format.
TRANSITIONS = "transitions.npz"
#: Files that read a text in a folder, without spaCy and this package. The second is that of a
#: format, and imports the first.
READER, PREDICT = "reader.py", "predict.py"
#: Where their sources are.
READERS = Path(__file__).parents[1] / "readers"
#: The packages that each predict.py needs, by its source.
NEEDS = {
    "best_model.py": "torch, transformers and numpy",
    "bert4torch.py": "torch, tokenizers and numpy",
    "huggingface.py": "torch, transformers and numpy",
    "torchscript.py": "torch, tokenizers and numpy",
    "onnx.py": "onnxruntime, tokenizers and numpy",
}
_HALF = "the encoder is in {}: about the same entities, not always the same"
#: What a format with an encoder of 16 bits lacks, and its tolerance.
HALF_PRECISION: dict[torch.dtype, dict[str, Any]] = {
    torch.float16: {"lacks": _HALF.format("float16"), "tolerance": 2e-2},
    torch.bfloat16: {"lacks": _HALF.format("bfloat16"), "tolerance": 1e-1},
}
#: What an int8 format lacks (see Format.lacks).
ROUNDED_SCORES = "scores are rounded: about the same entities, not always the same"

#: A model on int64 arrays. Inputs are ids, mask and types [B, T], for tags also token_pieces
#: [B, S, 2 or 3] (see graphs.TagDecoder). The output is emissions [B, T, K] or tags [B, S].
Run = Callable[..., Any]


class Scores(NamedTuple):
    """Scores that decoding needs beside the emissions.

    chain: scores of the CRF and their legal masks.
    bias: emissions of a token without wordpieces. [K]
    """

    chain: ChainWeights
    bias: Tensor


@dataclass(frozen=True)
class Options:
    """Options of an export that formats may read.

    shape: batch and length of a graph with a fixed shape.
    calibration: folder of inputs for static quantisation.
    any_cpu: int8 weights of 7 bits, so that no product overflows on a CPU without VNNI.
    """

    shape: Optional[tuple[int, int]] = None
    calibration: Optional[Path] = None
    any_cpu: bool = False

    @property
    def bits(self) -> str:
        """A sentence for READMEs on the bits of int8 weights."""
        if self.any_cpu:
            return "Weights have 7 bits (`--any-cpu`), so that no product overflows on any CPU."
        return (
            "Weights have 8 bits: for CPUs with VNNI (x86 since about 2019). On older ones "
            "products may overflow silently; export with `--any-cpu` for these."
        )


def read_scores(folder: Path) -> Scores:
    """The scores in a folder's transitions.npz.

    Raises BertCrfError if the file is missing or damaged.
    """
    arrays = _read_arrays(folder / TRANSITIONS)
    if "bias" not in arrays:
        raise BertCrfError(f"{folder / TRANSITIONS} has no array 'bias': export again.")
    return Scores(read_chain(folder / TRANSITIONS), torch.from_numpy(arrays["bias"]))


def read_chain(path: Path) -> ChainWeights:
    """The scores of the CRF in a transitions.npz.

    Raises BertCrfError if the file is missing or damaged.
    """
    try:
        return ChainWeights.from_npz(_read_arrays(path))
    except (KeyError, ValueError, TypeError) as err:
        if isinstance(err, BertCrfError):
            raise
        raise BertCrfError(f"{path} is damaged ({err}): export again.") from err


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, TypeError, AttributeError, BadZipFile) as err:
        raise BertCrfError(f"{path} is missing or damaged: export again.") from err
    except Exception as err:  # the exception of a damaged file depends on where it is damaged
        raise BertCrfError(f"{path} is damaged ({type(err).__name__}): export again.") from err


def _always(has_calibration: bool) -> None:
    """The check of a format without requirements."""


@dataclass(frozen=True)
class Format:
    """One format of an export.

    name: name of the format, of its folder and of its README text in export/readme.
    emissions: file of the model that computes emissions.
    write: writes the model into a folder that has all other files; returns values for the README.
    open: loads one of the files of a folder.
    reader: file in export/readers that becomes predict.py of the folder.
    decode: file of the model that computes tags; empty if the format has none.
    weights: file of the weights of both models; empty if they are in the models' files.
    exact: whether emissions are those of the pipeline but for rounding in float32.
    tolerance: largest difference of emissions when they are compared with those of the pipeline,
        relative to the largest emission; 0 for no comparison.
    scores: reads the scores for decoding.
    check: raises BertCrfError if the format can't be written. Its argument is whether there are
        calibration inputs.
    lacks: what of a pipeline the model in this format does not hold or rounds. For a note.
    """

    name: str
    emissions: str
    write: "Callable[[Path, Trained, Options], dict[str, str]]"
    open: Callable[[Path, str], Run]
    reader: str
    decode: str = ""
    weights: str = ""
    exact: bool = True
    tolerance: float = 1e-4
    scores: Callable[[Path], Scores] = read_scores
    check: Callable[[bool], None] = _always
    lacks: str = ""


def write_readers(folder: Path, reader: str) -> None:
    """Write predict.py and reader.py into a folder of an export.

    reader: see Format.
    """
    for source, name in ((READER, READER), (reader, PREDICT)):
        shutil.copyfile(READERS / source, folder / name)


def is_reader(path: Path) -> bool:
    """Whether a file is a reader that an export wrote, of this version or another one."""
    if path.name not in (READER, PREDICT):
        return False
    with path.open(encoding="utf8", errors="replace") as lines:
        return "spacy-bert-crf" in lines.readline()


def on_arrays(module: Callable[..., Any]) -> Run:
    """A torch module as a function from numpy arrays to a numpy array."""

    def run(*arrays: Any) -> Any:
        with torch.inference_mode():
            return module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)).numpy()

    return run


def float_layers_list(left: list[str]) -> str:
    """A Markdown list of layers that stay in float32, the classifier among them."""
    return "\n".join(f"- {line}" for line in [*left, "the classifier"])
