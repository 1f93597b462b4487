"""Readers of Parquet and of spaCy's DocBin."""

from collections.abc import Iterator

from .read import Item, OpenFile

#: Rows of Parquet that are read at once.
_ROWS = 512


def read_parquet(opened: OpenFile) -> Iterator[Item]:
    """Rows of a Parquet file. Only the columns that are needed are read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = opened.raw
    if opened.file.compression:  # Parquet is read from its end
        source = pa.BufferReader(opened.stream().read())
    with pq.ParquetFile(source) as table:
        present = table.schema_arrow.names
        missing = [name for name in opened.fields.names if name not in present]
        if missing:
            raise ValueError(f"it has no column {missing[0]!r}, only {', '.join(present)}")
        total = max(table.metadata.num_rows, 1)
        for batch in table.iter_batches(_ROWS, columns=opened.fields.names, use_threads=False):
            for values in batch.to_pylist():
                opened.number += 1
                opened.share = opened.number / total
                yield opened.row(values)


def read_docbin(opened: OpenFile) -> Iterator[Item]:
    """Texts of a DocBin; the pipeline makes tokens of its own. Fields are those of `user_data`.

    The format can't be read in pieces, so the bytes of one file lie in memory.
    """
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    docs = DocBin().from_bytes(opened.stream().read())
    total = max(len(docs), 1)
    for doc in docs.get_docs(Vocab()):
        opened.number += 1
        opened.share = opened.number / total
        named = {key: value for key, value in doc.user_data.items() if isinstance(key, str)}
        yield opened.row({**named, opened.fields.text: doc.text})
