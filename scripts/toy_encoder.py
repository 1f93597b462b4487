"""Make a small BERT with random weights, in the layout of the published bert-base-chinese."""

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spacy_bert_crf._files import atomic_file, write_text
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.project.packaged.old_checkpoint import FIRST_PIECES, legacy_bytes

if TYPE_CHECKING:
    from torch import Tensor

_ASCII = [chr(code) for code in range(0x21, 0x7F)]
_SYMBOLS = list(
    "·×÷°±—–‘’“”…‰′″※℃№←↑→↓≈≠≤≥∶■□▲△◆◇○●★☆〇《》「」『』【】〈〉〔〕〖〗、。〃々～￥￠￡￣"
)
_SYMBOLS += [chr(code) for code in range(0xFF01, 0xFF5F)]


def make_encoder(
    dst: Path,
    texts: Iterable[str],
    *,
    layers: int = 4,
    width: int = 128,
    heads: int = 4,
    feed_forward: int = 512,
    seed: int = 0,
    positions: int = 512,
) -> None:
    """Write `pytorch_model.bin`, `vocab.txt` and `config.json` into the folder `dst`.

    The weights are in the format of torch before 1.6, under the names of old checkpoints
    (`LayerNorm.gamma`), with the pooler and the heads `cls.*`.
    Same texts, sizes and seed give the same bytes. Other files in `dst` are not changed.

    dst: the folder.
    texts: their characters are added to the vocabulary, which always has those of GB2312.
    layers: number of layers.
    width: size of a token vector.
    heads: number of attention heads of a layer.
    feed_forward: width of the feed-forward layers.
    seed: seed of the random weights.
    positions: largest number of input ids.
    Raises BertCrfError for sizes that are not possible and for a folder that can't be written.
    """
    dst = Path(dst)
    sizes = {"layers": layers, "width": width, "heads": heads, "feed_forward": feed_forward}
    for name, value in {**sizes, "positions": positions}.items():
        if value < 1:
            raise BertCrfError(f"an encoder with {name} {value} can't be made: use 1 or more.")
    if width % heads:
        raise BertCrfError(f"width {width} can't be divided among {heads} heads: use a multiple.")
    if isinstance(texts, str):
        raise BertCrfError("texts is one string: give a list of texts.")
    vocab = make_vocab(texts)
    config = {
        "architectures": ["BertForMaskedLM"],
        "attention_probs_dropout_prob": 0.1,
        "directionality": "bidi",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": feed_forward,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": positions,
        "model_type": "bert",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": len(vocab),
    }
    weights = legacy_bytes(_make_tensors(config, seed))
    with atomic_file(dst / "pytorch_model.bin") as tmp:
        tmp.write_bytes(weights)
    write_text(dst / "vocab.txt", "".join(f"{piece}\n" for piece in vocab))
    write_text(dst / "config.json", json.dumps(config, indent=2) + "\n")


def make_vocab(texts: Iterable[str]) -> list[str]:
    """Return a character vocabulary laid out like bert-base-chinese, with GB2312's hanzi."""
    hanzi = []
    for row in range(0xB0, 0xF8):
        for cell in range(0xA1, 0xFF):
            try:
                hanzi.append(bytes([row, cell]).decode("gb2312"))
            except UnicodeDecodeError:  # The five free cells after level 1.
                continue
    # As BERT's tokenizer normalizes texts: lower case, without accents.
    seen = set(unicodedata.normalize("NFD", "".join(texts).lower()))
    seen = {c for c in seen if unicodedata.category(c) != "Mn" and _is_visible(c)}
    known = dict.fromkeys([*_ASCII, *_SYMBOLS, *hanzi])
    single = [*known, *sorted(seen - known.keys())]
    # The tokenizer splits at punctuation and hanzi. All other characters can be inside a word.
    inner = [f"##{c}" for c in single if not _stands_alone(c)]
    return [*FIRST_PIECES, *single, *inner]


def _make_tensors(config: dict[str, Any], seed: int) -> "dict[str, Tensor]":
    import numpy
    import torch

    # The numbers of torch's generator differ between processors.
    random = numpy.random.Generator(numpy.random.PCG64(seed))
    tensors: dict[str, Tensor] = {}

    def normal(name: str, *shape: int) -> None:
        values = random.standard_normal(shape, dtype=numpy.float32)
        tensors[name] = torch.from_numpy(values * numpy.float32(config["initializer_range"]))

    def dense(name: str, into: int, out_of: int) -> None:
        normal(f"{name}.weight", into, out_of)
        tensors[f"{name}.bias"] = torch.zeros(into)

    def norm(name: str) -> None:
        tensors[f"{name}.LayerNorm.gamma"] = torch.ones(width)
        tensors[f"{name}.LayerNorm.beta"] = torch.zeros(width)

    width, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    words = "bert.embeddings.word_embeddings.weight"
    normal(words, vocab, width)
    normal("bert.embeddings.position_embeddings.weight", config["max_position_embeddings"], width)
    normal("bert.embeddings.token_type_embeddings.weight", config["type_vocab_size"], width)
    norm("bert.embeddings")
    for number in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{number}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", width, width)
        dense(f"{layer}.attention.output.dense", width, width)
        norm(f"{layer}.attention.output")
        dense(f"{layer}.intermediate.dense", inner, width)
        dense(f"{layer}.output.dense", width, inner)
        norm(f"{layer}.output")
    dense("bert.pooler.dense", width, width)
    tensors["cls.predictions.bias"] = torch.zeros(vocab)
    dense("cls.predictions.transform.dense", width, width)
    norm("cls.predictions.transform")
    tensors["cls.predictions.decoder.weight"] = tensors[words]  # Tied, as in the original.
    dense("cls.seq_relationship", 2, width)
    return tensors


def _is_visible(char: str) -> bool:
    return not char.isspace() and unicodedata.category(char)[0] not in "CZ" and char != "\ufffd"


def _stands_alone(char: str) -> bool:
    """Whether BERT's tokenizer makes a word of the character alone: punctuation and hanzi."""
    name = unicodedata.name(char, "")
    is_hanzi = name.startswith(("CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH"))
    return (
        is_hanzi or unicodedata.category(char)[0] == "P" or (char < "\x7f" and not char.isalnum())
    )
