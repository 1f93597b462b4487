"""Finds the format of a file by its content, and describes files of no known format."""

import io
import zipfile
from pathlib import Path
from typing import Any, NoReturn

from ...errors import BertCrfError, quote
from .columns import find_layout, tag_share
from .records import TEXT_KEYS, as_object, find_list, is_json, is_span, read_records
from .tables import TAG_KEYS, TOKEN_KEYS, csv_header, find_csv_columns
from .text import read_bytes, read_text

#: The first bytes of a DocBin, which is a zlib stream. No UTF-8 text begins with them.
DOCBIN = b"x\x9c"
#: Share of the first lines that must hold a tag in a column file.
_TAGGED = 0.2
#: Records that are looked at.
_RECORDS = 50
_KINDS = {
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"\x89HDF": "a model (HDF5)",
    b"SQLite format 3": "an SQLite database",
    b"{\\rtf": "an RTF document",
    b"<": "HTML or XML",
}
_EXPECTED = (
    "columns, JSONL or JSON of doccano, Label Studio, Prodigy, CLUENER, spaCy or Hugging Face, "
    "CSV with spans, Parquet, WebAnno TSV, .spacy, or a folder of brat"
)
_SPANS = '[[0, 4, "PER"], [14, 19, "LOC"]]'
_SAMPLE = f'{{"text": "John lives in Paris", "label": {_SPANS}}}'
_SAVE_SHEET = "Save the sheet as CSV (UTF-8) with the columns text and spans."


def detect_format(path: Path) -> str:
    """The format of a file or folder, a key of FORMATS.

    Raises BertCrfError if it can't be read, or for a file of no known format. The message says what
    it looks like, what was expected and what to do, with a sample.
    """
    path = Path(path)
    if path.is_dir():
        return _detect_folder(path)
    head = read_bytes(path, 256)
    if path.suffix == ".spacy" or head.startswith(DOCBIN):
        return "spacy"
    if head.startswith(b"PAR1"):
        return "parquet"
    _refuse_binary(path, head)
    text = read_text(path)
    if path.suffix == ".ann" or (path.suffix == ".txt" and path.with_suffix(".ann").is_file()):
        return "brat"
    if text.startswith(("#FORMAT=WebAnno TSV", "#FORMAT=WebAnno TSV".lower())):
        return "webanno"
    if not text.strip(" \t\r\n"):
        raise BertCrfError(
            f"{path}: file has no sentences, it is empty: choose a file with tokens and tags, or "
            "with texts and entities."
        )
    if is_json(text):
        return _detect_json(path, text)
    if _is_columns(text):
        return "columns"
    if text.lstrip()[:1] in ("{", "["):
        return _detect_json(path, text)
    header, _ = csv_header(text)
    if len(header) > 1 and all(find_csv_columns(header)):
        return "csv"
    _refuse_text(path, text, header)


def _is_columns(text: str) -> bool:
    """Whether enough of the first lines have columns, and a tag in one of them."""
    lines = [line.removesuffix("\r") for line in text.split("\n", 1000)[:1000]]
    sample = [line for line in lines if line.strip(" \t\r") and not line.startswith("#")]
    sample = sample or [line for line in lines if line.strip(" \t\r")]
    layout = find_layout(sample)
    if layout.count > 4 and len(sample) == 1:
        return False  # A line of text, in which a word looks like a tag.
    return tag_share(sample, layout) >= _TAGGED


def _detect_folder(path: Path) -> str:
    if any(path.rglob("*.ann")):
        return "brat"
    names = sorted(each.name for each in path.iterdir())
    kind, advice = "a folder without .ann files", "Give one of its files, or a folder of brat."
    if {"config.cfg", "meta.json"} <= set(names):
        kind, advice = "a trained spaCy pipeline", "Give the corpus, not the model."
    elif "config.json" in names:
        kind, advice = "a folder with a model", "Give the corpus, not the model."
    elif not names:
        kind, advice = "an empty folder", "Give a file, or a folder of brat."
    _refuse(path, kind, _content(names), advice)


def _content(names: list[str]) -> str:
    """What a folder or an archive holds, in a sentence."""
    return f"It holds {', '.join(names[:5]) or 'nothing'}."


def _refuse_binary(path: Path, head: bytes) -> None:
    """Raise BertCrfError for a file that is no text."""
    kind, advice = "", "Export the annotation as text first, for example as JSONL."
    found = f"It begins with {head[:12]!r}."
    if head.startswith(b"PK\x03\x04"):
        kind, found, advice = _zip_kind(path)
    elif head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        kind, advice = "a model or another Python pickle", "Give the corpus, not the model."
    elif head[8:10] == b'{"' and head[4:8] == b"\0\0\0\0":
        kind, advice = "a model (safetensors)", "Give the corpus, not the model."
    else:
        kind = next((name for magic, name in _KINDS.items() if head.startswith(magic)), "")
        if kind.endswith("archive"):
            advice = "Unpack it first and give the file in it."
        elif kind.startswith("an old Excel"):
            advice = f"{_SAVE_SHEET} Of a document, export the annotation as JSONL."
        elif kind.startswith("a model"):
            advice = "Give the corpus, not the model."
    if kind:
        _refuse(path, kind, found, advice)


