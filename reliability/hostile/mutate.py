"""Mutations of inputs: of bytes, of JSON and msgpack values, of the parts of containers."""

import gzip
import io
import json
import zipfile
import zlib
from random import Random
from typing import Any

_INTERESTING = [b"", b"\0", b"\xff", b"\x80", b"\n", b" ", b"\t", b"\r\n", b"-", b"O", b"B-", b"I-"]
_INTERESTING += [b"\xef\xbb\xbf", b"\xc3\x28", b"\xed\xa0\x80", "　".encode(), "\u2028".encode()]
_INTERESTING += [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0" * 8, b"9" * 30, b"[" * 200, b"{"]
_INTERESTING += [b"-1", b"1e999", b"NaN", b'"', b"\\u0000", b"null", b"builtins", b"eval\n", b"../"]

_VALUES: list[Any] = [None, True, False, 0, 1, -1, 2**31, -(2**63), 2**63, 1e308, float("inf")]
_VALUES += ["", "O", "B-", "B-LOC", "-", "\0", "x" * 300, "bert", "../../etc/passwd", [], {}, [[]]]
_VALUES += [{"": None}, ["O", "B-LOC", "I-LOC"], 10**9, 0.5, "1", [1, 2], {"0": "O"}, "\ud800"]


def mutate_bytes(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """A few random changes of bytes."""
    out = bytearray(data)
    for _ in range(1 << rng.randrange(4)):
        kind, size = rng.randrange(8), len(out)
        at = rng.randrange(size + 1)
        if kind == 0 and size:
            out[min(at, size - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1 and size:
            out[min(at, size - 1)] = rng.randrange(256)
        elif kind == 2:
            del out[at : at + 1 + rng.randrange(16)]
        elif kind == 3:
            out[at:at] = rng.choice(_INTERESTING)
        elif kind == 4:
            out[at:at] = out[at : at + 1 + rng.randrange(64)]
        elif kind == 5:
            piece = rng.choice(_INTERESTING)
            out[at : at + len(piece)] = piece
        elif kind == 6 and rng.random() < 0.3:
            del out[at:]
        elif kind == 7:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            out[at : at + rng.randrange(32)] = other[start : start + rng.randrange(64)]
    return bytes(out)


def mutate_value(value: Any, rng: Random) -> Any:
    """A copy of a JSON or msgpack value with something in it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        out = dict(value)
        key = rng.choice(list(out))
        kind = rng.random()
        if kind < 0.6:
            out[key] = mutate_value(out[key], rng)
        elif kind < 0.75:
            del out[key]
        elif kind < 0.9:
            out[key] = rng.choice(_VALUES)
        else:
            out[str(rng.choice(_VALUES))] = out.pop(key)
        return out
    if isinstance(value, list) and value and rng.random() < 0.9:
        out_list = list(value)
        at = rng.randrange(len(out_list))
        kind = rng.random()
        if kind < 0.5:
            out_list[at] = mutate_value(out_list[at], rng)
        elif kind < 0.65:
            del out_list[at]
        elif kind < 0.8:
            out_list.insert(at, rng.choice(out_list))
        elif kind < 0.9:
            out_list[at] = rng.choice(_VALUES)
        else:
            rng.shuffle(out_list)
        return out_list
    if isinstance(value, bytes):
        return mutate_bytes(value, rng, [value])
    if isinstance(value, str) and rng.random() < 0.5:
        return mutate_bytes(value.encode("utf8", "surrogatepass"), rng, [b"O B-LOC"]).decode(
            "utf8", "replace"
        )
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        return value + rng.choice([-1, 1, 2, -2, 256, 2**32, -(2**31)])
    return rng.choice(_VALUES)


def mutate_json(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """JSON with a changed value, or changed bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng, others)
    value = json.loads(data)
    for _ in range(1 + rng.randrange(3)):
        value = mutate_value(value, rng)
    return json.dumps(value).encode("utf8", "surrogatepass")


def mutate_docbin(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """A DocBin whose parts are changed inside its compression, or its bytes."""
    import srsly

    if rng.random() < 0.1:
        return mutate_bytes(data, rng, others)
    parts = srsly.msgpack_loads(zlib.decompress(data))
    if rng.random() < 0.15:
        return zlib.compress(mutate_bytes(zlib.decompress(data), rng, others), 1)
    for _ in range(1 + rng.randrange(2)):
        key = rng.choice(list(parts))
        is_array = key in ("tokens", "lengths", "spaces") and isinstance(parts[key], bytes)
        if is_array and parts[key] and rng.random() < 0.7:
            changed = bytearray(parts[key])  # of the same length, so that the rest fits
            for _ in range(1 + rng.randrange(4)):
                changed[rng.randrange(len(changed))] = rng.choice([0, 1, 2, 3, 255, 128, 7])
            parts[key] = bytes(changed)
        else:
            parts[key] = mutate_value(parts[key], rng)
    try:
        return zlib.compress(srsly.msgpack_dumps(parts), 1)
    except Exception:  # what msgpack has no place for (2 ** 63, lone surrogates)
        return zlib.compress(mutate_bytes(zlib.decompress(data), rng, others), 1)


def mutate_zip(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """A zip with a changed member under a right checksum, or changed bytes."""
    if not data.startswith(b"PK") or rng.random() < 0.3:
        return mutate_bytes(data, rng, others)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as target:
        names = archive.namelist()
        chosen = rng.choice([n for n in names if n.endswith(("data.pkl", ".npy"))] or names)
        for name in names:
            content = archive.read(name)
            if name == chosen or rng.random() < 0.05:
                content = mutate_bytes(content, rng, others)
            if rng.random() < 0.02:
                continue
            kind = zipfile.ZIP_DEFLATED if rng.random() < 0.03 else zipfile.ZIP_STORED
            target.writestr(zipfile.ZipInfo(name), content, kind)
    return out.getvalue()


def mutate_tar(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """A tar.gz with changed headers under right checksums, or changed bytes."""
    if rng.random() < 0.1:
        return mutate_bytes(data, rng, others)
    raw = bytearray(gzip.decompress(data))
    at = 512 * rng.randrange(max(len(raw) // 512, 1))
    block = raw[at : at + 512]
    for _ in range(1 + rng.randrange(3)):
        kind = rng.randrange(4)
        if kind == 0:
            block[156:157] = rng.choice(
                [b"0", b"1", b"2", b"5", b"x", b"g", b"L", b"K", b"S", b"6"]
            )
        elif kind == 1:
            name = rng.choice([b"/etc/x", b"../example.dev", b"example.dev", b"a/../example.x"])
            block[:100] = name.ljust(100, b"\0")
        elif kind == 2:
            size = rng.choice(
                [b"77777777777", b"00000000000", b"\x80" + b"\0" * 7 + b"\x10\0\0", b"-1"]
            )
            block[124:136] = size.ljust(12, b"\0")[:12]
        else:
            block[rng.randrange(512)] = rng.randrange(256)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    raw[at : at + 512] = block
    return gzip.compress(bytes(raw), 1)
