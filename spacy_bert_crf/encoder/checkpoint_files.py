"""Reads the files of a checkpoint: weights, config and vocabulary. They may come from anywhere.

No code in them is executed. A file that can't be used is an error that names it.
"""

import json
import pickle
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BertCrfError, first_line

if TYPE_CHECKING:
    from torch import Tensor

#: Names of weights files in a source folder. The first one found is read.
WEIGHT_FILES = ("pytorch_model_cvt.bin", "pytorch_model.bin", "model.safetensors")
SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: Classes whose fast tokenizer is BERT's, with the wordpieces of vocab.txt, or one of any kind.
_WORDPIECE = re.compile(
    r"(Bert|Ernie|DistilBert|MobileBert|ConvBert|SqueezeBert|Electra|MPNet|RetriBert|LayoutLM)"
    r"Tokenizer(Fast)?|PreTrainedTokenizerFast|TokenizersBackend"
)
#: The advice in messages about a bad file.
AGAIN = "Download it again"

_SIZES = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"]
_SIZES += ["intermediate_size", "max_position_embeddings", "type_vocab_size"]
#: Enough for any model. A broken config must not lead to a model of a billion layers.
MAX_LAYERS, _MAX_SIZE = 1000, 10**8


def find_weights(src: Path) -> Path:
    """The first of WEIGHT_FILES in a folder. Raises BertCrfError if there is none."""
    for path in (src / name for name in WEIGHT_FILES):
        if path.is_file():
            return path
    names = ", ".join(WEIGHT_FILES)
    raise BertCrfError(f"{src} holds none of {names}. Download one into it (not in shards).")


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """The tensors of a `.safetensors` or torch file (zip or pre-1.6 format), on the CPU.

    No code in the file is executed.

    Raises BertCrfError if it is damaged or holds other objects.
    """
    import torch

    try:
        with open(path, "rb") as handle:
            head = handle.read(4)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            if head.startswith(b"PK\x03\x04"):
                # torch does not compare the checksums in its zip files.
                with zipfile.ZipFile(path) as archive:
                    # torch.save does not compress. A compressed file could unpack to any size.
                    stored = all(i.compress_type == zipfile.ZIP_STORED for i in archive.filelist)
                    inside = sum(info.file_size for info in archive.filelist)
                    if not stored or inside > path.stat().st_size:
                        raise BertCrfError(
                            f"{path} is compressed, as torch.save does not. {AGAIN}."
                        )
                    if (bad := archive.testzip()) is not None:
                        raise BertCrfError(f"{path} is damaged (checksum of {bad}). {AGAIN}.")
            elif not head.startswith(b"\x80"):
                raise BertCrfError(f"{path} is not a torch weights file. {AGAIN}.")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except BertCrfError:
        raise
    except pickle.UnpicklingError as err:
        found = re.search(r"GLOBAL ([\w.]+)", str(err))
        what = f"more than weights ({found[1]})" if found else "no readable weights"
        raise BertCrfError(
            f"{path} holds {what} and is not loaded. {AGAIN}, from a source you trust; if you "
            "wrote it yourself: save model.state_dict(), nothing else."
        ) from err
    except Exception as err:  # What a damaged file makes the readers raise varies.
        raise BertCrfError(f"{path} is cut short or damaged ({first_line(err)}). {AGAIN}.") from err
    if not isinstance(content, dict) or not content:
        raise BertCrfError(f"{path} holds no table of weights by name. {AGAIN}.")
    return {name: _plain(name, value, path) for name, value in content.items()}


def read_config(path: Path) -> dict[str, Any]:
    """The content of a `config.json`, with its model type.

    Raises BertCrfError if it can't be read, names no model type, or describes a BERT without
    usable sizes.
    """
    raw = read_json(path)
    if "model_type" not in raw:
        # The first published configs name no type. The tensors are checked in any case.
        named = raw.get("architectures") or ["Bert"]
        first = str(named[0] if isinstance(named, list) else named)
        if not first.startswith("Bert"):
            raise BertCrfError(f"{path} has no model_type for {first}: add it there.")
        raw["model_type"] = "bert"
    for key in _SIZES if raw["model_type"] == "bert" else ():
        value = raw.get(key)
        top = MAX_LAYERS if key == "num_hidden_layers" else _MAX_SIZE
        if type(value) is not int or not 0 < value <= top:
            found = f"{key} is {value!r}" if key in raw else f"{key} is missing"
            raise BertCrfError(f"{path}: {found}, not a number from 1 to {top}. {AGAIN}.")
    return raw


