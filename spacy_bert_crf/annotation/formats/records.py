"""JSON and JSONL files of annotation tools: doccano, Label Studio, Prodigy, CLUENER, spaCy."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import BertCrfError
from .text import LOST, SKIPPED, Options, Problem, RawSpan, RawText, quote, read_text

TEXT_KEYS = ("text", "data", "sentence", "content")
LIST_KEYS = ("label", "labels", "entities", "spans", "annotations", "ents")
_START = ("start", "start_offset", "start_idx", "begin", "offset_start")
_END = ("end", "end_offset", "end_idx", "offset_end")
_LABEL = ("label", "labels", "type", "entity", "entity_type", "tag")
_SURFACE = ("text", "surface", "value", "mention")
_DOCUMENT = ("document", "doc_id", "document_id", "doc")


class Record(NamedTuple):
    """One value of a JSON or JSONL file.

    number: line number in JSONL, number of the record in JSON; from 1.
    place: the file and the line or record.
    value: the value, None if it is no JSON.
    wrong: why it is no JSON, or "".
    """

    number: int
    place: str
    value: Any
    wrong: str = ""


class BadRecord(ValueError):
    """A record that can't be used; the message says why."""


def read_records(path: Path, text: str) -> list[Record]:
    """The values of a file with a JSON array, one JSON object or a JSON value a line."""
    start = text.lstrip()[:1]
    try:
        value = _loads(text)
    except ValueError as err:
        if start == "[" and not _is_lines(text):
            raise BertCrfError(f"{path}: this is no JSON: {err}. Export the file again.") from None
    else:
        values = value if isinstance(value, list) else [value]
        place = f"{path}:1" if value is not values else f"{path}: record"
        if value is not values:
            return [Record(1, place, value)]
        return [Record(i, f"{place} {i}", each) for i, each in enumerate(values, 1)]
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            records.append(Record(number, place, _loads(line)))
        except ValueError as err:
            wrong = f"this line is no JSON: {err}: {quote(line)}"
            records.append(Record(number, place, None, wrong))
    return records


def _is_lines(text: str) -> bool:
    """Whether the first two lines are JSON each."""
    lines = [line for line in text.split("\n", 200)[:200] if line.strip()][:2]
    try:
        return all(isinstance(_loads(line), (dict, list)) for line in lines)
    except ValueError:
        return False


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as err:
        where = f"line {err.lineno} " if err.lineno > 1 else ""
        raise ValueError(f"{err.msg} at {where}column {err.colno}") from None


def read_items(
    path: Path, parse: Callable[[dict[str, Any], RawText], None]
) -> tuple[list[RawText], dict[str, str]]:
    """The texts of a file of records.

    parse: fills the RawText of a record, and raises BadRecord if it can't.
    """
    raws = []
    for record in read_records(path, read_text(path)):
        raw = RawText("", [], record.place, record.number)
        raws.append(raw)
        try:
            if record.wrong:
                raise BadRecord(record.wrong)
            parse(record.value, raw)
        except BadRecord as err:
            raw.problems.append(Problem(raw.number, str(err), SKIPPED, raw.place))
    return raws, {}


def read_flat(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The texts of a doccano or Prodigy file."""
    return read_items(path, parse_flat)


def parse_flat(value: Any, raw: RawText) -> None:
    """Of doccano, Prodigy and the like: a text, and a list of spans under one of LIST_KEYS."""
    if not isinstance(value, dict):
        raise BadRecord(f"an object with a text was expected, not {quote(str(value))}")
    raw.text = _find_text(value)
    _common(value, raw)
    found = [key for key in LIST_KEYS if isinstance(value.get(key), list)]
    if not found and not any(key in value for key in LIST_KEYS):
        raise BadRecord(f"no entities: none of the keys {', '.join(LIST_KEYS)} is there")
    for key in found[:1]:
        add_spans(raw, value[key])


def _find_text(value: dict[str, Any]) -> str:
    for key in TEXT_KEYS:
        if isinstance(value.get(key), str):
            return str(value[key])
    raise BadRecord(f"no text: none of the keys {', '.join(TEXT_KEYS)} is there")


def _common(value: dict[str, Any], raw: RawText) -> None:
    """The document and `partial` of a record and of its meta."""
    meta = value.get("meta")
    for source in (value, meta if isinstance(meta, dict) else {}):
        for key in _DOCUMENT:
            if isinstance(source.get(key), (str, int)) and not raw.document:
                raw.document = str(source[key])
        if source.get("partial") is True:
            raw.partial = True


def add_spans(raw: RawText, values: Iterable[Any]) -> None:
    """Add the entities of a record; an entity that can't be read is a problem."""
    for value in values:
        try:
            raw.spans.append(parse_span(value))
        except BadRecord as err:
            raw.problems.append(Problem(raw.number, str(err), LOST, raw.place))


def parse_span(value: Any) -> RawSpan:
    """An entity as [start, end, label] or as an object. Raises BadRecord for others."""
    surface: Any = None
    if isinstance(value, dict):
        start, end, label = (_first(value, keys) for keys in (_START, _END, _LABEL))
        surface = _first(value, _SURFACE)
    elif isinstance(value, list) and len(value) >= 3:
        start, end, label = value[:3]
    else:
        raise BadRecord(f"an entity must have a start, an end and a label: {_shown(value)}")
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if type(start) is not int or type(end) is not int:
        raise BadRecord(f"start and end of an entity must be numbers: {_shown(value)}")
    return RawSpan(
        start, end, check_label(label, value), surface if isinstance(surface, str) else None
    )


def check_label(label: Any, value: Any) -> str:
    """The label of an entity. Raises BadRecord if it is no text, is empty or no Unicode."""
    if not isinstance(label, str) or not label.strip():
        raise BadRecord(f"the label of an entity must be a text: {_shown(value)}")
    try:
        label.encode("utf8")
    except UnicodeEncodeError:
        raise BadRecord(f"the label of an entity is no Unicode: {_shown(value)}") from None
    return label


def _first(value: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((value[key] for key in keys if value.get(key) is not None), None)


def _shown(value: Any) -> str:
    return quote(json.dumps(value, ensure_ascii=False))
