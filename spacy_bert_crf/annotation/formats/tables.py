"""Tables: Hugging Face tokens and tags in JSONL or Parquet, and CSV or TSV with spans."""

import ast
import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ..._files import write_text
from ...errors import BertCrfError, first_line
from ..coverage.covers import COVERS
from ..tags import Row, find_style, make_tag_set, parse_tag
from .columns import Layout, find_scheme, tagged_text
from .records import (
    LIST_KEYS,
    TEXT_KEYS,
    UNKNOWN,
    BadRecord,
    Unannotated,
    add_spans,
    find_marks,
    marks,
    read_records,
    shown,
    write_lines,
)
from .text import (
    SKIPPED,
    AnnotatedText,
    Options,
    Problem,
    RawText,
    choose_join,
    is_unspaced,
    read_bytes,
    read_text,
    text_rows,
)

TOKEN_KEYS = ("tokens", "words")
TAG_KEYS = ("ner_tags", "tags", "ner", "labels", "ner_tags_str")
_DELIMITERS = "\t,;|"


def read_huggingface(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The rows of a JSONL file with `tokens` and `ner_tags`."""
    rows = []
    for record in read_records(path, read_text(path)):
        rows.append((record.number, record.value, record.wrong))
    return _read_rows(path, rows, options)


def read_parquet(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The rows of a Parquet file with tokens and tags, or with a text and spans.

    The names of tags that are numbers come from the file's metadata, or from options.names.
    Raises BertCrfError if pyarrow is not installed or the file is damaged.
    """
    try:
        from pyarrow import parquet  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise BertCrfError(
            f"{path}: Parquet files are read by pyarrow: pip install 'spacy-bert-crf[parquet]'."
        ) from None
    data = read_bytes(path)
    try:
        table = parquet.read_table(io.BytesIO(data), use_threads=False)
        metadata = table.schema.metadata or {}
        rows = table.to_pylist()
        names = options.names or _names_of(metadata.get(b"huggingface", b"{}"))
    except Exception as err:  # What a damaged file raises varies.
        raise BertCrfError(
            f"{path} is no readable Parquet file, or damaged ({first_line(err)}). Export it again."
        ) from err
    numbered = [(number, row, "") for number, row in enumerate(rows, 1)]
    options = Options(options.columns, options.scheme, options.join, names)
    columns = table.schema.names
    if any(key in columns for key in TOKEN_KEYS) and any(key in columns for key in TAG_KEYS):
        return _read_rows(path, numbered, options)
    if not any(key in columns for key in TEXT_KEYS):
        raise BertCrfError(
            f"{path}: its columns are {', '.join(columns) or 'none'}. A Parquet file needs the "
            "columns tokens and ner_tags, or a text and spans."
        )
    return _flat_rows(path, [(number, row) for number, row, _ in numbered]), {}


def _names_of(metadata: bytes) -> tuple[str, ...]:
    """The names of the tags in the metadata that `datasets` writes; empty without any."""
    features = json.loads(metadata).get("info", {}).get("features", {})
    for key in TAG_KEYS:
        feature = features.get(key, {})
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and isinstance(inner.get("names"), list):
            return tuple(map(str, inner["names"]))
    return ()


def _read_rows(
    path: Path, rows: Sequence[tuple[int, Any, str]], options: Options
) -> tuple[list[RawText], dict[str, str]]:
    parsed: list[tuple[RawText, list[str], list[str]]] = []
    failed: list[RawText] = []
    for number, value, wrong in rows:
        raw = RawText("", [], f"{path}:{number}", number)
        try:
            if wrong:
                raise BadRecord(wrong)
            tokens, tags = _tokens_and_tags(path, value, options.names)
            find_marks(value, raw)
            parsed.append((raw, tokens, tags))
        except BadRecord as err:
            noted = isinstance(err, Unannotated)
            raw.problems.append(Problem(number, str(err), SKIPPED, raw.place, noted))
            failed.append(raw)
    style = find_style(tag for _, _, tags in parsed for tag in tags)
    join = options.join
    tokens_seen = [token for _, tokens, _ in parsed for token in tokens]
    if join is None:
        join = "" if is_unspaced("".join(tokens_seen)) else " "
    layout = Layout(style=style, join=join, characters=False)
    sentences = [
        [
            Row(raw.number, token, *parse_tag(tag, style))
            for token, tag in zip(tokens, tags, strict=True)
        ]
        for raw, tokens, tags in parsed
    ]
    scheme = find_scheme(path, sentences, options.scheme)
    raws = []
    for (own, _, _), sentence in zip(parsed, sentences, strict=True):
        raws.append(tagged_text(path, sentence, own.document, scheme, layout))
        raws[-1].partial, raws[-1].covers = own.partial, own.covers
        raws[-1].unknown = own.unknown
    raws = sorted([*raws, *failed], key=lambda raw: raw.number)
    details = {"tag scheme": scheme, "tokens": "words" if join else "not spaced"}
    return raws, details


def _tokens_and_tags(path: Path, value: Any, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The tokens and tags of a row. Raises BadRecord, and BertCrfError for tags without names."""
    if not isinstance(value, dict):
        raise BadRecord(f"an object with tokens and ner_tags was expected, not {shown(value)}")
    tokens = next((value[key] for key in TOKEN_KEYS if isinstance(value.get(key), list)), None)
    tags = next((value[key] for key in TAG_KEYS if isinstance(value.get(key), list)), None)
    if tokens is None:
        raise BadRecord("no list `tokens`")
    if tags is None:
        raise Unannotated("no list `ner_tags`: the row is not annotated")
    if not all(isinstance(token, str) and token for token in tokens):
        raise BadRecord(f"a token is empty or no text: {shown(tokens)}")
    if len(tokens) != len(tags):
        raise BadRecord(f"{len(tokens)} tokens, but {len(tags)} tags")
    if not tokens:
        raise Unannotated("the row has no tokens")
    found = []
    for tag in tags:
        if type(tag) is int:
            if not names:
                raise BertCrfError(
                    f"{path}: the ner_tags are numbers, and the file does not name them: give the "
                    "names in their order, --names O,B-PER,I-PER."
                )
            if not 0 <= tag < len(names):
                raise BadRecord(f"the tag {tag} has no name: there are {len(names)}")
            found.append(names[tag])
        elif isinstance(tag, str):
            found.append(tag)
        else:
            raise BadRecord(f"a tag is no text: {shown(tag)}")
    return list(tokens), found


def read_csv(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The rows of a CSV or TSV file with a header, a column of texts and one of spans.

    Spans are a list as JSON or as Python writes it: [[0, 2, "LOC"]] or objects.
    Raises BertCrfError if there are no such columns.
    """
    text = read_text(path)
    header, delimiter = csv_header(text)
    text_column, span_column = _csv_columns(path, header, options.columns)
    rows = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    raws: list[RawText] = []
    try:
        next(reader)
        for row in reader:
            if row:
                rows.append((reader.line_num, dict(zip(header, row, strict=False))))
    except csv.Error as err:
        raise BertCrfError(
            f"{path}:{reader.line_num}: this is no CSV: {err}. Export the file again."
        ) from None
    raws = _flat_rows(path, rows, text_column, span_column)
    return raws, {"columns": f"{text_column} and {span_column}"}


def csv_header(text: str) -> tuple[list[str], str]:
    """The names in the first line of a CSV file, and its delimiter."""
    line = next((line for line in text.split("\n") if line.strip()), "").rstrip("\r")
    delimiter = max(_DELIMITERS, key=line.count)
    try:
        names = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        names = []
    return [name.strip() for name in names], delimiter


def find_csv_columns(header: Sequence[str]) -> tuple[Optional[str], Optional[str]]:
    """The columns of text and spans by their names, None for one that is not there."""
    lower = {name.lower(): name for name in reversed(header)}
    text = next((lower[key] for key in TEXT_KEYS if key in lower), None)
    return text, next((lower[key] for key in LIST_KEYS if key in lower), None)


def _csv_columns(path: Path, header: Sequence[str], columns: str) -> tuple[str, str]:
    text, spans = find_csv_columns(header)
    if columns:
        text, _, spans = (part.strip() for part in columns.partition(","))
    if text not in header or spans not in header or not text or not spans or text == spans:
        raise BertCrfError(
            f"{path}: its columns are {', '.join(header)}. A CSV file needs a column of texts and "
            'one of spans, as [[0, 2, "LOC"]]: name both by --columns text,spans.'
        )
    return text, spans


def _flat_rows(
    path: Path, rows: Sequence[tuple[int, dict[str, Any]]], text: str = "", spans: str = ""
) -> list[RawText]:
    """Rows of a text and a cell of spans; without names the usual ones are looked for."""
    raws = []
    for number, row in rows:
        raw = RawText("", [], f"{path}:{number}", number)
        raws.append(raw)
        if not text or not spans:
            found = find_csv_columns(list(row))
            text, spans = found[0] or "text", found[1] or "spans"
        try:
            cell = row.get(text)
            if not isinstance(cell, str):
                raise BadRecord(f"the cell {text!r} is no text")
            raw.text = cell
            find_marks({**row, **_cells(row)}, raw)
            raw.partial = raw.partial or str(row.get("partial", "")).lower() == "true"
            values = parse_cell(row.get(spans))
            add_spans(raw, values)
        except BadRecord as err:
            noted = isinstance(err, Unannotated)
            raw.problems.append(Problem(number, str(err), SKIPPED, raw.place, noted))
    return raws


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    """The lists in the cells of `covers` and `unknown`. An empty cell is None."""
    cells = {key: row.get(key) for key in (COVERS, UNKNOWN)}
    return {key: parse_cell(cell) if cell else None for key, cell in cells.items()}


def parse_cell(cell: Any) -> list[Any]:
    """The spans in a cell. Raises BadRecord if it holds no list, Unannotated if it is empty."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)) or cell == "":
        raise Unannotated("no entities: the cell is empty")
    value = cell
    if isinstance(cell, str):
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            try:
                value = ast.literal_eval(cell)
            except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                raise BadRecord(f"the cell of spans is no list: {shown(cell)}") from None
    if isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, list):
        raise BadRecord(f"the cell of spans is no list: {shown(cell)}")
    return [list(each) if isinstance(each, tuple) else each for each in value]


def write_huggingface(path: Path, texts: Sequence[AnnotatedText], options: Options) -> None:
    """Write a JSONL file with `tokens` and `ner_tags`, the tags as texts.

    options: its `scheme`, and its `join` as for columns.
    Raises BertCrfError for a text that tokens can't hold, as columns do.
    """
    join = choose_join(texts) if options.join is None else options.join
    records = []
    for item in texts:
        tokens, spans = text_rows(replace(item, partial=False, covers=None, unknown=[]), join)
        tag_set = make_tag_set((span.label for span in spans), options.scheme)
        tags = [tag_set.tags[i] for i in tag_set.encode(spans, len(tokens))]
        records.append({"tokens": tokens, "ner_tags": tags, **marks(item)})
    write_lines(path, records)


def write_csv(path: Path, texts: Sequence[AnnotatedText], options: Options) -> None:
    """Write CSV with the columns text, spans, document and partial.

    Texts that say which labels they cover, or what is unknown, add columns of these names.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    each = [marks(item) for item in texts]
    more = [key for key in (COVERS, UNKNOWN) if any(key in own for own in each)]
    writer.writerow(["text", "spans", "document", "partial", *more])
    for item, own in zip(texts, each, strict=True):
        spans = json.dumps(item.entities, ensure_ascii=False)
        cells = [json.dumps(own[key], ensure_ascii=False) if key in own else "" for key in more]
        writer.writerow([item.text, spans, item.document, str(item.partial).lower(), *cells])
    write_text(path, out.getvalue())
