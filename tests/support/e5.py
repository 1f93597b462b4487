"""Small files in the format of the packaged encoder (E5S1)."""

import math
import struct
from dataclasses import dataclass, field

import numpy as np

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
# In the order of falling score, as in the real file.
PIECES = [*SPECIAL, ",", ".", "▁", "▁de", "10", "▁the", "en", "s", "2018", "▁1.", "▁Paris", "er"]
PIECES += ["1", "2", "0", "北", "京", "▁年", "a", "b", "m", "A", "C", "F", "°", "か", "カ", "α"]
PIECES += ["д", "ß", "99999", "7", "▁o", "◌", "<mask>"]
NORMALISER = {"\x01": "", "ª": "a", "℃": "°C", "㎡": "m2", "①": "1", "⒈": "1.", "…": "..."}
NORMALISER |= {"％": "%", "゛": " ゙", "㍿": "株式会社", "º": "o"}


@dataclass
class Sizes:
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    feed_forward: int = 96
    vocabulary: int = len(PIECES) + 5
    positions: int = 16
    token_types: int = 2
    eps: float = 1e-12


@dataclass
class Written:
    """A file's bytes, where things begin in it, and its tensors as a reader should find them."""

    data: bytearray
    at: dict = field(default_factory=dict)
    tensors: dict = field(default_factory=dict)

    def put(self, layout, place, *values):
        struct.pack_into(layout, self.data, place, *values)


def shapes(sizes):
    """Every tensor's shape by name; those with two sizes are packed, but for the small ones."""
    width, inner = sizes.hidden, sizes.feed_forward
    result = {"emb.word": (sizes.vocabulary, width), "emb.pos": (sizes.positions, width)}
    result |= {"emb.type": (sizes.token_types, width), "emb.ln.w": (width,), "emb.ln.b": (width,)}
    for number in range(sizes.layers):
        for part, size in {"q": (width, width), "k": (width, width), "v": (width, width),
                           "ao": (width, width), "aln": (width,), "fi": (inner, width),
                           "fo": (width, inner), "oln": (width,)}.items():  # fmt: skip
            result[f"l{number}.{part}.w"] = size
            result[f"l{number}.{part}.b"] = size[:1]
    return result


def pack(values):
    """Q4_0 in plain Python: the bytes, and the values that are in them."""
    packed, back = b"", []
    for start in range(0, len(values), 32):
        block = values[start : start + 32]
        largest = max(block, key=abs)
        (scale,) = struct.unpack("<e", struct.pack("<e", largest / -8))
        numbers = [min(15, max(0, math.floor(x / scale + 8.5))) if scale else 8 for x in block]
        packed += struct.pack("<e", scale)
        packed += bytes(numbers[j] | numbers[j + 16] << 4 for j in range(16))
        back += [(number - 8) * scale for number in numbers]
    return packed, back


def write_e5(sizes=None, pieces=PIECES, normaliser=NORMALISER, seed=0):
    """A small file with random weights."""
    sizes = sizes or Sizes()
    out = Written(bytearray(b"E5S1" + struct.pack("<I", 1)))
    data, at = out.data, out.at
    at["sizes"] = len(data)
    data += struct.pack(
        "<7ifi", sizes.hidden, sizes.layers, sizes.heads, sizes.feed_forward, sizes.vocabulary,
        sizes.positions, sizes.token_types, sizes.eps, 32,
    )  # fmt: skip
    blob = [piece.encode() for piece in pieces]
    at["vocabulary"] = len(data)
    data += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, sum(map(len, blob)))
    at["places"] = len(data)
    data += struct.pack(
        f"<{len(blob) + 1}I", *(sum(map(len, blob[:n])) for n in range(len(blob) + 1))
    )
    at["scores"] = len(data)
    data += struct.pack(f"<{len(blob)}f", *(-1.5 * n for n in range(len(blob))))
    at["pieces"] = len(data)
    data += b"".join(blob)
    at["normaliser"] = len(data)
    entries = b"".join(
        struct.pack(f"<IB{len(text)}I", ord(char), len(text), *map(ord, text))
        for char, text in normaliser.items()
    )
    data += struct.pack("<iI", len(normaliser), len(entries)) + entries
    at["directory"] = len(data)
    random, stored = np.random.default_rng(seed), {}
    for name, shape in shapes(sizes).items():
        values = random.standard_normal(math.prod(shape)).astype(np.float32)
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            stored[name], values = pack(values.tolist())
        else:
            stored[name] = values.tobytes()
        out.tensors[name] = np.array(values, dtype=np.float32).reshape(shape)
    start = len(data) + 4 + sum(2 + len(name) + 21 for name in stored)
    data += struct.pack("<i", len(stored))
    for name, content in stored.items():
        data += struct.pack("<H", len(name)) + name.encode()
        at[f"entry {name}"] = len(data)
        count, kind = out.tensors[name].size, int(len(content) != 4 * out.tensors[name].size)
        data += struct.pack("<BIQQ", kind, count, start, len(content))
        at[name] = start
        start += len(content)
    for content in stored.values():
        data += content
    return out
