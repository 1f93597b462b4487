"""A Hugging Face encoder in torch: load, tokenise, run, pack. Knows nothing of spaCy."""

import inspect
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.modeling_utils import no_init_weights
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from ..errors import BertCrfError, first_line
from .checkpoint_files import check_attention
from .cpu.linear import prefer_cpu
from .passes import IntArray, Plan

#: Attributes in which attention layers of different models keep a dropout rate as a number.
_DROPOUT_ATTRIBUTES = ("dropout_prob", "attention_dropout", "attention_probs_dropout_prob")


class LoadedEncoder(NamedTuple):
    """An encoder and its tokenizer."""

    model: Any
    tokenizer: Any


def load_encoder(
    name: str,
    tokenizer_config: dict[str, Any],
    transformer_config: dict[str, Any],
    allow_download: bool = False,
) -> LoadedEncoder:
    """Load a folder, or a name in the local cache; from the hub only if `allow_download`.

    Raises BertCrfError if it isn't there, is damaged, or has no fast tokenizer.
    """
    if not name:
        raise BertCrfError(
            "the encoder has no name: set [components.bert_crf.model.tok2vec] name to the folder "
            "of a converted encoder (see `spacy bert-crf convert-checkpoint --help`)."
        )
    # Not asked and not overridable: code that comes with an encoder never runs.
    online = {"local_files_only": not allow_download, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(name, **online, **transformer_config)
        check_attention(config, f"the config of the encoder {name!r}")
        tokenizer = AutoTokenizer.from_pretrained(name, **online, **tokenizer_config)
        with _quiet():
            model, info = AutoModel.from_pretrained(
                name, config=config, output_loading_info=True, **online, **without_pooler(config)
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as err:
        where = "a folder" if Path(name).exists() else "neither a folder nor in the local cache"
        hint = "" if allow_download else " To fetch it from the hub, set allow_download = true."
        raise BertCrfError(
            f"can't load the encoder {name!r} ({where}): {first_line(err)}{hint}"
        ) from err
    missing = [key for key in info["missing_keys"] if "pooler" not in key]
    if missing:
        raise BertCrfError(
            f"encoder {name!r} lacks {len(missing)} weights, the first: {', '.join(missing[:5])}. "
            "A checkpoint with old names needs `spacy bert-crf convert-checkpoint` first."
        )
    if not tokenizer.is_fast:
        raise BertCrfError(
            f"encoder {name!r} has no fast tokenizer (character offsets are needed): "
            "add a tokenizer.json to its folder."
        )
    return _ready(model, tokenizer)


def longest_input(encoder: LoadedEncoder, max_length: int) -> int:
    """Most input ids of one pass, special ones included."""
    limits = [max_length, encoder.tokenizer.model_max_length]
    config = encoder.model.config
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        embeddings = getattr(encoder.model, "embeddings", None)
        # RoBERTa and its kin count positions from padding_idx + 1.
        offset = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
        limits.append(positions - (offset + 1 if offset is not None else 0))
    return int(min(limits))


def set_dropout(model: nn.Module, rate: float) -> None:
    """Set every dropout of a model, those that attention layers keep as numbers included."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        for name in _DROPOUT_ATTRIBUTES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)


def run(
    model: Any,
    plan: Plan,
    device: torch.device,
    project: Optional[tuple[Tensor, Tensor]] = None,
    autocast: Optional[torch.dtype] = None,
) -> Tensor:
    """Vectors of all tokens of a plan: the mean of their wordpieces' rows. [N, width], float32

    A token without wordpieces gets zeros.
    project: weight [K, width] and bias [K] of a linear layer; then the result is its output
        [N, K]. Applied to each pass as it comes, so that the hidden states of a long text are
        never held together; equal but for rounding, as mean and linear map commute.
    autocast: dtype of mixed precision, None for float32.
    """
    outputs = []
    for batch in plan.batches:
        ids = _to(batch.ids, device)
        mask = None if batch.mask is None else _to(batch.mask, device)
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            # shape: (W, L, width)
            hidden = model(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
        # shape: (W * L, width)
        rows = hidden.flatten(0, 1).float()
        outputs.append(rows if project is None else rows @ project[0].T)
    if outputs:
        rows = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        out = _pool(rows, plan, device)
    else:
        width = model.config.hidden_size if project is None else project[0].shape[0]
        out = torch.zeros(len(plan.counts), width, device=device)
    return out if project is None else out + project[1]


def weights_of(encoder: LoadedEncoder) -> dict[str, Tensor]:
    """All tensors of an encoder, on the CPU."""
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in encoder.model.state_dict().items()
    }


def pack(encoder: LoadedEncoder) -> dict[str, Any]:
    """Everything but the weights that `unpack` needs, as strings and bytes."""
    with tempfile.TemporaryDirectory() as folder:
        encoder.tokenizer.save_pretrained(folder)
        files = {f.name: f.read_bytes() for f in sorted(Path(folder).iterdir()) if f.is_file()}
    config = encoder.model.config.to_dict()
    config["_name_or_path"] = ""  # where it came from is nobody's business
    config.pop("_attn_implementation_autoset", None)  # see check_attention
    return {
        "config": json.dumps(config, sort_keys=True, default=str),
        "tokenizer": files,
    }


def unpack(data: dict[str, Any], weights: dict[str, Tensor]) -> LoadedEncoder:
    """The encoder that was packed, on these very tensors. No file and no network is needed.

    Raises BertCrfError if the data is damaged.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in data["tokenizer"].items():
                (Path(folder) / Path(name).name).write_bytes(content)
            (Path(folder) / "config.json").write_text(data["config"], encoding="utf8")
            only = {"local_files_only": True, "trust_remote_code": False}
            config = AutoConfig.from_pretrained(folder, **only)
            check_attention(config, "its config")
            _check_sizes(config, weights)
            tokenizer = AutoTokenizer.from_pretrained(folder, **only)
        with no_init_weights():
            model = AutoModel.from_config(config, **without_pooler(config))
        model.load_state_dict(weights, assign=True)
    except Exception as err:
        raise BertCrfError(f"the saved encoder is damaged: {first_line(err)}") from err
    return _ready(model, tokenizer)


def _ready(model: Any, tokenizer: Any) -> LoadedEncoder:
    prefer_cpu(model)
    return LoadedEncoder(model.float().eval(), tokenizer)


def _check_sizes(config: Any, weights: dict[str, Tensor]) -> None:
    """Raise ValueError if a model of this config would be larger than the weights for it."""
    total = sum(tensor.numel() for tensor in weights.values())
    for key, most in {
        "num_hidden_layers": len(weights),
        "hidden_size": total,
        "vocab_size": total // max(int(getattr(config, "embedding_size", config.hidden_size)), 1),
        "intermediate_size": total,
        "max_position_embeddings": total,
        "type_vocab_size": total,
    }.items():
        value = getattr(config, key, 0)
        if isinstance(value, int) and value > most:
            raise ValueError(f"{key} is {value}, the weights are of a smaller model")


def _pool(rows: Tensor, plan: Plan, device: torch.device) -> Tensor:
    if len(plan.rows) == len(plan.counts) and bool((plan.counts == 1).all()):
        return rows.index_select(0, _to(plan.rows, device))
    offsets = np.cumsum(plan.counts) - plan.counts
    return nn.functional.embedding_bag(
        _to(plan.rows, device), rows, _to(offsets, device), mode="mean"
    )


def _to(array: IntArray, device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device, non_blocking=True)


def without_pooler(config: Any) -> dict[str, Any]:
    """Arguments that build the model of a config without its pooler, which is of no use here."""
    model_class = MODEL_MAPPING.get(type(config), None)
    if isinstance(model_class, (list, tuple)):
        model_class = model_class[0]
    if model_class and "add_pooling_layer" in inspect.signature(model_class.__init__).parameters:
        return {"add_pooling_layer": False}
    return {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from logging each weight it leaves out (pooler, cls heads)."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
