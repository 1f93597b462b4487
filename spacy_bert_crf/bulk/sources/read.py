"""Read a file of the input as a stream of rows."""

import csv
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Union

from ...errors import BertCrfError, first_line
from ..rows import Row, SetApart
from .files import SourceFile, file_system

Item = Union[Row, SetApart]


@dataclass(frozen=True)
class Fields:
    """Which fields are read.

    text: name of the field of the text.
    id: name of the field of the id; "" names rows by file and number.
    keep: names of the fields that travel along. The text may be one of them.
    whole_files: a .txt file is one text. Otherwise each of its lines is one.
    """

    text: str = "text"
    id: str = ""
    keep: tuple[str, ...] = ()
    whole_files: bool = False

    @property
    def names(self) -> list[str]:
        """All names, each once."""
        return [*dict.fromkeys([self.text, *([self.id] if self.id else []), *self.keep])]


@dataclass
class OpenFile:
    """An open file of the input, and how far it was read.

    file: the file.
    fields: which fields are read.
    raw: its bytes as stored.
    number: number of the row that was read last, from 1.
    share: share of the file that was read, for formats that `raw` does not tell it of.
    """

    file: SourceFile
    fields: Fields
    raw: Any
    number: int = 0
    share: float = 0.0

    @property
    def position(self) -> int:
        """How many of its bytes were read."""
        if self.share:
            return int(self.share * self.file.size)
        return min(int(self.raw.tell()), self.file.size)

    @property
    def where(self) -> str:
        """The place of the row that was read last."""
        return f"{self.file.name}:{self.number}"

    def stream(self) -> Any:
        """The bytes of the file, decompressed."""
        if not self.file.compression:
            return self.raw
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(self.raw, self.file.compression))

    def row(self, values: dict[str, Any]) -> Item:
        """The row of these fields, or what is wrong with it."""
        own, where = self.fields, self.where
        name = where
        if own.id:
            value = values.get(own.id)
            if isinstance(value, bool) or not isinstance(value, (str, int)):
                found = "no" if value is None else f"{value!r} as"
                return SetApart(where, where, f"it has {found} id in the field {own.id!r}")
            name = str(value)
        text = values.get(own.text)
        if not isinstance(text, str):
            found = "no" if text is None else f"a {type(text).__name__} as"
            return SetApart(_valid(name), where, f"it has {found} text in the field {own.text!r}")
        row = Row(name, text, where, {key: _plain(values.get(key)) for key in own.keep})
        if not _is_unicode(row):
            reason = "it is not valid UTF-8, or has one half of a surrogate pair"
            return SetApart(_valid(name), where, reason)
        return row


#: What a damaged file raises. Errors of the system, which have a number, may pass by themselves.
_DAMAGE = (ValueError, EOFError, zlib.error, csv.Error, OSError)


def read_rows(file: SourceFile, fields: Fields) -> Iterator[tuple[Item, int]]:
    """Yield the rows of a file, each with the number of bytes of the file that were read so far.

    What can't be read comes as SetApart. A file that is damaged within ends with one that names
    the file.
    Raises BertCrfError if the system or the network can't give the file.
    """
    read = _reader_of(file.format)
    fs, path = file_system(file.address)
    try:
        with fs.open(path, "rb") as raw:
            opened = OpenFile(file, fields, raw)
            try:
                for item in read(opened):
                    yield item, opened.position
            except BertCrfError:
                raise
            except _DAMAGE as err:
                if getattr(err, "errno", None) is not None:
                    raise
                after = f" after row {opened.number:,}" if opened.number else ""
                yield (
                    SetApart(file.name, file.name, f"can't be read{after}: {first_line(err)}"),
                    file.size,
                )
    except OSError as err:
        raise BertCrfError(
            f"can't read {file.address}: {err.strerror or first_line(err)}. What is done stays: "
            "run the command again when it can be read."
        ) from err


def _reader_of(kind: str) -> Callable[[OpenFile], Iterator[Item]]:
    if kind in ("parquet", "spacy"):
        from . import tables

        return {"parquet": tables.read_parquet, "spacy": tables.read_docbin}[kind]
    from . import lines

    return {"txt": lines.read_txt, "jsonl": lines.read_jsonl, "csv": lines.read_csv}[kind]


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    plain = json.dumps(value, default=str, ensure_ascii=False)
    return json.loads(plain, parse_constant=lambda name: None)  # NaN is no JSON


def _is_unicode(row: Row) -> bool:
    try:
        row.id.encode()
        row.text.encode()
        if row.fields:
            json.dumps(row.fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _valid(name: str) -> str:
    return name.encode("utf8", "backslashreplace").decode()
