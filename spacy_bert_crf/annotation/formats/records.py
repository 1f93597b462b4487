"""JSON and JSONL files: their records, and records that hold a text and a list of entities."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ..._files import atomic_file, write_text
from ...errors import BertCrfError, quote
from ..coverage.covers import COVERS, checked
from .text import (
    LOST,
    SKIPPED,
    AnnotatedText,
    Entity,
    Options,
    Problem,
    RawSpan,
    RawText,
    read_text,
)

TEXT_KEYS = ("text", "data", "sentence", "content")
LIST_KEYS = ("label", "labels", "entities", "spans", "annotations", "ents")
_START = ("start", "start_offset", "start_idx", "begin", "offset_start")
_END = ("end", "end_offset", "end_idx", "offset_end")
_LABEL = ("label", "labels", "type", "entity", "entity_type", "tag")
_SURFACE = ("text", "surface", "value", "mention")
#: Key of a record with the (start, end) of parts whose annotation is unknown.
UNKNOWN = "unknown"
#: Keys of tasks that `select` writes: whether the entities are only predicted; which of them are
#: uncertain; all of them with their probabilities. The last two are never gold.
PREDICTED, UNCERTAIN, PROBABILITIES = "predicted", "uncertain", "probabilities"
_NO_GOLD = ("tokens", UNCERTAIN, PROBABILITIES)
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


class Unannotated(BadRecord):
    """A record that nobody has annotated, which is no error."""


#: Fills a RawText from the value of a record.
Parser = Callable[[Any, RawText], None]


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


def is_json(text: str) -> bool:
    """Whether a text, or its first line, is a JSON array or object."""
    text = text.strip()
    if text[:1] not in ("{", "["):
        return False
    for part in (text.partition("\n")[0], text):
        try:
            _loads(part)
        except ValueError:
            continue
        return True
    return False


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


def read_items(path: Path, parse: Parser) -> tuple[list[RawText], dict[str, str]]:
    """The texts of a file of records.

    parse: fills the RawText of a record. It raises BadRecord if it can't, and Unannotated for a
        record without annotation.
    """
    raws = []
    n_tasks = n_same = 0
    for record in read_records(path, read_text(path)):
        raw = RawText("", [], record.place, record.number)
        raws.append(raw)
        try:
            if record.wrong:
                raise BadRecord(record.wrong)
            parse(record.value, raw)
        except BadRecord as err:
            noted = isinstance(err, Unannotated)
            raw.problems.append(Problem(raw.number, str(err), SKIPPED, raw.place, noted))
        else:
            predicted = _predicted_spans(record.value)
            n_tasks += predicted is not None
            n_same += predicted == {span[:3] for span in raw.spans}
    return raws, {"as predicted": f"{n_same:,} of {n_tasks:,}"} if n_tasks else {}


def _predicted_spans(value: Any) -> Optional[set[Any]]:
    """The entities that were predicted in a task of doccano, None if it does not say so."""
    found = value.get(PROBABILITIES) if isinstance(value, dict) else None
    if not isinstance(found, list):
        return None
    try:
        return {span[:3] for each in found for span in parse_spans(each)}
    except BadRecord:
        return None


def read_flat(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The texts of doccano, Prodigy, JSON-MIN and Doc.to_json."""
    return read_items(path, parse_flat)


def parse_flat(value: Any, raw: RawText) -> None:
    """Of a record with a text and a list of entities, fill the RawText."""
    value = as_object(value)
    raw.text = find_text(value)
    find_marks(value, raw)
    if value.get("answer") in ("reject", "ignore"):
        raise Unannotated(f"the answer is {value['answer']!r}")
    if value.get(PREDICTED) is True and "answer" not in value:
        raise Unannotated(
            f"the entities are only predicted: set {PREDICTED!r} to false once they are corrected"
        )
    spans = find_list(value)
    if spans is None:
        raise Unannotated("no entities: the record is not annotated")
    add_spans(raw, spans)
    raw.words = _find_words(value, len(raw.text))


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is an object. Raises BadRecord for others."""
    if not isinstance(value, dict):
        raise BadRecord(f"an object with a text was expected, not {shown(value)}")
    return value


def find_list(value: dict[str, Any]) -> Optional[list[Any]]:
    """The list of entities of a record, None if it has none."""
    lists = {key: v for key, v in value.items() if isinstance(v, list) and key not in _NO_GOLD}
    full = [each for each in lists.values() if each and is_span(each[0])]
    if full:
        return full[0]
    return next((lists[key] for key in LIST_KEYS if key in lists), None)


def is_span(value: Any) -> bool:
    """Whether a value is an entity, see `parse_spans`."""
    try:
        parse_spans(value)
    except BadRecord:
        return False
    return True


def _find_words(value: dict[str, Any], length: int) -> Optional[list[tuple[int, int]]]:
    """The borders of the tokens of Prodigy and Doc.to_json."""
    tokens = value.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        return None
    words, before = [], 0
    for token in tokens:
        start, end = token.get("start"), token.get("end")
        if type(start) is not int or type(end) is not int or not before <= start < end <= length:
            return None
        words.append((start, end))
        before = end
    return words or None


def find_text(value: dict[str, Any]) -> str:
    """The text of a record. Raises BadRecord if none of TEXT_KEYS is there."""
    for key in TEXT_KEYS:
        if isinstance(value.get(key), str):
            return str(value[key])
    raise BadRecord(f"no text: none of the keys {', '.join(TEXT_KEYS)} is there")


def find_marks(value: dict[str, Any], raw: RawText) -> None:
    """Take the document, `partial`, `covers` and `unknown` from a record or its meta.

    Raises BadRecord for lists of another kind.
    """
    meta = value.get("meta")
    for source in (value, meta if isinstance(meta, dict) else {}):
        for key in _DOCUMENT:
            if isinstance(source.get(key), (str, int)) and not raw.document:
                raw.document = str(source[key])
        if source.get("partial") is True:
            raw.partial = True
        try:
            raw.covers = checked(source.get(COVERS), COVERS) if raw.covers is None else raw.covers
        except BertCrfError as err:
            raise BadRecord(str(err)) from None
        raw.unknown += _parts(source.get(UNKNOWN), len(raw.text))


def _parts(value: Any, length: int) -> list[tuple[int, int]]:
    """The parts [start, end] of a text. Raises BadRecord if it is no list of them."""
    out = []
    for part in value if isinstance(value, list) else []:
        ends = part if isinstance(part, list) and len(part) == 2 else [None, None]
        start, end = ends
        if type(start) is not int or type(end) is not int or not 0 <= start < end:
            raise BadRecord(f"a part that is unknown must be [start, end]: {shown(part)}")
        if length and end > length:
            raise BadRecord(f"a part that is unknown lies outside of the text: {shown(part)}")
        out.append((start, end))
    return out


def add_spans(raw: RawText, values: Iterable[Any]) -> None:
    """Add the entities of a record; an entity that can't be read is a problem."""
    for value in values:
        try:
            raw.spans.extend(parse_spans(value))
        except BadRecord as err:
            raw.problems.append(Problem(raw.number, str(err), LOST, raw.place))


