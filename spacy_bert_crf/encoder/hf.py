"""A Hugging Face encoder in torch: load it, run it over a plan of passes, save and restore it."""

import inspect
import json
import logging
import re
import tempfile
import textwrap
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from .._host import float32_default, plain_torch
from .._transformers import (
    auto_class,
    built_alone,
    float32_argument,
    hub_name,
    leave_out_attentions,
    load_tokenizer,
    model_from_config,
    quiet,
    save_tokenizer,
    without_dtype,
    without_init,
)
from ..errors import BertCrfError, first_line
from .checkpoint_files import MAX_LAYERS, check_attention
from .cpu.updates.training import prefer_cpu
from .passes import plan_batches, run, special_ids

#: Model types whose vectors depend on the padding beside a text, whatever the attention mask says:
#: they convolve, pool or average over it.
_READ_PADDING = ("convbert", "funnel", "nystromformer", "yoso")
#: Weights of pretraining, of pooling and of a last linear layer, which no training needs.
_NO_MATTER = re.compile(r"(^|\.)(pooler|cls|lm_head|classifier|.*position_ids)(\.|$)|predictions")
#: Name of the encoder that comes through pip.
PACKAGED = "packaged"
#: Largest window where no `max_length` is set. The memory of attention grows with its square.
LONGEST = 8192
#: The window of an encoder without a limit, and what such a tokenizer exceeds.
_USUAL_LENGTH, _NO_LIMIT = 512, 1_000_000
#: Messages about what was left out. The commands print them.
logger = logging.getLogger("spacy_bert_crf.encoder")


class LoadedEncoder(NamedTuple):
    """An encoder (transformers' PreTrainedModel) and its fast tokenizer."""

    model: Any
    tokenizer: Any


@plain_torch()
@float32_default()
def load_encoder(
    name: str,
    tokenizer_config: dict[str, Any],
    transformer_config: dict[str, Any],
    allow_download: bool = False,
) -> LoadedEncoder:
    """Load an encoder, and run it once on a tiny input. On the CPU, in evaluation mode, float32.

    name: a folder, or a name on the hub, which is looked up in the local cache. `name@revision`
        pins a revision. The commit is recorded as the `origin` in the config.
    tokenizer_config: arguments for transformers' AutoTokenizer.from_pretrained.
    transformer_config: settings that replace those of the encoder's config.json.
    allow_download: whether an encoder that is not in the local cache may be fetched from the hub.
    Raises BertCrfError if the encoder is not there or damaged, has no fast tokenizer, or does not
    give one vector for each wordpiece.
    """
    if not name:
        raise BertCrfError(
            "the encoder has no name: set [components.bert_crf.model.tok2vec] name to the folder "
            "of a converted encoder (see `spacy bert-crf convert-checkpoint --help`)."
        )
    _check_folder(Path(name))
    # Code that comes with an encoder never runs. No setting overrides this.
    online: dict[str, Any] = {"local_files_only": not allow_download, "trust_remote_code": False}
    model_name, online["revision"] = (name, None) if Path(name).exists() else hub_name(name)
    online = {key: value for key, value in online.items() if value is not None}
    try:
        config = AutoConfig.from_pretrained(model_name, **online, **transformer_config)
        check_attention(config, f"the config of the encoder {name!r}")
        leave_out_attentions(config)
        tokenizer = load_tokenizer(model_name, **online, **tokenizer_config)
        with quiet(show_progress=allow_download), built_alone():
            model, info = auto_class(config).from_pretrained(
                model_name, config=config, output_loading_info=True,
                **float32_argument(), **online, **without_pooler(config),
            )  # fmt: skip
    except Exception as err:  # What a damaged file raises depends on the library that reads it.
        is_folder = Path(name).exists()
        where = "a folder" if is_folder else "neither a folder nor in the local cache"
        hint = " To fetch it from the hub, set allow_download = true."
        raise BertCrfError(
            f"can't load the encoder {name!r} ({where}): {_reason(err)}"
            f"{'' if allow_download or is_folder else hint}"
        ) from err
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:
        raise BertCrfError(
            f"encoder {name!r} lacks {len(missing)} weights, the first: {', '.join(missing[:5])}. "
            "A checkpoint with old names needs `spacy bert-crf convert-checkpoint` first."
        )
    left = sorted(key for key in info["unexpected_keys"] if not _NO_MATTER.search(key))
    if left:
        logger.info(
            "note: encoder %r: left out %d weights that belong to no layer of it: %s%s",
            name, len(left), ", ".join(left[:4]), " …" if len(left) > 4 else "",
        )  # fmt: skip
    if not tokenizer.is_fast:
        raise BertCrfError(
            f"the tokenizer of the encoder {name!r} ({type(tokenizer).__name__}) has no fast form, "
            "which says where each wordpiece stands in the text: add a tokenizer.json to its "
            "folder, or choose another encoder."
        )
    if not Path(name).exists() and not hasattr(model.config, "origin"):
        file = try_to_load_from_cache(model_name, "config.json", revision=online.get("revision"))
        if isinstance(file, str):  # in the cache, the folder is called as the commit
            model.config.origin = f"{model_name}@{Path(file).parent.name}"
    loaded = _ready(model, tokenizer)
    _check_runs(loaded, name)
    return loaded


