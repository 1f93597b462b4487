"""spaCy's DocBin. Metadata is a further key of it, which spaCy ignores.

Id and fields that travel along are in `doc.user_data`.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import srsly

from .sink import META, Content, Sink


def write(path: Path, content: Content) -> None:
    """Write a file with the Docs. Extensions on them are left out."""
    from spacy.tokens import DocBin

    docs = DocBin(store_user_data=True)
    for row, _, doc in content.rows:
        # Rows of equal texts share their Doc.
        doc.user_data = {"id": row.id, **row.fields}
        docs.add(doc)
    packed = srsly.msgpack_loads(zlib.decompress(docs.to_bytes()))
    path.write_bytes(zlib.compress(srsly.msgpack_dumps({**packed, META: content.meta})))


def read_meta(path: Path) -> dict[str, Any]:
    """The metadata of a file. Raises KeyError if it has none."""
    found: dict[str, Any] = srsly.msgpack_loads(zlib.decompress(path.read_bytes()))[META]
    return found


def read_ids(path: Path) -> Iterator[str]:
    """The ids of the Docs."""
    for packed in srsly.msgpack_loads(zlib.decompress(path.read_bytes()))["user_data"]:
        yield srsly.msgpack_loads(packed)["id"]


SINK = Sink(".spacy", write, read_meta, read_ids, has_entity_rows=False, needs_docs=True)
