"""JSON of single tools that is no flat list of entities: Label Studio, CLUENER, spaCy v2."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..._files import write_text
from ...errors import BertCrfError
from ..tags import Row, parse_tag, read_spans
from .records import (
    BadRecord,
    Unannotated,
    add_spans,
    as_object,
    check_label,
    find_marks,
    find_text,
    marks,
    parse_flat,
    read_items,
    read_records,
    shown,
)
from .text import (
    LOST,
    MENDED,
    SKIPPED,
    AnnotatedText,
    Options,
    Problem,
    RawSpan,
    RawText,
    read_text,
)


def read_label_studio(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The tasks of a JSON export of Label Studio."""
    return read_items(path, _parse_task)


def _parse_task(value: Any, raw: RawText) -> None:
    value = as_object(value)
    data = value.get("data")
    if not isinstance(data, dict):
        raise BadRecord("no `data` with a text in this task")
    find_marks(value, raw)
    find_marks(data, raw)
    done = value.get("annotations", value.get("completions"))
    done = [each for each in done if isinstance(each, dict)] if isinstance(done, list) else []
    done = [each for each in done if not each.get("was_cancelled")]
    if not done:
        with suppress(BadRecord):
            raw.text = _task_text(data, ())
        raise Unannotated("the task is not annotated")
    if len(done) > 1:
        message = f"{len(done)} annotations of one task: the first is read"
        raw.problems.append(Problem(raw.number, message, LOST, raw.place, noted=True))
    results = done[0].get("result")
    if not isinstance(results, list):
        raise BadRecord("an annotation has no list `result`")
    raw.text = _task_text(data, results)
    for result in results:
        inner = result.get("value") if isinstance(result, dict) else None
        if not isinstance(inner, dict) or "start" not in inner:
            continue  # A choice, a rating or a relation.
        labels = inner.get("labels") or inner.get("hypertextlabels")
        add_spans(raw, [{**inner, "label": None, "labels": labels}])


def _task_text(data: dict[str, Any], results: Sequence[Any]) -> str:
    """The text of a task: what its results refer to, else a usual key, else its only text."""
    names = [result.get("to_name") for result in results if isinstance(result, dict)]
    for name in names:
        if isinstance(name, str) and isinstance(data.get(name), str):
            return str(data[name])
    try:
        return find_text(data)
    except BadRecord:
        texts = [each for each in data.values() if isinstance(each, str)]
        if len(texts) == 1:
            return texts[0]
        raise