def _zip_kind(path: Path) -> tuple[str, str, str]:
    """What a zip archive is, what it holds, and what to do with it."""
    try:
        with zipfile.ZipFile(io.BytesIO(read_bytes(path))) as archive:
            names = archive.namelist()
    except Exception:  # What a damaged archive raises varies.
        advice = "Make it again, unpack it and give the file in it."
        return "a damaged zip archive", "Its list of files can't be read.", advice
    kind, advice = "a zip archive", "Unpack it first and give the file in it."
    if any(name.startswith("xl/") for name in names):
        kind, advice = "an Excel file", _SAVE_SHEET
    elif any(name.startswith("word/") for name in names):
        kind = "a Word document"
        advice = "Export the annotation from the annotation tool, as JSONL."
    elif any(name.endswith("data.pkl") for name in names):
        kind, advice = "a model (PyTorch)", "Give the corpus, not the model."
    return kind, _content(names), advice


def _detect_json(path: Path, text: str) -> str:
    records = read_records(path, text)
    values = [record.value for record in records if not record.wrong]
    names = [name for value in values[:_RECORDS] if (name := _format_of(value))]
    if names:  # A record without entities looks like doccano's whatever the tool.
        return next((name for name in names if name != "doccano"), "doccano")
    if not values:
        wrong = records[0].wrong if records else "it holds no record"
        _refuse(path, "no JSON, though it begins as one", f"{wrong}.", "Export the file again.")
    first = values[0]
    kind = "JSON of something else"
    found = f"The first record is {quote(str(first))}."
    if isinstance(first, dict):
        found = f"The keys of the first record are {quote(', '.join(map(str, first)))}."
        if _is_classified(first):
            kind = "texts with a class for each, without entities"
            advice = (
                "Export a project of sequence labelling. Its entities have start, end and label."
            )
            _refuse(path, kind, f"The first record is {quote(str(first))}.", advice)
    advice = "Give each record a text, and a list of entities with start, end and label."
    _refuse(path, kind, found, advice)


def _is_classified(record: dict[str, Any]) -> bool:
    """Whether a record is one of text classification: a text, and names of classes as `label`."""
    label = record.get("label")
    classes = isinstance(label, str) or (
        isinstance(label, list) and all(isinstance(each, str) for each in label)
    )
    return classes and any(isinstance(record.get(key), str) for key in TEXT_KEYS)


def _format_of(value: Any) -> str:
    """The format of a record of JSON; empty if unknown."""
    if isinstance(value, list):
        pair = len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict)
        return "spacy-json" if pair and "entities" in value[1] else ""
    if not isinstance(value, dict):
        return ""
    if isinstance(value.get("data"), dict):
        lists = [value.get(key) for key in ("annotations", "completions", "predictions")]
        return "label-studio" if any(isinstance(each, list) for each in lists) else ""
    if isinstance(value.get("paragraphs"), list):
        return "spacy-json"
    tags = any(isinstance(value.get(key), list) for key in TAG_KEYS)
    words = [value.get(key) for key in TOKEN_KEYS]
    if tags and any(isinstance(w, list) and all(isinstance(t, str) for t in w) for w in words):
        return "huggingface"
    if not any(isinstance(value.get(key), str) for key in TEXT_KEYS):
        return ""
    if isinstance(value.get("label"), dict):
        return "cluener"
    return _flat_format(value)


def _flat_format(value: dict[str, Any]) -> str:
    spans = find_list(as_object(value))
    if spans is None or (spans and not is_span(spans[0])):
        return ""
    if isinstance(value.get("ents"), list):
        return "spacy-json"
    if isinstance(value.get("spans"), list):
        return "prodigy"
    if spans and isinstance(spans[0], dict) and isinstance(spans[0].get("labels"), list):
        return "json-min"
    return "doccano"


def _refuse_text(path: Path, text: str, header: list[str]) -> NoReturn:
    first = next((line for line in text.split("\n") if line.strip()), text)
    found = f"Its first line is {quote(first)}."
    if len(header) > 1 and any(find_csv_columns(header)):
        missing = "spans" if find_csv_columns(header)[0] else "texts"
        advice = f"Add a column of {missing}, or name both columns: --columns text,spans. "
        advice += f"The spans of a text are a list: {_SPANS}"
        _refuse(path, f"CSV without a column of {missing}", found, advice)
    if len(first.split()) <= 5:
        advice = "Give each token a tag as B-LOC, I-LOC or O, or name the columns: --columns 0,1."
        _refuse(path, "lines without tags", found, advice)
    _refuse(path, "text without annotation", found, "Annotate it first, for example in doccano.")


def _refuse(path: Path, kind: str, found: str, advice: str) -> NoReturn:
    raise BertCrfError(
        f"{path} looks like {kind}, which is no known format of a corpus.\n"
        f"{found}\nExpected is one of: {_EXPECTED}.\nA line of such a file: {_SAMPLE}\n{advice}"
    )
