"""Opens what an export wrote, each format by its own runtime, behind one call.

Reads only the folder: what is compared or imported is what a consumer gets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from ..encoder.checkpoint_files import check_attention, read_json, read_tensors
from ..encoder.hf import without_pooler
from ..encoder.passes import IntArray
from ..errors import BertCrfError, first_line
from .folder import SIDECAR, TRANSITIONS, WEIGHTS
from .formats.bert4torch import from_bert4torch
from .graphs import EmissionModel

FloatArray = NDArray[np.float32]
#: ids, mask [B, T] to emissions [B, T, K]
Emissions = Callable[[IntArray, IntArray], FloatArray]
#: ids, mask [B, T], token_pieces [B, S, 2] to tags [B, S]
Decode = Callable[[IntArray, IntArray, IntArray], IntArray]

_EMISSIONS = {
    "best_model.pt": WEIGHTS,
    "bert4torch": WEIGHTS,
    "huggingface": "model.safetensors",
    "torchscript": "emissions.pt",
    "torch-int8": "emissions.pt",
    "onnx": "emissions.onnx",
    "onnx-int8": "emissions.onnx",
    "onnx-int8-static": "emissions.onnx",
}


@dataclass(frozen=True)
class Export:
    """A folder of one format.

    format: its name, `best_model.pt` for the folder that holds the others.
    info: what best_model.json says.
    """

    folder: Path
    format: str
    info: dict[str, Any]

    @property
    def emissions_file(self) -> Path:
        """The model that gives emissions."""
        return self.folder / _EMISSIONS[self.format]

    @property
    def decode_file(self) -> Path | None:
        """The model that gives tags, if the format has one."""
        if not self.emissions_file.name.startswith("emissions."):
            return None
        return self.emissions_file.with_stem("decode")

    def open_emissions(self) -> Emissions:
        """Load the model that gives emissions. Raises BertCrfError if it can't be read."""
        run = _open(self.format, self.folder, self.emissions_file)
        return lambda ids, mask: np.asarray(run(ids, mask, np.zeros_like(ids)), dtype=np.float32)

    def open_decode(self) -> Decode:
        """Load the model that gives tags. Raises BertCrfError if it can't be read."""
        assert self.decode_file is not None
        run = _open(self.format, self.folder, self.decode_file)
        return lambda ids, mask, pieces: run(ids, mask, np.zeros_like(ids), pieces)

    def scores(self) -> dict[str, NDArray[Any]]:
        """The arrays of transitions.npz; for best_model.pt and bert4torch, those in the weights.

        Raises BertCrfError if they are missing or damaged.
        """
        path = self.folder / TRANSITIONS
        if self.format in ("best_model.pt", "bert4torch"):
            tensors = read_tensors(self.folder / WEIGHTS)
            try:
                names = ("start_transitions", "end_transitions", "transitions")
                start, end, transitions = (tensors[f"crf.{name}"].numpy() for name in names)
                bias = tensors["fc.bias" if "fc.bias" in tensors else "classifier.bias"].numpy()
            except KeyError as err:
                raise BertCrfError(f"{self.folder / WEIGHTS} has no tensor {err}.") from err
            return {"start": start, "end": end, "transitions": transitions, "bias": bias}
        try:
            with np.load(path, allow_pickle=False) as data:
                return {name: data[name] for name in data.files}
        except (OSError, ValueError, EOFError, TypeError, BadZipFile) as err:
            raise BertCrfError(f"{path} is missing or damaged: export again.") from err


def open_export(folder: Path) -> Export:
    """The export in a folder. Raises BertCrfError if it holds none."""
    if not (folder / SIDECAR).is_file():
        raise BertCrfError(
            f"{folder} has no {SIDECAR}: name a folder that `spacy bert-crf export` wrote, or one "
            "of the format folders in it."
        )
    info = read_json(folder / SIDECAR)
    name = info.get("format", WEIGHTS)
    if name not in _EMISSIONS:
        raise BertCrfError(f"{folder / SIDECAR}: unknown format {name!r}.")
    export = Export(folder, name, info)
    for path in (export.emissions_file, export.decode_file):
        if path is not None and not path.is_file():
            raise BertCrfError(f"{folder} lacks {path.name}: export again with --to {name}.")
    return export


def find_exports(folder: Path) -> list[Export]:
    """The export in a folder, and those of further formats below it."""
    found = [open_export(folder)]
    if found[0].format == WEIGHTS:
        below = sorted(path.parent for path in folder.glob(f"*/{SIDECAR}"))
        found += [open_export(path) for path in below]
    return sorted(found, key=lambda export: list(_EMISSIONS).index(export.format))


def _open(name: str, folder: Path, path: Path) -> Callable[..., Any]:
    try:
        if name.startswith("onnx"):
            return _open_onnx(path)
        if name.startswith("torch"):
            return _open_torchscript(path)
        if name == "huggingface":
            return _open_huggingface(folder)
        return _open_weights(name, folder, path)
    except BertCrfError:
        raise
    except Exception as err:  # each runtime has its own kinds
        reason = first_line(err)
        raise BertCrfError(f"{path} can't be loaded ({reason}): export again.") from err


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    check_attention(config, folder / "config.json")
    return config


def _open_weights(name: str, folder: Path, path: Path) -> Callable[..., Any]:
    from transformers import AutoModel

    tensors = read_tensors(path)
    if name == "bert4torch":
        tensors = from_bert4torch(tensors, path)
    config = _config(folder)
    encoder = AutoModel.from_config(config, **without_pooler(config))
    prefix = f"{encoder.base_model_prefix}."
    own = {k[len(prefix) :]: t for k, t in tensors.items() if k.startswith(prefix)}
    encoder.load_state_dict(own)
    model = EmissionModel(encoder, tensors["classifier.weight"], tensors["classifier.bias"])
    return _on_tensors(model.eval())


def _open_torchscript(path: Path) -> Callable[..., Any]:
    jit: Any = torch.jit
    run = _on_tensors(jit.load(str(path), map_location="cpu"))

    def run_plainly(*arrays: Any) -> Any:
        # The optimising executor specialises to each new shape, which costs more than it gains.
        with jit.optimized_execution(False):
            return run(*arrays)

    return run_plainly


def _open_huggingface(folder: Path) -> Callable[..., Any]:
    from transformers import AutoModelForTokenClassification

    model, info = AutoModelForTokenClassification.from_pretrained(
        folder, config=_config(folder), local_files_only=True, output_loading_info=True
    )
    odd = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    if odd:
        raise BertCrfError(f"{folder}: weights missing or unexpected: {odd[:5]}.")
    model.eval()

    def run(ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        more = {"token_type_ids": types} if model.config.model_type == "bert" else {}
        logits: torch.Tensor = model(input_ids=ids, attention_mask=mask, **more).logits
        return logits

    return _on_tensors(run)


def _open_onnx(path: Path) -> Callable[..., Any]:
    from .formats.onnx import need_onnx

    need_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    all_names = ["input_ids", "attention_mask", "token_type_ids", "token_pieces"]

    def run(*arrays: Any) -> Any:
        given = dict(zip(all_names, arrays, strict=False))
        return session.run(None, {name: given[name] for name in names})[0]

    return run


def _on_tensors(module: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arrays: Any) -> Any:
        with torch.inference_mode():
            return module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)).numpy()

    return run
