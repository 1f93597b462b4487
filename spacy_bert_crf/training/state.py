"""The saved state of a training, from which it goes on after an interruption.

It is a folder, written by rename. `state/pipeline` holds the weights, and
`state/optimizer.safetensors` the moments of the optimizer. `state/state.json` holds the counters,
the shuffled order, the random states and the results. It also holds a fingerprint of the config
and the data, so that a state is not used with others.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Optional

import numpy as np
import safetensors
import safetensors.torch
import torch
from spacy import util
from spacy.language import Language
from spacy.training import Example
from thinc.api import Config, Model, Optimizer, PyTorchShim

from .._devices import default_device
from .._files import atomic_folder
from .._provenance import config_hash, flat_settings, settings_of
from ..annotation.coverage.covers import covers_of
from ..errors import BertCrfError, first_line
from ..model.gradients.scaling import GradScaler
from ..model.optimizer import GroupedAdamW

FOLDER, HISTORY = "state", "history.json"
#: Settings that may differ between the parts of a resumed training. The logger and the sources
#: change no weight.
#: The size of an encoder's passes changes their memory: a training whose memory was full goes on
#: with smaller ones.
#: A teacher may move: a hash of its weights is a setting of its own.
_FREE_TO_CHANGE = re.compile(
    r"training\.logger.*|components\.[^.]+\.model\..*\.batch_pieces"
    r"|(distillation|initialize\.before_init)\.teacher|paths\.sources"
)


@dataclass
class TrainingState:
    """Counters, order, random states and results of a training, between two updates.

    epoch: number of the epoch, from 0.
    batches_done: batches of this epoch that were used.
    step: updates so far.
    words: tokens so far.
    seconds: training time so far, evaluation included.
    order: example indices as shuffled for this epoch; None where the corpus is streamed.
    start_random: Python's random state before the first epoch. From it all batches can be drawn
        again, even those of a batcher that has a state of its own.
    losses: sum of the losses since the last evaluation, by component.
    loss_steps: updates since the last evaluation.
    results: score and step of each evaluation.
    epochs: rows of history.json.
    """

    epoch: int = 0
    batches_done: int = 0
    step: int = 0
    words: int = 0
    seconds: float = 0.0
    order: Optional[list[int]] = None
    start_random: Any = None
    losses: dict[str, float] = field(default_factory=dict)
    loss_steps: int = 0
    results: list[tuple[float, int]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)


def save_state(
    output: Path,
    state: TrainingState,
    nlp: Language,
    optimizer: Optimizer,
    belongs_to: dict[str, Any],
) -> None:
    """Write the state under `output`. The former one stays until this one is complete.

    output: folder of the training.
    state: counters, order and results.
    nlp: the pipeline in training.
    optimizer: a GroupedAdamW.
    belongs_to: the result of `fingerprint`.
    Raises BertCrfError for another optimizer, or if the state can't be written.
    """
    saved = _optimizer_of(optimizer).state_dict({i: n for n, i in layer_ids(nlp).items()})
    with atomic_folder(output / FOLDER) as folder:
        nlp.to_disk(folder / "pipeline")
        tensors = {k: v.detach().cpu().contiguous() for k, v in saved["tensors"].items()}
        safetensors.torch.save_file(tensors, str(folder / "optimizer.safetensors"))
        data = {
            "state": asdict(state),
            "optimizer": saved["counters"],
            "random": random_states(),
            "grad_scalers": {name: scaler.state() for name, scaler in _grad_scalers(nlp)},
            "belongs_to": belongs_to,
        }
        (folder / "state.json").write_text(json.dumps(data), encoding="utf8")


def read_state(output: Path, belongs_to: dict[str, Any]) -> Optional[dict[str, Any]]:
    """The saved state's JSON; None if there is no state.

    output: folder of the training.
    belongs_to: the result of `fingerprint` for the present config and data.
    Raises BertCrfError if it is damaged, or belongs to another config or other data.
    """
    folder = output / FOLDER
    if not folder.is_dir():
        return None
    again = f"Delete {folder} to start anew."
    try:
        data = json.loads((folder / "state.json").read_text(encoding="utf8"))
        known = {f.name for f in fields(TrainingState)}
        if set(data["state"]) != known or not {"optimizer", "random", "belongs_to"} <= set(data):
            raise ValueError("it has other entries than expected")
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise BertCrfError(
            f"can't resume: {folder / 'state.json'} is damaged ({err}). {again}"
        ) from err
    reason = difference(data["belongs_to"], belongs_to)
    if reason:
        raise BertCrfError(f"can't resume from {folder}: {reason}. {again}")
    return dict(data)


def read_history(output: Path) -> dict[str, Any]:
    """What `history.json` holds; empty if it is not there, or damaged.

    output: folder of the training.
    """
    try:
        return dict(json.loads((output / HISTORY).read_text(encoding="utf8")))
    except (OSError, ValueError):
        return {}


def load_nlp(output: Path, config: Config) -> Language:
    """The pipeline of the saved state. Raises BertCrfError if it is damaged.

    output: folder of the training.
    config: the present training config. `batch_pieces` is taken from it.
    """
    path = output / FOLDER / "pipeline"
    changed = {k: v for k, v in settings_of(config).items() if k.endswith(".batch_pieces")}
    try:
        known = settings_of(util.load_config(path / "config.cfg"))
        changed = {key: value for key, value in changed.items() if key in known}
        return util.load_model(path, config=changed)
    except Exception as err:
        reason = f"{path} is damaged ({first_line(err)})"
        raise BertCrfError(f"can't resume: {reason}. Delete {path.parent} to start anew.") from err


def restore_state(
    output: Path, data: dict[str, Any], nlp: Language, optimizer: Optimizer
) -> TrainingState:
    """Restore the optimizer from a saved state, and return the counters.

    The random states are not restored here. The caller does that after it has drawn this epoch's
    batches up to the saved position.

    output: folder of the training.
    data: the result of `read_state`.
    nlp: the pipeline loaded from `state/pipeline`.
    optimizer: the GroupedAdamW to restore.
    Raises BertCrfError if a file is damaged.
    """
    path = output / FOLDER / "optimizer.safetensors"
    try:
        tensors = safetensors.torch.load_file(str(path))
    except (OSError, safetensors.SafetensorError) as err:
        raise BertCrfError(
            f"can't resume: {path} is damaged ({err}). Delete {path.parent} to start anew."
        ) from err
    ids = layer_ids(nlp)
    devices = {layer: str(getattr(_shim_of(nlp, layer), "device", "cpu")) for layer in ids}
    tensors = {k: v.to(devices.get(k.rsplit("|", 2)[0], "cpu")) for k, v in tensors.items()}
    _optimizer_of(optimizer).load_state_dict(
        {"tensors": tensors, "counters": data["optimizer"]}, ids
    )
    scalers = data.get("grad_scalers", {})  # states of version 0.2 have none
    for name, scaler in _grad_scalers(nlp):
        scaler.load_state(scalers.get(name, {}))
    state = TrainingState(**data["state"])
    state.results = [(score, step) for score, step in state.results]
    return state


def fingerprint(config: Config, examples: Iterable[Example]) -> dict[str, Any]:
    """The fingerprint that identifies a training.

    It holds the settings one by one and a hash of the examples. It also holds a hash of each file
    and folder that a setting names (encoder, labels, corpora).

    config: the training config.
    examples: the training examples.
    """
    digest = hashlib.sha256()
    for example in examples:
        doc = example.reference
        digest.update(f"{doc.text}\0".encode("utf8", "surrogatepass"))
        digest.update(doc.to_array(["ENT_IOB", "ENT_TYPE"]).tobytes())
        if (covers := covers_of(doc)) is not None:
            digest.update(f"{sorted(covers)}\0".encode("utf8", "surrogatepass"))
    files = {
        key: hash_of(Path(value))
        for key, value in flat_settings(config)
        if is_path(value) and not _FREE_TO_CHANGE.fullmatch(key)
    }
    return {"config": settings_of(config), "data": digest.hexdigest(), "files": files}


def hashes(belongs_to: dict[str, Any]) -> dict[str, Any]:
    """The SHA-256 hashes of a fingerprint.

    `config_sha256` is of the settings. `data_sha256` holds one of the training examples as read,
    and one of each file and folder that a setting names.
    """
    return {
        "config_sha256": config_hash(belongs_to["config"]),
        "data_sha256": {
            "examples": belongs_to["data"],
            # [paths] only repeats values of other settings.
            **{k: v for k, v in belongs_to["files"].items() if not k.startswith("paths.")},
        },
    }


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The first difference between two fingerprints, in words; empty if there is none.

    The logger and the size of an encoder's passes may differ.

    old: fingerprint of the saved state.
    new: fingerprint of the present config and data.
    """
    for key in sorted({*old.get("config", {}), *new["config"]}):
        if _FREE_TO_CHANGE.fullmatch(key):
            continue
        a, b = old.get("config", {}).get(key), new["config"].get(key)
        # A default of before, where the encoder now decides.
        is_old_default = key.endswith(".tok2vec.max_length") and (a, b) == (512, 0)
        if a != b and not is_old_default:
            return f"it was made with {key} = {a!r}, the config has {b!r}"
    if old.get("data") != new["data"]:
        return "it was made with other training data"
    for key, digest in new["files"].items():
        # A file that is gone can't be compared. The state holds all that was needed of it.
        if old.get("files", {}).get(key, digest) != digest:
            return f"the content of {key} has changed since"
    return ""


