"""A folder for `AutoModelForTokenClassification.from_pretrained`."""

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BertCrfError

if TYPE_CHECKING:
    from ..trained import Trained


def write_huggingface(folder: Path, trained: "Trained") -> None:
    """model.safetensors and the architecture in config.json (which is there already).

    Raises BertCrfError if the model class of this encoder has another head than a linear one.
    """
    import json

    import torch
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
        raise BertCrfError(f"transformers has no token classification for {kind}.") from err
    wanted = {name: t.shape for name, t in model.state_dict().items()}
    wanted = {name: shape for name, shape in wanted.items() if not name.endswith("position_ids")}
    if wanted != {name: tensor.shape for name, tensor in tensors.items()}:
        other = sorted(wanted.keys() ^ tensors.keys())
        raise BertCrfError(
            f"transformers' token classification for {kind} has other weights than an encoder and "
            f"a linear layer ({', '.join(other[:4])}): choose another format."
        )
    path = folder / "config.json"
    said = json.loads(path.read_text(encoding="utf8"))
    said["architectures"] = [type(model).__name__]
    path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf8")
    # Cloned, because safetensors refuses tensors that share memory.
    clones = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(clones, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
