"""Converts a downloaded checkpoint to a complete Hugging Face folder with current tensor names."""

import io
import json
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import atomic_folder
from ..errors import BertCrfError, first_line, first_of
from .checkpoint_files import (
    AGAIN,
    check_attention,
    find_weights,
    has_wordpieces,
    ignored_settings,
    read_config,
    read_tensors,
    read_vocab,
    tokenizer_config,
)

if TYPE_CHECKING:
    from torch import Tensor

#: The current names of a LayerNorm's two tensors, by their names in early checkpoints.
LEGACY_NAMES = {"gamma": "weight", "beta": "bias"}

_WRITTEN = {"pytorch_model_cvt.bin", "model.safetensors", "config.json", "vocab.txt"}
_WRITTEN |= {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
_WRITTEN |= {"merges.txt", "vocab.json", "added_tokens.json", "sentencepiece.bpe.model"}
_ROBERTA = ("roberta", "xlm-roberta", "camembert")


@dataclass(frozen=True)
class CheckpointReport:
    """What a conversion read and wrote.

    weights: name of the file that was read.
    model_type: model type of the encoder, such as `bert`.
    tensors: number of tensors written.
    renamed: number of tensors with a new name.
    dropped_layers: number of encoder layers that were left out.
    parameters: number of the encoder's parameters, without its pooler.
    hidden_size: width of the encoder.
    layers: number of encoder layers that were kept.
    vocab_size: number of wordpieces.
    lower_case: whether the tokenizer lower-cases its text.
    notes: a line for each thing that was left out or changed.
    """

    weights: str
    model_type: str
    tensors: int
    renamed: int
    dropped_layers: int
    parameters: int
    hidden_size: int
    layers: int
    vocab_size: int
    lower_case: bool
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """The report as a few lines of text."""
        dropped = f" ({self.dropped_layers} dropped)" if self.dropped_layers else ""
        case = "lower-cased" if self.lower_case else "case kept"
        return (
            f"Read {self.weights}: {self.model_type}, {self.layers} layers{dropped}, width "
            f"{self.hidden_size}, {self.parameters:,} parameters in the encoder.\n"
            f"Wrote {self.tensors} tensors, {self.renamed} of them under new names.\n"
            f"Vocabulary of {self.vocab_size:,} pieces, {case}."
            + "".join(f"\nnote: {note}" for note in self.notes)
        )


def convert_checkpoint(
    src: Path, dst: Path, *, layers: int = 0, lower_case: str = "auto", origin: str = ""
) -> CheckpointReport:
    """Convert a checkpoint folder to a Hugging Face folder with current tensor names.

    src: the folder as downloaded.
    dst: the folder to write. An earlier conversion there is replaced as a whole.
    layers: number of encoder layers to keep, from the first. 0 keeps all.
    lower_case: `true`, `false`, or `auto` (by the source's settings, else by its vocabulary).
    origin: where the checkpoint comes from, for config.json. One that is named there stays.
    RETURNS: what was read and written.
    Raises BertCrfError for a missing, damaged or unsafe file. Also for weights, configuration and
    vocabulary that don't fit together, and for a `dst` that holds other files.
    """
    src, dst = Path(src), Path(dst)
    if lower_case not in ("auto", "true", "false"):
        raise BertCrfError(f"lower_case is {lower_case!r}: use auto, true or false.")
    _check_folders(src, dst)
    raw = read_config(src / "config.json")
    is_code = "auto_map" in raw
    is_bert = raw["model_type"] == "bert" and has_wordpieces(src)
    vocab = _read_bert_vocab(src, raw) if is_bert else []
    lower = is_lower_case(src, vocab, lower_case)
    if origin:
        raw.setdefault("origin", origin)
    weights = find_weights(src)
    old = read_tensors(weights)
    tensors = rename_tensors(old, weights)
    base, config = check_complete(tensors, raw, weights)
    check_finite(tensors, weights)
    dropped = 0
    if layers:
        from .smaller.layers import first_layers

        dropped = config.num_hidden_layers - layers
        raw, beyond = first_layers(raw, config, layers, src)
        tensors = {name: t for name, t in tensors.items() if not beyond(name)}
        base = {name: t for name, t in base.items() if not beyond(name)}
    notes = _notes(src, tensors, len(base), is_code, is_bert)
    with atomic_folder(dst) as tmp:
        _write_weights(tmp, tensors, base)
        text = json.dumps(raw, indent=2, ensure_ascii=False) + "\n"
        (tmp / "config.json").write_text(text, encoding="utf8", newline="\n")
        if is_bert:
            _write_bert_tokenizer(tmp, src, vocab, lower, raw["max_position_embeddings"])
        else:
            _write_other_tokenizer(tmp, src, config)
    return CheckpointReport(
        weights=weights.name,
        model_type=raw["model_type"],
        tensors=len(tensors),
        renamed=len(tensors.keys() - old.keys()),
        dropped_layers=dropped,
        parameters=sum(t.numel() for name, t in base.items() if "pooler." not in name),
        hidden_size=config.hidden_size,
        layers=config.num_hidden_layers - dropped,
        vocab_size=config.vocab_size,
        lower_case=lower,
        notes=tuple(notes),
    )


def _notes(
    src: Path, tensors: "dict[str, Tensor]", n_base: int, is_code: bool, is_bert: bool
) -> list[str]:
    """What of a checkpoint is left out or changed.

    tensors: all that are kept. n_base: number of those that the encoder has.
    """
    notes = []
    if len(tensors) > n_base:
        notes.append(
            f"model.safetensors has the {n_base} tensors of the encoder, without the "
            f"{len(tensors) - n_base} of heads; pytorch_model_cvt.bin has all"
        )
    if is_code:
        notes.append("auto_map was taken out of config.json: code of a checkpoint never runs")
    more = [name for name in ("added_tokens.json", "tokenizer.json") if (src / name).is_file()]
    if is_bert and more:
        notes.append(
            f"the tokenizer is made of vocab.txt alone: {', '.join(more)} had no influence, and "
            "tokens added there are left out"
        )
    if is_bert and (ignored := ignored_settings(tokenizer_config(src))):
        notes.append(f"tokenizer_config.json: {', '.join(ignored)} had no influence")
    return notes


def rename_tensors(tensors: "dict[str, Tensor]", path: Path) -> "dict[str, Tensor]":
    """The tensors under their current names, in the same order.

    tensors: the tensors by name.
    path: the file that holds them, for messages.
    Raises BertCrfError if a tensor is present under both its old and its new name.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, _, end = name.rpartition(".")
        is_old = f".{stem}".endswith(".LayerNorm") and end in LEGACY_NAMES
        new = f"{stem}.{LEGACY_NAMES[end]}" if is_old else name
        if is_old and new in tensors:
            raise BertCrfError(f"{path} holds one tensor as {name} and {new}. {AGAIN}.")
        result[new] = tensor
    return result


def _check_folders(src: Path, dst: Path) -> None:
    if not src.is_dir():
        raise BertCrfError(f"{src} is not a folder: name the folder with the downloaded files.")
    here, there = src.resolve(), dst.resolve()
    if there == here or there in here.parents:
        raise BertCrfError(f"{dst} holds the source {src}: choose another folder to write to.")
    if dst.exists() and not dst.is_dir():
        raise BertCrfError(f"{dst} is a file: name a folder.")
    # The folder is replaced as a whole, so it must not hold other files.
    other = {p.name for p in dst.iterdir()} - _WRITTEN if dst.exists() else set()
    if other:
        raise BertCrfError(
            f"{dst} holds {min(other)}, which was not written here: name a new folder."
        )


def _read_bert_vocab(src: Path, raw: dict[str, Any]) -> list[str]:
    vocab = read_vocab(src / "vocab.txt")
    size = raw["vocab_size"]
    if len(vocab) != size:
        how = "shorter" if len(vocab) < size else "longer"
        raise BertCrfError(
            f"{src / 'vocab.txt'}: the vocabulary is {how} than the embedding, {len(vocab)} "
            f"pieces for {size} rows (vocab_size in config.json). {AGAIN}."
        )
    return vocab


def check_complete(
    tensors: "dict[str, Tensor]", raw: dict[str, Any], path: Path
) -> "tuple[dict[str, Tensor], Any]":
    """The base model's tensors under its own names, and its transformers config.

    tensors: the tensors by name.
    raw: the content of config.json, which is completed.
    path: the file of the tensors, for messages.
    Raises BertCrfError that lists all tensors that are missing, unexpected or of another shape.
    """
    import torch
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from .._transformers import auto_class, converts_names, model_from_config
    from .hf import shared_names

    kind, where = raw["model_type"], path.parent / "config.json"
    try:
        config = CONFIG_MAPPING[kind].from_dict(dict(raw))
        check_attention(config, where)
        with torch.device("meta"):
            model = model_from_config(config)
        if getattr(config, "is_encoder_decoder", False) and hasattr(model, "decoder"):
            raise ValueError("it is an encoder with a decoder")
        also = shared_names(model)
        is_half = auto_class(config) is not AutoModel
        raw["architectures"] = [type(model).__name__]
        config.hidden_size, config.num_hidden_layers, config.vocab_size  # noqa: B018
    except BertCrfError:
        raise
    except Exception as err:  # What a wrong value makes transformers raise varies.
        raise BertCrfError(
            f"{where}: it describes no usable {kind!r} model ({type(err).__name__}: {err}). "
            f"{AGAIN}, or use a BERT model."
        ) from err
    raw.pop("auto_map", None)
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    for name, first in also.items():  # Some files have a shared weight under its other name only.
        if name in tensors:
            tensors = {first: tensors[name], **tensors}
    prefix = f"{model.base_model_prefix}."
    prefixed = any(name.startswith(prefix) for name in tensors)
    base: dict[str, Tensor] = {}
    faults = []
    for full, tensor in tensors.items():
        name = full.removeprefix(prefix)
        if name in base:
            faults.append(f"twice: {full}, with and without {prefix}")
        elif name in expected:
            base[name] = tensor
            if tuple(tensor.shape) != expected[name]:
                found, needed = list(tensor.shape), list(expected[name])
                faults.append(f"wrong shape: {full} is {found}, config.json asks for {needed}")
            elif not tensor.is_floating_point():
                faults.append(f"wrong type: {full} is {tensor.dtype}, not floating point")
        elif not (
            full.startswith("cls.")
            or "pooler." in name
            or name == "embeddings.position_ids"
            or (kind != "bert" and prefixed and full == name)  # Heads of other model types.
            or (is_half and name.startswith(("decoder.", "lm_head.")))
        ):
            faults.append(f"unexpected: {full} {list(tensor.shape)}")
    faults += [
        f"missing: {prefix * prefixed}{name} {list(shape)}"
        for name, shape in expected.items()
        if name not in base and "pooler." not in name and name not in also
    ]
    if faults and "missing" in faults[-1] and converts_names(kind):
        raise BertCrfError(
            f"{path}: transformers renames the weights of a {kind} model when it loads them, which "
            f"is not done here. Training takes the folder as it is: set name to {path.parent}."
        )
    if faults:
        listed = "\n  ".join(first_of(faults))
        raise BertCrfError(
            f"{path} doesn't fit {where.name}:\n  {listed}\n{AGAIN}, both from one place."
        )
    return {name: base[name] for name in expected if name in base and name not in also}, config


def check_finite(tensors: "dict[str, Tensor]", path: Path) -> None:
    """Raise BertCrfError if a tensor of the file `path` has an infinite or NaN value."""
    import torch

    floats = {name: t for name, t in tensors.items() if t.is_floating_point()}
    bad = [name for name, tensor in floats.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise BertCrfError(f"{path}: infinite or NaN weights in {', '.join(bad)}. {AGAIN}.")


def _write_weights(folder: Path, tensors: "dict[str, Tensor]", base: "dict[str, Tensor]") -> None:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # The bytes that torch.save writes depend on the name of its file, so it writes to a buffer.
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    converted, safe = folder / "pytorch_model_cvt.bin", folder / "model.safetensors"
    converted.write_bytes(buffer.getbuffer())
    del buffer
    try:
        # Cloned, because safetensors refuses tensors that share memory.
        save_file({n: t.clone() for n, t in base.items()}, safe, metadata={"format": "pt"})
    except SafetensorError as err:
        raise BertCrfError(f"can't write {safe.name} ({err}): make room.") from err
    shutil.copymode(converted, safe)  # safetensors lets only the owner read it.


def is_lower_case(src: Path, vocab: list[str], requested: str) -> bool:
    """Whether the tokenizer of the folder `src` lower-cases its text.

    src: the folder with the tokenizer's files.
    vocab: the wordpieces of a BERT model; empty for other models.
    requested: `true`, `false` or `auto`.
    Raises BertCrfError for true or false without `vocab`.
    """
    if requested != "auto":
        if not vocab:
            raise BertCrfError("lower_case can be set for BERT models only: use auto.")
        return requested == "true"
    do_lower_case = tokenizer_config(src).get("do_lower_case")
    if isinstance(do_lower_case, bool) or not vocab:
        return bool(do_lower_case)
    # Lower-case vocabularies contain single capitals too, but no words with capitals.
    words = (p for p in vocab if len(p.removeprefix("##")) > 1 and not p.startswith("["))
    return not any(
        c.isupper() and unicodedata.name(c, "").startswith("LATIN") for word in words for c in word
    )


def _write_bert_tokenizer(
    folder: Path, src: Path, vocab: list[str], lower_case: bool, max_length: int
) -> None:
    from .._transformers import bert_tokenizer, save_tokenizer

    path = folder / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in vocab), encoding="utf8", newline="\n")
    settings = tokenizer_config(src)
    kept = ("strip_accents", "tokenize_chinese_chars")
    tokenizer = bert_tokenizer(
        path,
        do_lower_case=lower_case,
        model_max_length=max_length,
        **{key: settings[key] for key in kept if isinstance(settings.get(key), bool)},
    )
    save_tokenizer(tokenizer, folder)


def _write_other_tokenizer(folder: Path, src: Path, config: Any) -> None:
    from .._transformers import load_tokenizer, save_tokenizer

    # Models like RoBERTa count positions from the padding id + 1.
    skipped = config.pad_token_id + 1 if config.model_type in _ROBERTA else 0
    positions = getattr(config, "max_position_embeddings", 512)
    # XLNet has no limit, and says -1.
    room = positions - skipped if positions > 0 else 512
    try:
        tokenizer = load_tokenizer(str(src), local_files_only=True, trust_remote_code=False)
        if not tokenizer.is_fast:
            raise BertCrfError(
                f"{src}: its tokenizer {type(tokenizer).__name__} has no fast form, which says "
                "where each wordpiece stands in the text. Add a tokenizer.json, or choose another "
                "encoder."
            )
        tokenizer.model_max_length = min(tokenizer.model_max_length, room)
        save_tokenizer(tokenizer, folder)
    except BertCrfError:
        raise
    except Exception as err:  # Missing files, missing packages and broken JSON each differ.
        raise BertCrfError(
            f"{src}: its tokenizer can't be loaded ({first_line(err)}). {AGAIN}."
        ) from err
