"""A folder for `AutoModelForTokenClassification.from_pretrained`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...encoder.hf import state_of, takes_types
from ...errors import BertCrfError
from .best_model import read_config
from .format import Format, Options, Run, on_arrays

if TYPE_CHECKING:
    from ..trained import Trained

_FILE = "model.safetensors"


def _write(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
    """model.safetensors, and the architecture in the config.json that is there.

    Raises BertCrfError if the model class of this encoder has another head than a linear one.
    """
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForTokenClassification

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    tensors = {
        f"{trained.prefix}.{name}": tensor for name, tensor in trained.encoder_tensors().items()
    }
    tensors |= {"classifier.weight": trained.weight, "classifier.bias": trained.bias}
    kind = trained.config.model_type
    try:
        with torch.device("meta"):
            model = AutoModelForTokenClassification.from_config(config)
    except ValueError as err:
        raise BertCrfError(
            f"transformers has no token classification for {kind}: choose another format."
        ) from err
    wanted = {name: t.shape for name, t in state_of(model).items()}
    wanted = {name: shape for name, shape in wanted.items() if not name.endswith("position_ids")}
    # Some classes have a pooler, which they do not use for tokens.
    pooler = {name: shape for name, shape in wanted.items() if ".pooler." in name}
    tensors |= {name: torch.zeros(shape) for name, shape in pooler.items()}
    if wanted != {name: tensor.shape for name, tensor in tensors.items()}:
        other = sorted(wanted.keys() ^ tensors.keys())
        raise BertCrfError(
            f"transformers' token classification for {kind} has other weights than an encoder and "
            f"a linear layer ({', '.join(other[:4])}): choose another format."
        )
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf8"))
    content["architectures"] = [type(model).__name__]
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf8")
    # Cloned, because safetensors refuses tensors that share memory.
    clones = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(clones, folder / _FILE, metadata={"format": "pt"})
    (folder / _FILE).chmod(0o644)
    return {}


def _open(folder: Path, file: str) -> Run:
    from transformers import AutoModelForTokenClassification

    from ..._transformers import built_alone, float32_argument, quiet

    with quiet(), built_alone():
        model, info = AutoModelForTokenClassification.from_pretrained(
            folder, config=read_config(folder), local_files_only=True, output_loading_info=True,
            **float32_argument(),
        )  # fmt: skip
    odd = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    if odd:
        raise BertCrfError(f"{folder}: weights missing or unexpected: {odd[:5]}. Export again.")
    model.eval()
    has_types = takes_types(model)

    def run(ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        more = {"token_type_ids": types} if has_types else {}
        logits: torch.Tensor = model(input_ids=ids, attention_mask=mask, **more).logits
        return logits

    return on_arrays(run)


FORMAT = Format(
    name="huggingface",
    emissions=_FILE,
    write=_write,
    open=_open,
    reader="huggingface.py",
    lacks="the CRF is not in the model, but in transitions.npz; transformers' own pipeline takes "
    "the best tag of each wordpiece",
)