def random_states() -> dict[str, Any]:
    """Random states of Python, numpy and torch, as JSON.

    Of the GPUs, only the one in use has a state here. CuPy's can't be read.
    """
    device = default_device()
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, gauss],
        "torch": torch.get_rng_state().tolist(),
        "cuda": [torch.cuda.get_rng_state(device).tolist()] if device.type == "cuda" else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Restore the random states that `random_states` returned, on the device in use now.

    States of older versions hold those of all GPUs of the machine.
    """
    set_python_random(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))
    device, saved = default_device(), states["cuda"]
    if saved and device.type == "cuda":
        own = saved[device.index if device.index < len(saved) else 0]
        torch.cuda.set_rng_state(torch.tensor(own, dtype=torch.uint8), device)


def set_python_random(state: Any) -> None:
    """Set Python's random state from its JSON form."""
    version, internal, gauss = state
    random.setstate((version, tuple(internal), gauss))


def layer_ids(nlp: Language) -> dict[str, int]:
    """The id in this process of each layer and shim of the pipeline, by a name that is stable."""
    out: dict[str, int] = {}
    for pipe_name, pipe in nlp.pipeline:
        model = getattr(pipe, "model", None)
        if isinstance(model, Model):
            for i, node in enumerate(model.walk()):
                out[f"{pipe_name}/{i}"] = node.id
                for j, shim in enumerate(node.shims):
                    # Layers and shims are counted separately. A layer's parameters have no dot.
                    out[f"{pipe_name}/{i}/shim{j}"] = shim.id
    return out