def longest_input(encoder: LoadedEncoder, max_length: int) -> int:
    """The largest number of input ids of one window, special tokens included.

    The limits of the tokenizer and of the position embeddings count too.

    encoder: the encoder and its tokenizer.
    max_length: the limit in the settings. 0 for what the encoder takes: at most LONGEST, and 512 if
        neither encoder nor tokenizer has a limit.
    """
    limits = [encoder.tokenizer.model_max_length]
    config = encoder.model.config
    positions = getattr(config, "max_position_embeddings", None)
    if positions and positions > 0:  # XLNet's is -1
        embeddings = getattr(encoder.model, "embeddings", None)
        # Models like RoBERTa count positions from padding_idx + 1.
        offset = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
        limits.append(positions - (offset + 1 if offset is not None else 0))
    if max_length:
        return int(min(max_length, *limits))
    # A tokenizer without a limit says 1e30.
    return int(min(LONGEST, *limits)) if min(limits) < _NO_LIMIT else _USUAL_LENGTH


def takes_padding(model: Any) -> bool:
    """Whether texts of different length can share a pass, without an influence on their vectors."""
    return model.config.model_type not in _READ_PADDING


def takes_types(model: Any) -> bool:
    """Whether token types of 0 are those of a model that gets none, as the pipeline gives none.

    GPT-2 adds a word embedding for each type, and Funnel another term to its attention.
    """
    accepted = "token_type_ids" in inspect.signature(model.forward).parameters
    has_types = bool(getattr(model.config, "type_vocab_size", 0))
    return accepted and has_types and model.config.model_type != "funnel"


def state_of(model: Any) -> dict[str, Tensor]:
    """The tensors of a model by name, without further names of the same weight."""
    also = shared_names(model)
    return {name: t for name, t in model.state_dict().items() if name not in also}


def shared_names(model: Any) -> dict[str, str]:
    """Further names of weights, and the first name of each.

    T5 has its word embeddings under two names.

    model: a transformers model. Weights that it shares are tied, in place.
    """
    model.tie_weights()
    first: dict[int, str] = {}
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        other = first.setdefault(id(parameter), name)
        if other != name:
            found[name] = other
    return found


def weights_of(encoder: LoadedEncoder) -> dict[str, Tensor]:
    """All tensors of an encoder by name, on the CPU and contiguous. A shared one has one name."""
    return {
        name: tensor.detach().cpu().contiguous() for name, tensor in state_of(encoder.model).items()
    }


def pack(encoder: LoadedEncoder) -> dict[str, Any]:
    """What `unpack` needs besides the weights: the config (JSON) and the tokenizer's files."""
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(encoder.tokenizer, Path(folder))
        files = {f.name: f.read_bytes() for f in sorted(Path(folder).iterdir()) if f.is_file()}
    config = without_dtype(encoder.model.config.to_dict())
    config["_name_or_path"] = ""  # A saved pipeline does not name a folder of its author's.
    config.pop("_attn_implementation_autoset", None)  # see check_attention
    return {
        "config": json.dumps(config, sort_keys=True, default=str),
        "tokenizer": files,
    }