def write_label_studio(path: Path, texts: Sequence[AnnotatedText], options: Options) -> None:
    """Write tasks that Label Studio imports, for a labelling config with names label and text."""
    tasks = []
    for number, item in enumerate(texts, 1):
        result = [
            {
                "id": f"{number}-{index}",
                "from_name": "label",
                "to_name": "text",
                "type": "labels",
                "value": {
                    "start": entity.start,
                    "end": entity.end,
                    "text": item.text[entity.start : entity.end],
                    "labels": [entity.label],
                },
            }
            for index, entity in enumerate(item.entities)
        ]
        data = {"text": item.text, **marks(item)}
        tasks.append({"id": number, "data": data, "annotations": [{"result": result}]})
    write_text(path, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")


def write_json_min(path: Path, texts: Sequence[AnnotatedText], options: Options) -> None:
    """Write JSON-MIN of Label Studio."""
    records = [
        {
            "id": number,
            "text": item.text,
            "label": [
                {
                    "start": e.start,
                    "end": e.end,
                    "text": item.text[e.start : e.end],
                    "labels": [e.label],
                }
                for e in item.entities
            ],
            **marks(item),
        }
        for number, item in enumerate(texts, 1)
    ]
    write_text(path, json.dumps(records, ensure_ascii=False, indent=1) + "\n")


def read_cluener(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The texts of CLUENER. Its ends are inclusive."""
    return read_items(path, _parse_cluener)


def _parse_cluener(value: Any, raw: RawText) -> None:
    value = as_object(value)
    raw.text = find_text(value)
    find_marks(value, raw)
    labels = value.get("label")
    if not isinstance(labels, dict):
        raise Unannotated("no entities: the record is not annotated")
    for label, surfaces in labels.items():
        if not isinstance(surfaces, dict):
            raise BadRecord(f"the label {label!r} has no object of texts: {shown(surfaces)}")
        for surface, places in surfaces.items():
            for place in places if isinstance(places, list) else [places]:
                try:
                    raw.spans.append(_inclusive_span(place, label, surface))
                except BadRecord as err:
                    raw.problems.append(Problem(raw.number, str(err), LOST, raw.place))


def _inclusive_span(place: Any, label: str, surface: str) -> RawSpan:
    if not isinstance(place, list) or len(place) != 2 or any(type(at) is not int for at in place):
        raise BadRecord(f"an entity must have a start and an end: {shown(place)}")
    return RawSpan(place[0], place[1] + 1, check_label(label, place), surface)


def write_cluener(path: Path, texts: Sequence[AnnotatedText], options: Options) -> None:
    """Write CLUENER's JSONL, with inclusive ends."""
    lines = []
    for item in texts:
        labels: dict[str, dict[str, list[list[int]]]] = {}
        for start, end, label in item.entities:
            surfaces = labels.setdefault(label, {})
            surfaces.setdefault(item.text[start:end], []).append([start, end - 1])
        record = {"text": item.text, "label": labels, **marks(item)}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def read_spacy_json(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The texts of spaCy's JSON: training tuples, paragraphs of v2, and Doc.to_json."""
    raws = []
    for record in read_records(path, read_text(path)):
        parts = [record.value]
        if isinstance(record.value, dict) and isinstance(record.value.get("paragraphs"), list):
            parts = record.value["paragraphs"]
        for index, part in enumerate(parts, 1):
            place = record.place + (f", paragraph {index}" if part is not record.value else "")
            raw = RawText("", [], place, record.number)
            raws.append(raw)
            if part is not record.value and isinstance(record.value.get("id"), (str, int)):
                raw.document = str(record.value["id"])
            try:
                if record.wrong:
                    raise BadRecord(record.wrong)
                _parse_part(part, raw)
            except BadRecord as err:
                noted = isinstance(err, Unannotated)
                raw.problems.append(Problem(raw.number, str(err), SKIPPED, place, noted))
    return raws, {}


def _parse_part(value: Any, raw: RawText) -> None:
    if isinstance(value, list):
        if len(value) != 2 or not isinstance(value[0], str) or not isinstance(value[1], dict):
            raise BadRecord(f"a pair of a text and its entities was expected, not {shown(value)}")
        raw.text = value[0]
        find_marks(value[1], raw)
        spans = value[1].get("entities")
        if not isinstance(spans, list):
            raise Unannotated("no `entities`: the text is not annotated")
        add_spans(raw, spans)
    elif isinstance(value, dict) and isinstance(value.get("sentences"), list):
        _parse_paragraph(value, raw)
    else:
        parse_flat(value, raw)


def _parse_paragraph(value: dict[str, Any], raw: RawText) -> None:
    """A paragraph of v2: `raw`, and tokens with BILUO tags in `ner`, or `entities`."""
    tokens = []
    for sentence in value["sentences"]:
        found = sentence.get("tokens") if isinstance(sentence, dict) else None
        if not isinstance(found, list) or not all(isinstance(token, dict) for token in found):
            raise BadRecord("a sentence has no list of tokens")
        tokens.extend(found)
    words = [token.get("orth") for token in tokens]
    if not all(isinstance(word, str) and word for word in words):
        raise BadRecord("a token has no text `orth`")
    text = value.get("raw")
    raw.text = text if isinstance(text, str) else " ".join(map(str, words))
    raw.words, at = [], 0
    for word in map(str, words):
        start = raw.text.find(word, at)
        if start < 0:
            raise BadRecord(f"the token {word!r} is not in the text")
        at = start + len(word)
        raw.words.append((start, at))
    entities = value.get("entities")
    if isinstance(entities, list) and entities:
        add_spans(raw, entities)
        return
    rows = []
    for token, word in zip(tokens, map(str, words), strict=True):
        tag = token.get("ner", "O")
        raw.partial = raw.partial or tag == "-"
        prefix, label, wrong = parse_tag("O" if tag in ("-", None) else str(tag))
        rows.append(Row(raw.number, word, prefix, label, wrong))
    try:
        spans, problems = read_spans(rows, "bilu")
    except BertCrfError as err:
        raise BadRecord(str(err)) from None
    for number, message, repairable in problems:
        outcome = MENDED if repairable else SKIPPED
        raw.problems.append(Problem(number, message, outcome, raw.place))
    raw.spans = [RawSpan(raw.words[s.start][0], raw.words[s.end - 1][1], s.label) for s in spans]
