"""What the parts of this room hand to each other: rows, entities and annotated rows."""

from typing import Any, NamedTuple, Optional


class Row(NamedTuple):
    """A document of the input.

    id: its name, from the id field, or FILE:NUMBER.
    text: its text.
    where: where it was read, as FILE:NUMBER.
    fields: the fields that travel along. Values are those of JSON.
    """

    id: str
    text: str
    where: str
    fields: dict[str, Any]


class SetApart(NamedTuple):
    """A document, or the rest of a file, that could not be annotated.

    id: name of the document; that of the file if a file could not be read.
    where: where it was read, as FILE:NUMBER or FILE.
    reason: what is wrong with it.
    """

    id: str
    where: str
    reason: str


class Entity(NamedTuple):
    """An entity of a document.

    start, end: offsets in characters of the text; end is exclusive.
    label: its type.
    text: its text.
    probability: its probability, or None if unknown.
    """

    start: int
    end: int
    label: str
    text: str
    probability: Optional[float] = None


class AnnotatedRow(NamedTuple):
    """A document with its entities.

    row: the document.
    entities: its entities, in the order of the text.
    doc: the Doc, where the output format needs it.
    """

    row: Row
    entities: list[Entity]
    doc: Any = None
