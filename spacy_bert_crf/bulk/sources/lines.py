"""Readers of plain text, JSON lines and CSV."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from ..rows import SetApart
from .read import Item, OpenFile

#: A longer line is set apart, so that it never lies in memory. In bytes
MAX_LINE = 64 * 2**20
_BOM = b"\xef\xbb\xbf"
_NOT_UTF8 = "it is not valid UTF-8"
_TOO_LONG = f"the line has more than {MAX_LINE // 2**20} MiB"


def read_txt(opened: OpenFile) -> Iterator[Item]:
    """Texts of a plain text file: its lines, or the whole file. An empty line is an empty text."""
    if opened.fields.whole_files:
        data = opened.stream().read(MAX_LINE + 1)
        name = opened.file.name
        if len(data) > MAX_LINE:
            yield SetApart(name, name, f"it has more than {MAX_LINE // 2**20} MiB")
            return
        opened.number = 1
        item = _text(opened, data)
        yield item._replace(id=name, where=name)
        return
    for line in _lines(opened):
        yield _text(opened, line.rstrip(b"\r\n"))


def read_jsonl(opened: OpenFile) -> Iterator[Item]:
    """Rows of JSON lines. Blank lines are left out."""
    for line in _lines(opened):
        where = opened.where
        if len(line) > MAX_LINE:
            yield SetApart(where, where, _TOO_LONG)
            continue
        if not line.strip():
            continue
        try:
            values = json.loads(line.decode(), parse_constant=lambda name: None)
        except UnicodeDecodeError as err:
            yield SetApart(where, where, f"{_NOT_UTF8} (byte {err.start + 1} of the line)")
        except (ValueError, RecursionError) as err:
            yield SetApart(where, where, f"it is not JSON: {err}")
        else:
            if isinstance(values, dict):
                yield opened.row(values)
            else:
                yield SetApart(where, where, "it is no JSON object")


def read_csv(opened: OpenFile) -> Iterator[Item]:
    """Rows of CSV with a header. A row is named by its number, without the header."""
    # Bytes that are not UTF-8 become half surrogate pairs, which `OpenFile.row` refuses.
    stream: Any = io.TextIOWrapper(
        opened.stream(), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )
    before = csv.field_size_limit(min(MAX_LINE, sys.maxsize))
    try:
        rows = csv.DictReader(stream)
        missing = [name for name in opened.fields.names if name not in (rows.fieldnames or ())]
        if missing:
            raise ValueError(
                f"it has no column {missing[0]!r}, only {', '.join(rows.fieldnames or ())}"
            )
        for values in rows:
            opened.number += 1
            yield opened.row(values)
    finally:
        csv.field_size_limit(before)
        stream.detach()


def _lines(opened: OpenFile) -> Iterator[bytes]:
    """The lines of a file. Of a longer one than MAX_LINE, one byte more than that is kept."""
    stream = opened.stream()
    while line := stream.readline(MAX_LINE + 1):
        rest = line
        while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE + 1)
        opened.number += 1
        yield line.removeprefix(_BOM) if opened.number == 1 else line


def _text(opened: OpenFile, data: bytes) -> Item:
    where = opened.where
    if len(data) > MAX_LINE:
        return SetApart(where, where, _TOO_LONG)
    try:
        text = data.decode()
    except UnicodeDecodeError as err:
        return SetApart(where, where, f"{_NOT_UTF8} (byte {err.start + 1})")
    return opened.row({opened.fields.text: text})