@plain_torch()
@float32_default()
def unpack(data: dict[str, Any], weights: dict[str, Tensor]) -> LoadedEncoder:
    """Restore the encoder that `pack` saved. Its parameters are the tensors `weights` themselves.

    It needs neither the network nor the folder that the encoder came from.

    data: the result of `pack`.
    weights: the result of `weights_of`.
    Raises BertCrfError if the data is damaged or the weights do not fit the config.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in data["tokenizer"].items():
                (Path(folder) / Path(name).name).write_bytes(content)
            (Path(folder) / "config.json").write_text(data["config"], encoding="utf8")
            only = {"local_files_only": True, "trust_remote_code": False}
            config = AutoConfig.from_pretrained(folder, **only)
            check_attention(config, "its config")
            _check_weights(config, weights)
            tokenizer = load_tokenizer(folder, **only)
        with without_init():
            model = model_from_config(config, **without_pooler(config))
        _check_positions(model)
        also = shared_names(model)
        shared = {name: weights[other] for name, other in also.items()}
        model.load_state_dict({**weights, **shared}, assign=True)
        shared_names(model)
    except Exception as err:
        raise BertCrfError(f"the saved encoder is damaged: {_reason(err)}") from err
    return _ready(model, tokenizer)


def _ready(model: Any, tokenizer: Any) -> LoadedEncoder:
    model.float().eval()
    prefer_cpu(model)
    return LoadedEncoder(model, tokenizer)


def _check_folder(folder: Path) -> None:
    """Raise BertCrfError for a file, and for a folder that holds no encoder."""
    if folder.is_file():
        raise BertCrfError(f"the encoder {str(folder)!r} is a file: name the folder that holds it.")
    if not folder.is_dir() or (folder / "config.json").is_file():
        return
    for pipeline in (folder, folder.parent):
        if (pipeline / "meta.json").is_file() and (pipeline / "config.cfg").is_file():
            raise BertCrfError(
                f"{str(folder)!r} belongs to a trained pipeline and is no encoder. To train its "
                f'component further, set source = "{pipeline}" in the section of the component. '
                "To train another component on its encoder, run `spacy bert-crf export "
                f"{pipeline} DST --to huggingface`, and set name to DST/huggingface."
            )
    raise BertCrfError(
        f"the folder {str(folder)!r} is no encoder, for it holds no config.json: name the folder "
        "of a converted encoder (see `spacy bert-crf convert-checkpoint --help`)."
    )


@torch.inference_mode()
def _check_runs(encoder: LoadedEncoder, name: str) -> None:
    """Raise BertCrfError unless the encoder gives one finite vector for each wordpiece.

    One pass of two tiny texts, of which one is padded: it costs far less than reading the weights.
    """
    model, (prefix, suffix, pad) = encoder.model, special_ids(encoder.tokenizer)
    piece = encoder.tokenizer.unk_token_id or 0
    # shape: [2], [1]
    pieces = [np.full(length, piece, dtype=np.int64) for length in (2, 1)]
    ranges = [np.array([[0, len(ids)]], dtype=np.int64) for ids in pieces]
    plan = plan_batches(
        pieces, ranges, [[], []], prefix=prefix, suffix=suffix, pad_id=pad,
        size=2, overlap=0, limit=4096,
    )  # fmt: skip
    try:
        if getattr(model.config, "is_encoder_decoder", False) and hasattr(model, "decoder"):
            raise ValueError("it is an encoder with a decoder")
        _check_positions(model)
        # FNet mixes the vectors of all places, and from transformers 5 on ignores a mask silently.
        if "attention_mask" not in inspect.signature(model.forward).parameters:
            raise ValueError("it takes no attention_mask")
        vectors = run(model, plan, torch.device("cpu"))
        if not bool(vectors.isfinite().all()):
            raise ValueError("its vectors are infinite or NaN")
        if vectors.shape[1] != model.config.hidden_size:
            raise ValueError(f"its vectors have {vectors.shape[1]} numbers, not hidden_size")
        is_causal = _reads_left_only(model, [*prefix, piece], suffix)
    except Exception as err:  # What an encoder of another kind raises depends on its class.
        raise BertCrfError(
            f"the encoder {name!r} can't be used ({model.config.model_type}: {_reason(err)}). It "
            "must take input_ids and attention_mask, and give a vector for each wordpiece, as "
            "BERT does: choose another one."
        ) from err
    if is_causal:
        warnings.warn(
            f"the encoder {name!r} ({model.config.model_type}) is causal: the vector of a "
            "wordpiece depends on the text before it alone. So it is not known at the beginning of "
            "a name what follows. An encoder that reads both sides, such as BERT or ModernBERT, "
            "suits this task better.",
            stacklevel=3,
        )


def _reads_left_only(model: Any, before: list[int], after: list[int]) -> bool:
    """Whether the vector of the last wordpiece of `before` is the same whatever follows it."""
    last: int = model.config.vocab_size - 1
    rows = [[*before, follows, *after] for follows in (last, last - 1)]
    # shape: [width] each
    one, other = model(input_ids=torch.tensor(rows)).last_hidden_state[:, len(before) - 1]
    return bool((one - other).abs().max() <= 1e-6 * one.abs().max())


def _check_weights(config: Any, weights: dict[str, Tensor]) -> None:
    """Raise ValueError unless a model of this config has just these weights.

    The model is built without memory first, since a damaged config may describe a huge one.
    """
    layers = getattr(config, "num_hidden_layers", 0)
    # Layers that share their weights are more than their tensors.
    if isinstance(layers, int) and layers > max(len(weights), MAX_LAYERS):
        raise ValueError(f"num_hidden_layers is {layers}, the weights are of a smaller model")
    with torch.device("meta"), without_init():
        model = model_from_config(config, **without_pooler(config))
    for name, tensor in state_of(model).items():
        expected = list(tensor.shape)
        present = list(weights[name].shape) if name in weights else "missing"
        if present != expected:
            raise ValueError(f"{name} is {present}, its config asks for {expected}")


def _check_positions(model: Any) -> None:
    """Raise ValueError if a BERT's relative positions are not in this transformers.

    From version 5 on it leaves them out silently, so that the vectors would be others.
    """
    kind = getattr(model.config, "position_embedding_type", None) or "absolute"
    if kind != "absolute" and not any(
        hasattr(module, "position_embedding_type") for module in model.modules()
    ):
        raise ValueError(
            f"its position_embedding_type is {kind}, which this transformers leaves out: install "
            "transformers below 5"
        )


def without_pooler(config: Any) -> dict[str, Any]:
    """Arguments that build the model of a config without its pooler, which is not used here."""
    model_class = MODEL_MAPPING.get(type(config), None)
    if isinstance(model_class, (list, tuple)):
        model_class = model_class[0]
    if model_class and "add_pooling_layer" in inspect.signature(model_class.__init__).parameters:
        return {"add_pooling_layer": False}
    return {}


@torch.no_grad()
def load_weights(model: Any, weights: dict[str, Tensor]) -> None:
    """Give a new model its weights, except for a pooler, which is not used here.

    Some classes always have a pooler. It gets zeros, since the weights may be without it.
    Raises RuntimeError if another weight is missing or unexpected.
    """
    used = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    odd = model.load_state_dict(used, strict=False)
    own = dict(model.named_parameters())
    for name in odd.missing_keys:
        if name.startswith("pooler."):
            own[name].zero_()
    wrong = [name for name in odd.missing_keys if not name.startswith("pooler.")]
    # Positions are numbered when the model is built.
    also = shared_names(model)
    wrong = [name for name in wrong if not name.endswith("position_ids") and name not in also]
    wrong += odd.unexpected_keys
    if wrong:
        raise RuntimeError(f"weights are missing or unexpected: {', '.join(wrong[:5])}")


def _reason(err: BaseException) -> str:
    """The first line of an error's message, cut: some of transformers' list all model types."""
    return textwrap.shorten(first_line(err), 300, placeholder=" …")