def _shim_of(nlp: Language, layer: str) -> Any:
    """The shim with one of the names of `layer_ids`; None for the name of a layer."""
    pipe_name, node, *shim = layer.rsplit("/", 2) if "/shim" in layer else layer.rsplit("/", 1)
    if not shim:
        return None
    model = nlp.get_pipe(pipe_name).model
    return list(model.walk())[int(node)].shims[int(shim[0][4:])]


def _grad_scalers(nlp: Language) -> Iterator[tuple[str, GradScaler]]:
    """The gradient scalers of own encoders and of thinc's shims, by the names of `layer_ids`."""
    for name in layer_ids(nlp):
        shim = _shim_of(nlp, name)
        own = getattr(shim, "grad_scaler", None)
        if isinstance(own, GradScaler):
            yield name, own
        elif isinstance(shim, PyTorchShim):
            yield name, GradScaler({}, shim._grad_scaler)


def _optimizer_of(optimizer: Optimizer) -> GroupedAdamW:
    if not isinstance(optimizer, GroupedAdamW):
        raise BertCrfError(
            f"the state of a {type(optimizer).__name__} can't be saved: use the optimizer "
            "spacy_bert_crf.AdamW.v1."
        )
    return optimizer


def is_path(value: Any) -> bool:
    """Whether a setting names a file, or a folder that holds a corpus or an encoder."""
    if not isinstance(value, str) or not value or len(value) > 1000 or "\0" in value:
        return False
    path = Path(value)
    if path.is_dir():
        return (path / "config.json").is_file() or any(path.glob("*.spacy"))
    return path.is_file()


def hash_of(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        if file.is_file():
            digest.update(file.name.encode("utf8") if path.is_dir() else b"")
            with open(file, "rb") as handle:
                while chunk := handle.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()
