"""The files around the weights in an exported folder: config, tokenizer, transitions, README."""

import json
import shutil
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from .._provenance import versions
from ..errors import BertCrfError
from .trained import Trained

WEIGHTS, SIDECAR, TRANSITIONS = "best_model.pt", "best_model.json", "transitions.npz"

#: Files that an export may hold, and that a new one replaces.
OURS = {WEIGHTS, SIDECAR, "config.json", "vocab.txt", "tokenizer.json"}
OURS |= {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"}
OURS |= {"merges.txt", "sentencepiece.bpe.model", "spiece.model"}


def write_companions(folder: Path, trained: Trained) -> None:
    """config.json with the tags as id2label, and the tokenizer's files."""
    (folder / "config.json").write_text(to_json(config_dict(trained)), encoding="utf8")
    tokenizer = trained.encoder.tokenizer
    tokenizer.save_pretrained(folder)
    if not (folder / "vocab.txt").exists():
        vocab = tokenizer.get_vocab()
        ordered = sorted(vocab, key=lambda piece: vocab[piece])
        if not any("\n" in piece for piece in ordered):
            (folder / "vocab.txt").write_text("\n".join(ordered) + "\n", encoding="utf8")


def write_format_files(folder: Path, trained: Trained, name: str) -> None:
    """What every folder of a further format holds beside its model.

    transitions.npz: `start` [K], `end` [K], `transitions` [K, K] (from, to) as trained, float32;
    `legal_start`, `legal_end`, `legal_transitions`, bool of the same shapes; `bias` [K], the
    emissions of a token without wordpieces.
    """
    write_companions(folder, trained)
    legal = trained.legal()
    np.savez(
        folder / TRANSITIONS,
        start=trained.start.numpy(),
        end=trained.end.numpy(),
        transitions=trained.transitions.numpy(),
        legal_start=legal[0],
        legal_end=legal[1],
        legal_transitions=legal[2],
        bias=trained.bias.numpy(),
    )
    sidecar = {"format": name, **trained.info}
    (folder / SIDECAR).write_text(to_json(sidecar), encoding="utf8")


def write_readme(folder: Path, trained: Trained, name: str, values: dict[str, str]) -> None:
    """README.md of a format's folder, from the text in readme/<format>.md."""
    texts = Path(__file__).parent / "readme"
    tags = list(trained.tag_set.tags)
    said = {
        "tags": ", ".join(tags),
        "tag_list": json.dumps(tags, ensure_ascii=False),
        "n_tags": str(len(tags)),
        "scheme": trained.tag_set.scheme,
        "max_length": str(trained.info["max_length"]),
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
        "constraints": "on" if trained.constraints else "off (all transitions are legal)",
        **values,
    }
    parts = [texts / f"{name}.md", texts / "common.md"]
    text = "\n".join(Template(part.read_text(encoding="utf8")).substitute(said) for part in parts)
    (folder / "README.md").write_text(text, encoding="utf8")


def config_dict(trained: Trained) -> dict[str, Any]:
    """The encoder's Hugging Face config with the tags as id2label and label2id."""
    config: dict[str, Any] = trained.config.to_dict()
    tags = trained.tag_set.tags
    config["id2label"] = {str(i): tag for i, tag in enumerate(tags)}
    config["label2id"] = {tag: i for i, tag in enumerate(tags)}
    for key in ("_name_or_path", "_attn_implementation_autoset", "torch_dtype"):
        config.pop(key, None)
    return config


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
        if item.is_dir() and not (folder / item.name).exists():
            shutil.copytree(item, folder / item.name)


def made_of_others(folder: Path, trained: Trained) -> list[str]:
    """Formats in `folder` that were made of other weights than these."""
    digest, out = trained.info["weights_sha256"], []
    for path in sorted(folder.glob(f"*/{SIDECAR}")):
        try:
            made_of = json.loads(path.read_text(encoding="utf8")).get("weights_sha256")
        except (OSError, ValueError, AttributeError):
            continue
        if made_of != digest:
            out.append(path.parent.name)
    return out


def to_json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
