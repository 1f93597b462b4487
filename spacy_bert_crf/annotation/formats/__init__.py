"""The formats of annotated corpora, found by their content; in and out.

`read_corpus` reads a file of any of FORMATS, `write_corpus` writes one, and `to_docs` makes spaCy's
docs. Offsets are code points with the end exclusive, whatever the file counts.

To add a format, write a reader that returns raw texts (see text.RawText), add it to FORMATS and
teach detect.py to know it. A module here may import `annotation.schemes` and `annotation.docbin`.
Of this package it may import only `errors` and `_files` beside them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ...errors import BertCrfError, first_of
from ..tags import IOB1, SCHEME_NAMES
from . import columns as column_files
from . import docs, records, standoff, tables, tools
from .columns import check_columns
from .detect import detect_format
from .docs import make_doc, text_of, to_docs
from .spans import CODE_POINTS, OVERLAP, check_texts
from .standoff import check_brat
from .text import MENDED, AnnotatedText, Corpus, Entity, Options, Problem, RawText

__all__ = [
    "FORMATS",
    "AnnotatedText",
    "Corpus",
    "Entity",
    "Problem",
    "detect_format",
    "make_doc",
    "read_corpus",
    "read_texts",
    "text_of",
    "to_docs",
    "write_corpus",
]

ON_ERROR = ("fail", "skip-sentence", "repair")


@dataclass(frozen=True)
class Format:
    """One format of corpora.

    title: its name in messages and tables.
    read: makes raw texts and details of a file.
    write: writes texts to a path; None if this format is only read.
    check: raises BertCrfError if the format can't hold a text.
    """

    title: str
    read: Callable[[Path, Options], tuple[list[RawText], dict[str, str]]]
    write: Optional[Callable[[Path, Sequence[AnnotatedText], Options], None]] = None
    check: Callable[[AnnotatedText, Options], None] = lambda item, options: None


#: The formats by name.
FORMATS: dict[str, Format] = {
    "columns": Format("column file", column_files.read, column_files.write, check=check_columns),
    "doccano": Format("doccano JSONL", records.read_flat, records.write_doccano),
    "label-studio": Format("Label Studio JSON", tools.read_label_studio, tools.write_label_studio),
    "json-min": Format("Label Studio JSON-MIN", records.read_flat, tools.write_json_min),
    "prodigy": Format("Prodigy JSONL", records.read_flat, records.write_prodigy),
    "cluener": Format("CLUENER JSONL", tools.read_cluener, tools.write_cluener),
    "spacy-json": Format("spaCy JSON", tools.read_spacy_json, records.write_spacy_json),
    "huggingface": Format("Hugging Face JSONL", tables.read_huggingface, tables.write_huggingface),
    "parquet": Format("Parquet", tables.read_parquet),
    "csv": Format("CSV", tables.read_csv, tables.write_csv),
    "brat": Format("brat folder", standoff.read_brat, standoff.write_brat, check=check_brat),
    "webanno": Format("WebAnno TSV", standoff.read_webanno),
    "spacy": Format("DocBin", docs.read),
}


def read_corpus(
    path: Path,
    *,
    format: str = "auto",
    columns: str = "",
    scheme: str = "auto",
    join: Optional[str] = None,
    overlap: str = "longest",
    partial: bool = False,
    on_error: str = "fail",
    names: Sequence[str] = (),
) -> Corpus:
    """Read an annotated corpus.

    path: a file, or a folder of brat.
    format: a name of FORMATS; `auto` finds it by the content.
    columns: the columns of token and tag of a column file as "0,3", or the names of the columns of
        text and entities of a CSV file as "text,spans". "" finds them.
    scheme: the tag scheme of columns: a key of SCHEME_NAMES, `iob1`, or `auto`.
    join: the text between two tokens of columns: "" (one character a line), " " (one word a line),
        or None to find it.
    overlap: which of two overlapping entities stays: `longest`, `first` in the file, or `fail`.
    partial: whether all texts are annotated in part. Else each text may say so itself.
    on_error: what happens to texts with errors. `fail` raises an error that lists them.
        `skip-sentence` leaves the texts out. `repair` mends what it can. It leaves out
        entities that can't be mended, and texts that can't be read.
    names: the tags of numbers in `ner_tags`, in their order.
    RETURNS: the texts, what was wrong and what was found out.
    Raises BertCrfError for errors (see on_error), and if no text is left. Also for a file that
    can't be read or is of no known format, and for an unknown setting.
    """
    check_choice("on-error", on_error, ON_ERROR)
    examined = examine(
        path,
        format=format,
        columns=columns,
        scheme=scheme,
        join=join,
        overlap=overlap,
        partial=partial,
        names=names,
    )
    corpus = Corpus(examined.format, details=examined.details, problems=examined.notes)
    for item, problems in examined.items:
        corpus.problems.extend(problems)
        if item is not None and (on_error == "repair" or all(p.noted for p in problems)):
            corpus.texts.append(item)
    check_problems(path, corpus.problems, on_error, bool(corpus.texts))
    return corpus


@dataclass
class Examined:
    """A corpus with the problems of each of its texts.

    format: a name of FORMATS.
    items: each text, None if it can't be used, and its problems.
    notes: problems of the whole file, which are only listed.
    details: see Corpus.
    """

    format: str
    items: list[tuple[Optional[AnnotatedText], list[Problem]]]
    notes: list[Problem]
    details: dict[str, str]


def examine(
    path: Path,
    *,
    format: str = "auto",
    columns: str = "",
    scheme: str = "auto",
    join: Optional[str] = None,
    overlap: str = "longest",
    partial: bool = False,
    names: Sequence[str] = (),
) -> Examined:
    """Read a corpus and keep the problems with their texts; see `read_corpus`.

    Raises BertCrfError as `read_corpus` does, but for errors in single texts.
    """
    path = Path(path)
    check_choice("format", format, ("auto", *FORMATS))
    check_choice("scheme", scheme, ("auto", *SCHEME_NAMES, IOB1))
    check_choice("overlap", overlap, OVERLAP)
    if join is not None:
        check_choice("join", join, ("", " "))
    name = detect_format(path) if format == "auto" else format
    raws, details = FORMATS[name].read(path, Options(columns, scheme, join, tuple(names)))
    if partial:
        for raw in raws:
            raw.partial = True
    checked = check_texts(raws, overlap)
    notes = []
    if any(raw.spans and not raw.exact for raw in raws):
        details["offsets"] = checked.unit
        if checked.unit != CODE_POINTS:
            message = f"the offsets count {checked.unit}; they were converted"
            notes.append(Problem(0, message, MENDED, str(path), noted=True))
    items = list(zip(checked.texts, checked.problems, strict=True))
    if overlap == "fail" and checked.overlaps:
        raise BertCrfError(problem_list(checked.overlaps, "choose --overlap longest or first"))
    return Examined(name, items, notes, details)


def read_texts(path: Path) -> list[str]:
    """The texts of a corpus or of a file of tasks, whether they are annotated or not.

    Raises BertCrfError for a file that can't be read or is of no known format.
    """
    path = Path(path)
    raws, _ = FORMATS[detect_format(path)].read(path, Options())
    return [raw.text for raw in raws if raw.text]


def write_corpus(
    path: Path,
    texts: Iterable[AnnotatedText],
    format: str,
    *,
    scheme: str = "bio",
    join: Optional[str] = None,
) -> None:
    """Write texts in a format.

    path: the file to write, or the folder for brat.
    format: a name of FORMATS that can be written.
    scheme: the tag scheme of columns, a key of SCHEME_NAMES.
    join: how columns are written: "" a character a line, " " a word a line, None by the script.
    Raises BertCrfError if the format can't hold a text, or if the file can't be written.
    """
    writers = {name: each.write for name, each in FORMATS.items() if each.write}
    check_choice("to", format, tuple(writers))
    check_choice("scheme", scheme, tuple(SCHEME_NAMES))
    writers[format](Path(path), list(texts), Options(scheme=scheme, join=join))


def check_problems(path: Path, problems: Sequence[Problem], on_error: str, is_left: bool) -> None:
    """Raise BertCrfError that lists the problems, if nothing can be used because of them.

    is_left: whether a text is left.
    """
    errors = [problem for problem in problems if not problem.noted]
    if is_left and not (errors and on_error == "fail"):
        return
    if not problems:
        raise BertCrfError(f"{path}: file has no sentences.")
    hint = "no sentence is left"
    if on_error == "fail" and errors:
        hint = "correct the file, or use --on-error skip-sentence or --on-error repair"
    raise BertCrfError(problem_list(errors or problems, hint))


def problem_list(problems: Sequence[Problem], hint: str) -> str:
    """A message that lists the problems and says what to do."""
    lines = first_of([str(problem) for problem in problems])
    return "\n".join([*lines, f"{len(problems):,} problem(s), nothing was written: {hint}."])


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise BertCrfError if a setting has a value that is not among its choices."""
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise BertCrfError(f"--{name} can't be {value!r}: use one of {known}.")