def read_vocab(path: Path) -> list[str]:
    """The wordpieces of a `vocab.txt` in id order.

    Raises BertCrfError if it can't be read, repeats a piece or lacks a special one.
    """
    try:
        # Split as in transformers: splitlines() would split at characters that are pieces.
        pieces = path.read_text(encoding="utf8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as err:
        raise BertCrfError(f"{path} can't be read as UTF-8 text ({err}). {AGAIN}.") from err
    for piece, times in Counter(pieces).items():
        if times > 1:
            lines = [number for number, other in enumerate(pieces, 1) if other == piece]
            raise BertCrfError(f"{path}: {piece!r} is on the lines {lines}. {AGAIN}.")
    if missing := [piece for piece in SPECIAL_PIECES if piece not in pieces]:
        raise BertCrfError(f"{path} lacks the special pieces {', '.join(missing)}. {AGAIN}.")
    return pieces


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises BertCrfError if it can't be read or is no object."""
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError, RecursionError) as err:
        raise BertCrfError(f"{path} can't be read as JSON ({err}). {AGAIN}.") from err
    if not isinstance(content, dict):
        raise BertCrfError(f"{path} holds no JSON object. {AGAIN}.")
    return content


def tokenizer_config(src: Path) -> dict[str, Any]:
    """The settings of the tokenizer in a folder. Raises BertCrfError if they can't be read."""
    path = src / "tokenizer_config.json"
    return read_json(path) if path.exists() else {}


def has_wordpieces(src: Path) -> bool:
    """Whether the tokenizer of a BERT model in a folder is made of its vocab.txt.

    Some have a SentencePiece vocabulary, such as multilingual-e5-small. transformers 5 writes
    tokenizer.json alone.
    """
    if not (src / "vocab.txt").exists() and (src / "tokenizer.json").exists():
        return False
    named = tokenizer_config(src).get("tokenizer_class")
    return not named or bool(_WORDPIECE.fullmatch(str(named)))


def ignored_settings(settings: dict[str, Any]) -> list[str]:
    """Settings of a BERT tokenizer that change how text is cut, and that conversion leaves out."""
    usual: dict[str, Any] = {"do_basic_tokenize": True, "never_split": None}
    usual |= {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")}
    found = ((name, settings[name]) for name in usual if name in settings)
    texts = ((name, v.get("content") if isinstance(v, dict) else v) for name, v in found)
    return [name for name, value in texts if value not in (usual[name], [])]


def check_attention(config: Any, where: object) -> None:
    """Raise BertCrfError if a transformers config names code on a model hub as its attention.

    With the package `kernels` installed, transformers fetches and runs such code while it builds
    the model. trust_remote_code does not prevent it (CVE-2026-4372). transformers 5 does the same
    for FlashAttention where it is not installed. It does not run on the CPU, where an encoder is
    tried when it is loaded.

    config: the config. It is changed so that the attention is chosen when the model is built.
        Configs of some versions record that it was chosen, but not which, and lead to the slowest.
    where: the place of the config, for messages.
    """
    named = getattr(config, "_attn_implementation_internal", None)
    for value in named.values() if isinstance(named, dict) else [named]:
        if isinstance(value, str) and any(mark in value for mark in ("/", ":", "flash")):
            raise BertCrfError(
                f"{where} names code on a model hub as its attention ({value}), which is not run. "
                "Take _attn_implementation out of it, if you trust the rest."
            )
    config._attn_implementation_autoset = False
    if getattr(config, "model_type", "") == "big_bird":
        # BigBird gives up its sparse attention at the first text that is too short for it (704
        # wordpieces as published), and keeps to full attention. So vectors would depend on what
        # was read before.
        config.attention_type = "original_full"
    for part in vars(config).values():
        if hasattr(part, "_attn_implementation_internal"):
            check_attention(part, where)


def _plain(name: Any, value: Any, path: Path) -> "Tensor":
    """A tensor that owns its memory. Tensors that share all of their memory still share it."""
    import torch

    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
        kind = type(value).__name__
        raise BertCrfError(
            f"{path}: {name!r} is a {kind}, not a tensor. Save model.state_dict(), nothing else."
        )
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise BertCrfError(f"{path}: {name} is not an ordinary dense tensor. {AGAIN}.")
    stored, needed = value.untyped_storage().nbytes(), value.numel() * value.element_size()
    if stored < needed:
        raise BertCrfError(f"{path}: {name} is larger than its data. {AGAIN}.")
    value = value.detach().contiguous()
    return value.clone() if stored > needed else value
