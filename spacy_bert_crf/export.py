"""`best_model.pt` and its companions: a trained pipeline for whoever has only torch.

The layout is documented in docs/best_model.md, with a reader that needs nothing of this package.
"""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import torch
from spacy.language import Language
from torch import Tensor

from . import encoder as enc
from . import layers
from .errors import BertCrfError
from .files import atomic_folder
from .pipeline import BertCrf
from .versions import versions

#: Files that an export may hold, and that a new one replaces.
OURS = {"best_model.pt", "best_model.json", "config.json", "vocab.txt", "tokenizer.json"}
OURS |= {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"}
OURS |= {"merges.txt", "sentencepiece.bpe.model", "spiece.model"}

WEIGHTS, SIDECAR = "best_model.pt", "best_model.json"


def export_pipeline(
    nlp: Language,
    dst: Path,
    *,
    component: str = "",
    metrics: Optional[dict[str, Any]] = None,
) -> dict[str, Any]:
    """Write best_model.pt, best_model.json, config.json and tokenizer files into the folder `dst`.

    component: name of the `bert_crf` component; needed only where there are several.
    metrics: figures to record in best_model.json.
    RETURNS: what best_model.json says.
    Raises BertCrfError if there is no such component, it is untrained, or it can't be written.
    """
    pipe = find_component(nlp, component)
    encoder = find_encoder(nlp, pipe)
    tensors = collect_tensors(pipe, encoder)
    sidecar = describe(nlp, pipe, encoder, metrics or {})
    check_folder(dst)
    with atomic_folder(dst) as folder:
        keep_others(dst, folder)
        # To a buffer first: the bytes of torch.save depend on the file name it is given.
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        (folder / WEIGHTS).write_bytes(buffer.getvalue())
        (folder / SIDECAR).write_text(_json(sidecar), encoding="utf8")
        write_companions(folder, encoder, sidecar["tags"])
    return sidecar


def find_component(nlp: Language, name: str = "") -> BertCrf:
    """The trained `bert_crf` component of a pipeline.

    Raises BertCrfError if there is none, several and no name, or one without weights.
    """
    found = {n: pipe for n, pipe in nlp.pipeline if isinstance(pipe, BertCrf)}
    if name and name not in found:
        raise BertCrfError(f"the pipeline has no bert_crf component {name!r}, only {list(found)}.")
    if not name and len(found) != 1:
        raise BertCrfError(
            f"the pipeline has {len(found)} bert_crf components ({', '.join(found)}): "
            "name the one to export with --component."
            if found
            else f"the pipeline has no bert_crf component, only {nlp.pipe_names}."
        )
    pipe = found[name] if name else next(iter(found.values()))
    if not layers.head_of(pipe.model).is_built:
        raise BertCrfError(f"component {pipe.name!r} is not trained.")
    return pipe


def find_encoder(nlp: Language, pipe: BertCrf) -> enc.LoadedEncoder:
    """The encoder of a component: its own, or that of the transformer it listens to.

    Raises BertCrfError if it is no Hugging Face encoder with a fast tokenizer.
    """
    own = layers.own_encoder_of(pipe.model)
    if own is not None:
        return own.loaded
    models = [pipe.model.get_ref("tok2vec")]
    for node in pipe.model.walk():
        upstream = getattr(node, "upstream_name", None)
        for name, other in nlp.pipeline if upstream is not None else ():
            listeners = getattr(other, "listener_map", {}).get(pipe.name, ())
            if any(node is listener for listener in listeners) or name == upstream:
                models.append(other.model)
    for model in models:
        for node in model.walk():
            for shim in node.shims:
                # spacy-transformers keeps the model and the tokenizer in an HFObjects.
                held = getattr(shim, "_hfmodel", None) or getattr(shim, "_model", None)
                transformer = getattr(held, "transformer", held)
                tokenizer = getattr(held, "tokenizer", None)
                if getattr(transformer, "config", None) is not None and tokenizer is not None:
                    return enc.LoadedEncoder(transformer, tokenizer)
    raise BertCrfError(f"component {pipe.name!r} has no Hugging Face encoder to export.")


def collect_tensors(pipe: BertCrf, encoder: enc.LoadedEncoder) -> dict[str, Tensor]:
    """All weights, float32 on the CPU, under the names of the contract."""
    prefix = encoder.model.base_model_prefix or encoder.model.config.model_type
    tensors = {
        f"{prefix}.{name}": tensor
        for name, tensor in encoder.model.state_dict().items()
        if not name.startswith("pooler.") and not name.endswith("position_ids")
    }
    tensors |= layers.head_of(pipe.model).module.state_dict()
    return {k: v.detach().to("cpu", torch.float32).contiguous() for k, v in tensors.items()}


def describe(
    nlp: Language, pipe: BertCrf, encoder: enc.LoadedEncoder, metrics: dict[str, Any]
) -> dict[str, Any]:
    """What best_model.json says."""
    training = nlp.config.interpolate().get("training") or {}
    seed = metrics.get("seed", training.get("seed"))
    return {
        "scheme": pipe.scheme,
        "labels": list(pipe.labels),
        "tags": list(pipe.tag_set.tags),
        "pooling": "mean",
        "max_length": enc.longest_input(encoder, longest_window(nlp, pipe, encoder)),
        "constraints": pipe.constraints,
        "temperature": 1.0,
        "lang": nlp.lang,
        "seed": seed,
        "versions": versions(),
        "metrics": {
            key: metrics[key]
            for key in ("ents_p", "ents_r", "ents_f", "ents_per_type", "best_epoch")
            if key in metrics
        },
    }


def longest_window(nlp: Language, pipe: BertCrf, encoder: enc.LoadedEncoder) -> int:
    """Most input ids that the pipeline itself gives to its encoder in one pass."""
    own = layers.own_encoder_of(pipe.model)
    if own is not None:
        return int(own.cfg["max_length"])
    prefix, suffix, _ = enc.special_ids(encoder.tokenizer)
    windows = [
        # spacy-transformers counts windows in tokens, of which each has a wordpiece or more.
        spans["window"] + len(prefix) + len(suffix)
        for name in nlp.pipe_names
        for spans in _spans_settings(nlp.get_pipe_config(name).get("model", {}))
    ]
    return min([512, *windows])


def _spans_settings(section: Any) -> Iterator[dict[str, Any]]:
    if isinstance(section, dict):
        if isinstance(section.get("window"), int):
            yield section
        for value in section.values():
            yield from _spans_settings(value)


def write_companions(folder: Path, encoder: enc.LoadedEncoder, tags: list[str]) -> None:
    """config.json with the tags as id2label, and the tokenizer's files."""
    config = encoder.model.config.to_dict()
    config["id2label"] = {str(i): tag for i, tag in enumerate(tags)}
    config["label2id"] = {tag: i for i, tag in enumerate(tags)}
    for key in ("_name_or_path", "_attn_implementation_autoset", "torch_dtype"):
        config.pop(key, None)
    (folder / "config.json").write_text(_json(config), encoding="utf8")
    encoder.tokenizer.save_pretrained(folder)
    if not (folder / "vocab.txt").exists():
        vocab = encoder.tokenizer.get_vocab()
        ordered = sorted(vocab, key=lambda piece: vocab[piece])
        if not any("\n" in piece for piece in ordered):
            (folder / "vocab.txt").write_text("\n".join(ordered) + "\n", encoding="utf8")


def check_folder(dst: Path) -> None:
    """Raise BertCrfError if `dst`, which is replaced as a whole, holds files of another kind."""
    if not dst.is_dir():
        return
    strange = sorted(
        item.name for item in dst.iterdir() if item.is_file() and item.name not in OURS
    )
    if strange:
        raise BertCrfError(
            f"{dst} holds files that are no export ({', '.join(strange[:5])}): they would be lost. "
            "Choose an empty or new folder."
        )


def keep_others(dst: Path, folder: Path) -> None:
    """Take over what else lies in the folder that is about to be replaced (further formats)."""
    for item in dst.iterdir() if dst.is_dir() else ():
        if item.is_dir():
            shutil.copytree(item, folder / item.name)


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