def parse_spans(value: Any) -> list[RawSpan]:
    """An entity as [start, end, label] or as an object, once for each of its labels.

    Raises BadRecord for others.
    """
    surface: Any = None
    if isinstance(value, dict):
        start, end, label = (_first(value, keys) for keys in (_START, _END, _LABEL))
        surface = _first(value, _SURFACE)
    elif isinstance(value, list) and len(value) >= 3:
        start, end, label = value[:3]
    else:
        raise BadRecord(f"an entity must have a start, an end and a label: {shown(value)}")
    start, end = (int(at) if type(at) is float and at.is_integer() else at for at in (start, end))
    if type(start) is not int or type(end) is not int:
        raise BadRecord(f"start and end of an entity must be numbers: {shown(value)}")
    labels = label if isinstance(label, list) and label else [label]
    surface = surface if isinstance(surface, str) else None
    return [RawSpan(start, end, check_label(each, value), surface) for each in labels]


def check_label(label: Any, value: Any) -> str:
    """The label of an entity. Raises BadRecord if it is no text, is empty or no Unicode."""
    if not isinstance(label, str) or not label.strip():
        raise BadRecord(f"the label of an entity must be a text: {shown(value)}")
    try:
        label.encode("utf8")
    except UnicodeEncodeError:
        raise BadRecord(f"the label of an entity is no Unicode: {shown(value)}") from None
    return label


def shown(value: Any) -> str:
    """A value as messages show it."""
    return quote(json.dumps(value, ensure_ascii=True, default=str))


def _first(value: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((value[key] for key in keys if value.get(key) is not None), None)


def write_lines(path: Path, records: Iterable[Any]) -> None:
    """Write a JSON value a line."""
    with atomic_file(path) as tmp, tmp.open("w", encoding="utf8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def write_doccano(path: Path, texts: Iterable[AnnotatedText], options: Options) -> None:
    """Write doccano's JSONL, with [start, end, label] of each entity in `label`."""
    write_lines(
        path, ({"text": item.text, "label": item.entities, **marks(item)} for item in texts)
    )


def write_prodigy(path: Path, texts: Iterable[AnnotatedText], options: Options) -> None:
    """Write Prodigy's JSONL, with tokens where the texts have them."""
    write_lines(path, map(_prodigy_record, texts))


def _prodigy_record(item: AnnotatedText) -> dict[str, Any]:
    record: dict[str, Any] = {"text": item.text, "spans": [_named(e) for e in item.entities]}
    if item.words is not None:
        record["tokens"] = [
            {
                "text": item.text[start:end],
                "start": start,
                "end": end,
                "id": index,
                "ws": item.text[end : end + 1] == " ",
            }
            for index, (start, end) in enumerate(item.words)
        ]
    return {**record, "meta": marks(item), "answer": "accept"}


def write_spacy_json(path: Path, texts: Sequence[AnnotatedText], options: Options) -> None:
    """Write a JSON array of texts and `ents` as Doc.to_json has them."""
    records = [
        {"text": item.text, "ents": [_named(e) for e in item.entities], **marks(item)}
        for item in texts
    ]
    write_text(path, json.dumps(records, ensure_ascii=False, indent=1) + "\n")


def marks(item: AnnotatedText) -> dict[str, Any]:
    """The document, `partial`, `covers` and `unknown` of a text, where it has them."""
    found: dict[str, Any] = {"document": item.document} if item.document else {}
    if item.partial:
        found["partial"] = True
    if item.covers is not None:
        found[COVERS] = sorted(item.covers)
    if item.unknown:
        found[UNKNOWN] = [list(part) for part in item.unknown]
    return found


def _named(entity: Entity) -> dict[str, Any]:
    return {"start": entity.start, "end": entity.end, "label": entity.label}
