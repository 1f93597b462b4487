"""best_model.pt: the weights under Hugging Face and pytorch-crf names (docs/best_model.md)."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..._host import float32_default
from ...crf.chain_weights import ChainWeights
from ...encoder.checkpoint_files import check_attention, read_tensors
from ...encoder.hf import load_weights, without_pooler
from ...errors import BertCrfError
from ..graphs import EmissionModel
from .format import Format, Options, Run, Scores, on_arrays

if TYPE_CHECKING:
    from ..trained import Trained

WEIGHTS = "best_model.pt"


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """torch.save, with bytes that do not depend on the name of the file."""
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    path.write_bytes(buffer.getvalue())


def read_config(folder: Path) -> Any:
    """The Hugging Face config of a folder. Raises BertCrfError if it names code on a hub."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    check_attention(config, folder / "config.json")
    return config


def open_tensors(tensors: dict[str, Tensor], folder: Path) -> Run:
    """A model that computes emissions.

    tensors: under the names of a best_model.pt.
    folder: where the config of the encoder is.
    """
    from ..._transformers import model_from_config

    config = read_config(folder)
    with float32_default():
        encoder = model_from_config(config, **without_pooler(config))
    prefix = f"{encoder.base_model_prefix}."
    own = {k[len(prefix) :]: t for k, t in tensors.items() if k.startswith(prefix)}
    load_weights(encoder, own)
    model = EmissionModel(encoder, tensors["classifier.weight"], tensors["classifier.bias"])
    return on_arrays(model.eval())


def scores_in_weights(folder: Path, bias: str = "classifier.bias") -> Scores:
    """The scores in the weights themselves; all transitions are legal.

    folder: the folder of the format.
    bias: name of the classifier's bias in the file.
    Raises BertCrfError if one is missing.
    """
    tensors = read_tensors(folder / WEIGHTS)
    try:
        return Scores(ChainWeights.from_state(tensors), tensors[bias])
    except KeyError as err:
        raise BertCrfError(f"{folder / WEIGHTS} has no tensor {err}: export again.") from err
    except ValueError as err:
        raise BertCrfError(f"{folder / WEIGHTS}: {err} Export again.") from err


def _write(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
    save_tensors(trained.tensors(), folder / WEIGHTS)
    return {}


def _open(folder: Path, file: str) -> Run:
    return open_tensors(read_tensors(folder / file), folder)


FORMAT = Format(
    name=WEIGHTS,
    emissions=WEIGHTS,
    write=_write,
    open=_open,
    reader="best_model.py",
    scores=scores_in_weights,
)
