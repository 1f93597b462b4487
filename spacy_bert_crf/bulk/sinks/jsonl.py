"""JSON lines, compressed with gzip. Metadata is in the comment of gzip's header.

Programs that read gzip skip the comment (RFC 1952, section 2.3). Time and name of the file are left
out of the header, so that equal lines are equal bytes.
"""

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .sink import META, Content, Sink

_HEADER = b"\x1f\x8b\x08\x10\0\0\0\0\0\xff"  # deflate, with a comment, no time, unknown system


def write(path: Path, content: Content) -> None:
    """Write a file: a line for each document with a list of its entities, or one for each entity.

    A field that travels along keeps its type.
    """
    meta = json.dumps({META: content.meta}).encode("ascii")
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    check = size = 0
    with path.open("wb") as file:
        file.write(_HEADER + meta + b"\0")
        for record in _records(content):
            line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
            check, size = zlib.crc32(line, check), size + len(line)
            file.write(packer.compress(line))
        file.write(packer.flush() + struct.pack("<II", check, size & 0xFFFFFFFF))


def read_meta(path: Path) -> dict[str, Any]:
    """The metadata of a file. Raises ValueError if it has none."""
    with path.open("rb") as file:
        head = file.read(len(_HEADER))
        if head != _HEADER:
            raise ValueError("it has no metadata")
        comment = b""
        while b"\0" not in comment:
            block = file.read(4096)
            if not block:
                raise ValueError("its metadata is cut off")
            comment += block
    found: dict[str, Any] = json.loads(comment.partition(b"\0")[0])[META]
    return found


def read_ids(path: Path) -> Iterator[str]:
    """The ids of the lines. gzip compares its checksum at the end."""
    with gzip.open(path, "rt", encoding="utf8") as lines:
        for line in lines:
            yield json.loads(line)["id"]


def _records(content: Content) -> Iterator[dict[str, Any]]:
    for row, entities, _ in content.rows:
        kept = {name: row.fields[name] for name in content.keep if name != "id"}
        found = [_entity(entity._asdict(), content.scores) for entity in entities]
        if content.per_entity:
            for entity in found:
                entity["entity"] = entity.pop("text")
                yield {"id": row.id, **entity, **kept}
        else:
            yield {"id": row.id, **kept, "entities": found}


def _entity(values: dict[str, Any], scores: bool) -> dict[str, Any]:
    if not scores:
        del values["probability"]
    return values


SINK = Sink(".jsonl.gz", write, read_meta, read_ids)
