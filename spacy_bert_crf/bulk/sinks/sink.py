"""What a format of the output can do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..rows import AnnotatedRow

#: Key of the metadata in a file.
META = "spacy_bert_crf"


class Content(NamedTuple):
    """What a shard's file holds.

    rows: the annotated documents.
    keep: names of the fields that travel along.
    per_entity: a row of the file is an entity.
    scores: entities have probabilities.
    meta: the metadata, as JSON.
    """

    rows: Sequence[AnnotatedRow]
    keep: tuple[str, ...]
    per_entity: bool
    scores: bool
    meta: dict[str, Any]


@dataclass(frozen=True)
class Sink:
    """A format of the output.

    suffix: suffix of its files.
    write: writes a file.
    read_meta: the metadata of a file. Raises an error of any kind if it is damaged.
    read_ids: the ids of its rows, after reading all its bytes. Raises an error if it is damaged.
    has_entity_rows: it can have a row for each entity.
    needs_docs: it is written from Docs.
    """

    suffix: str
    write: Callable[[Path, Content], None]
    read_meta: Callable[[Path], dict[str, Any]]
    read_ids: Callable[[Path], Iterator[str]]
    has_entity_rows: bool = True
    needs_docs: bool = False
