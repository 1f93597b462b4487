"""Parquet, compressed with zstd and with checksums of its pages. Metadata is in the footer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .sink import META, Content, Sink


def write(path: Path, content: Content) -> None:
    """Write a file: a row for each document with a list of its entities, or one for each entity."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(content)
    columns = {field.name: field.type for field in schema}
    records = [*(_entity_records(content) if content.per_entity else _records(content))]
    meta = json.dumps(content.meta, ensure_ascii=False)
    table = pa.table(
        {name: pa.array([r[name] for r in records], kind) for name, kind in columns.items()},
        schema=schema.with_metadata({META: meta}),
    )
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def read_meta(path: Path) -> dict[str, Any]:
    """The metadata of a file."""
    import pyarrow.parquet as pq

    found: dict[str, Any] = json.loads(pq.read_metadata(path).metadata[META.encode()])
    return found


def read_ids(path: Path) -> Iterator[str]:
    """The ids of the rows. All columns are read, and their checksums compared."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as table:
        for batch in table.iter_batches(use_threads=False):
            yield from batch.column("id").to_pylist()


def _schema(content: Content) -> Any:
    import pyarrow as pa

    entity = [pa.field("start", pa.int32()), pa.field("end", pa.int32())]
    entity += [pa.field("label", pa.string()), pa.field("text", pa.string())]
    if content.scores:
        entity.append(pa.field("probability", pa.float32()))
    others = [pa.field(name, pa.string()) for name in _kept(content)]
    if content.per_entity:
        entity[3] = pa.field("entity", pa.string())  # "text" may be a field that is kept
        return pa.schema([pa.field("id", pa.string()), *entity, *others])
    entities = pa.field("entities", pa.list_(pa.struct(entity)))
    return pa.schema([pa.field("id", pa.string()), *others, entities])


def _kept(content: Content) -> list[str]:
    return [name for name in content.keep if name != "id"]


def _records(content: Content) -> Iterator[dict[str, Any]]:
    for row, entities, _ in content.rows:
        kept = {name: _text(row.fields[name]) for name in _kept(content)}
        yield {"id": row.id, **kept, "entities": [entity._asdict() for entity in entities]}


def _entity_records(content: Content) -> Iterator[dict[str, Any]]:
    for row, entities, _ in content.rows:
        kept = {name: _text(row.fields[name]) for name in _kept(content)}
        for entity in entities:
            found = entity._asdict()
            yield {"id": row.id, **found, "entity": found["text"], **kept}


def _text(value: Any) -> Any:
    """A field as a string, so that all shards have one schema. What is no string becomes JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


SINK = Sink(".parquet", write, read_meta, read_ids)
