"""Column files (see columns.py) to DocBin and back."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .._files import atomic_file, write_text
from ..errors import BertCrfError, first_of
from .columns import (
    BOM,
    SCHEME_NAMES,
    Problem,
    Row,
    detect_scheme,
    has_space,
    make_tag_set,
    quote,
    read_bytes,
    read_columns,
    read_spans,
)
from .docbin import read_docbin
from .schemes import EntitySpan

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span

T = TypeVar("T")

ON_ERROR = ("fail", "skip-sentence", "repair")


@dataclass
class CorpusReport:
    """What a conversion wrote, and the problems that it found.

    scheme: a key of SCHEME_NAMES.
    sentences: number of sentences written.
    characters: number of characters written.
    entities: number of entities by label.
    without_entity: number of sentences without an entity.
    problems: (line number, message), those of skipped and repaired sentences included. For a DocBin
        the number is the index of the doc.
    skipped: number of sentences left out.
    repaired: number of tags and entities that were corrected.
    dropped: number of entities left out.
    """

    scheme: str
    sentences: int = 0
    characters: int = 0
    entities: dict[str, int] = field(default_factory=dict)
    without_entity: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    skipped: int = 0
    repaired: int = 0
    dropped: int = 0

    def add(self, doc: "Doc") -> None:
        """Count a doc that will be written."""
        self.sentences += 1
        self.characters += sum(map(len, doc)) if doc.has_unknown_spaces else len(doc.text)
        self.without_entity += not doc.ents
        for ent in doc.ents:
            self.entities[ent.label_] = self.entities.get(ent.label_, 0) + 1

    def table(self) -> str:
        """The counts as a plain table."""
        from wasabi.tables import table

        rows: list[tuple[str, str]] = [
            ("tag scheme", self.scheme),
            ("sentences", f"{self.sentences:,}"),
            ("  without entity", f"{self.without_entity:,}"),
            ("characters", f"{self.characters:,}"),
            ("entities", f"{sum(self.entities.values()):,}"),
            *((f"  {label}", f"{self.entities[label]:,}") for label in sorted(self.entities)),
        ]
        for name in ("skipped", "repaired", "dropped"):
            if getattr(self, name):
                rows.append((name, f"{getattr(self, name):,}"))
        return table(rows, aligns=("l", "r")).strip("\n")


def convert_corpus(
    src: Path,
    dst: Path,
    *,
    scheme: str = "auto",
    lang: str = "zh",
    join: str = "",
    on_error: str = "fail",
) -> CorpusReport:
    """Convert a column file to a DocBin (`.spacy`), or a DocBin to a column file.

    src: the file to read.
    dst: the file to write; a DocBin ends in `.spacy`.
    scheme: `auto` or a key of SCHEME_NAMES. `auto` is the smallest scheme that fits the column
        file, and `bio` when columns are written.
    lang: the language whose blank tokenizer makes the docs.
    join: the text between two tokens of a column file: "" (one character a line) or " " (one word
        a line).
    on_error: what happens to sentences with bad lines. `fail` lists all bad lines and writes no
        file. `skip-sentence` leaves those sentences out. `repair` corrects a sentence where it can.
        An orphan continuation begins an entity, and an unfinished entity ends at its last token. An
        entity with a border inside a token is widened to the token, or dropped if it then overlaps
        another one. Sentences with other problems are left out: no tag, a third column, an unknown
        prefix, two characters.
    RETURNS: the counts of the conversion and the problems that it found.
    Raises BertCrfError for bad lines (see on_error), and if no sentence is left. Also for a file
    that can't be read or written, is not UTF-8, has no sentences or mixes schemes. Also for an
    unknown setting or language.
    """
    src, dst = Path(src), Path(dst)
    _check_choice("scheme", scheme, ("auto", *SCHEME_NAMES))
    _check_choice("join", join, ("", " "))
    _check_choice("on-error", on_error, ON_ERROR)
    # These two bytes begin a zlib stream, as a DocBin is. No UTF-8 text begins with them.
    back = src.suffix == ".spacy" or read_bytes(src, 2) == b"x\x9c"
    if back is (dst.suffix == ".spacy"):
        raise BertCrfError(
            f"{src} is a {'DocBin' if back else 'column file'}, so the file to write must "
            f"{'not end' if back else 'end'} in .spacy: {dst}."
        )
    if back:
        return _docbin_to_columns(src, dst, "bio" if scheme == "auto" else scheme, join, on_error)
    return _columns_to_docbin(src, dst, scheme, lang, join, on_error)


def make_doc(
    nlp: "Language", rows: Sequence[Row], spans: Iterable[EntitySpan], join: str
) -> tuple["Doc", list[Problem], int]:
    """Make the doc of a sentence.

    Entities with a border inside a token are widened to the borders of the tokens. They are dropped
    if they would then overlap another one, or consist of spaces only.

    nlp: its tokenizer makes the doc.
    rows: the sentence.
    spans: entities over `rows`.
    join: see `convert_corpus`.
    RETURNS: the doc, a problem for each entity with a border inside a token, and the number of
        entities that were dropped.
    """
    doc = nlp.make_doc(join.join(row.token for row in rows))
    starts = [0, *accumulate(len(row.token) + len(join) for row in rows)]
    ents: list[Span] = []
    loose: list[tuple[int, int, str]] = []
    problems: list[Problem] = []
    for span in spans:
        start, end = starts[span.start], starts[span.end] - len(join)
        ent = doc.char_span(start, end, label=span.label)
        if ent is None:
            loose.append((start, end, span.label))
            message = _border_message(doc, start, end, span.label)
            problems.append(Problem(rows[span.start].line, message, repairable=True))
        else:
            ents.append(ent)
    dropped = 0
    for start, end, label in loose:
        ent = _widen(doc, start, end, label)
        if ent is None or any(ent.start < e.end and e.start < ent.end for e in ents):
            dropped += 1
        else:
            ents.append(ent)
    doc.ents = ents  # Without any, the doc must still count as annotated.
    return doc, problems, dropped


def doc_units(doc: "Doc", join: str) -> tuple[list[str], list[EntitySpan]]:
    """The first column of a doc's lines, and the doc's entities over these lines.

    join: with "" a line is a character, with " " a word. Words leave out tokens of whitespace. Docs
        with unknown spaces leave out all spaces.
    Raises BertCrfError if a column file can't represent the doc.
    """
    iobs = doc.to_array(["ENT_IOB", "ENT_TYPE"]).tolist()
    if any(iob == 0 or (iob == 3 and not label) for iob, label in iobs):
        extent = "for some tokens" if doc.has_annotation("ENT_IOB") else "at all"
        raise BertCrfError(f"no entity annotation {extent}, and columns have no tag for unknown")
    if "\n" in doc.text or "\r" in doc.text:
        raise BertCrfError(f"a line break in the text would end the line: {quote(doc.text)}")
    units: list[str] = []
    starts, ends = [], []
    for token in doc:
        starts.append(len(units))
        if not join:
            units.extend(token.text)
        elif not token.text.isspace():  # is_space would need a language's vocab.
            if has_space(token.text):
                raise BertCrfError(f"the token {quote(token.text)} holds whitespace")
            units.append(token.text)
        ends.append(len(units))
        if not join and token.whitespace_ and not doc.has_unknown_spaces:
            units.append(token.whitespace_)
    spans = [EntitySpan(starts[e.start], ends[e.end - 1], e.label_) for e in doc.ents]
    for ent, span in zip(doc.ents, spans, strict=True):
        if has_space(span.label):
            raise BertCrfError(f"the label {span.label!r} holds whitespace")
        if span.start == span.end:
            raise BertCrfError(f"the entity {quote(ent.text)} ({span.label}) is whitespace")
    if not units:
        raise BertCrfError("the doc is empty")
    return units, spans


def _columns_to_docbin(
    src: Path, dst: Path, scheme: str, lang: str, join: str, on_error: str
) -> CorpusReport:
    from spacy.tokens import DocBin

    sentences = read_columns(src, join)
    if scheme == "auto":
        try:
            scheme = detect_scheme(sentences)
        except BertCrfError as err:
            raise BertCrfError(f"{src}: {err}") from None
    nlp = _blank(lang)
    report = CorpusReport(scheme)
    docs = DocBin(store_user_data=False)
    for rows in _progress(sentences, len(sentences)):
        spans, problems = read_spans(rows, scheme)
        doc, dropped = None, 0
        if all(problem.repairable for problem in problems):
            doc, cut, dropped = make_doc(nlp, rows, spans, join)
            problems.extend(cut)
        report.problems.extend((p.line, p.message) for p in sorted(problems))
        if doc is None or (problems and on_error != "repair"):
            report.skipped += 1
            continue
        report.repaired += len(problems) - dropped
        report.dropped += dropped
        report.add(doc)
        docs.add(doc)
    _check_report(report, f"{src}:", on_error)
    data = docs.to_bytes()
    with atomic_file(dst) as tmp:
        tmp.write_bytes(data)
    return report


def _docbin_to_columns(src: Path, dst: Path, scheme: str, join: str, on_error: str) -> CorpusReport:
    report = CorpusReport(scheme)
    lines: list[str] = []
    for index, doc in enumerate(_progress(_read_docs(src), None)):
        try:
            units, spans = doc_units(doc, join)
        except BertCrfError as err:
            report.problems.append((index, str(err)))
            report.skipped += 1
            continue
        tag_set = make_tag_set((span.label for span in spans), scheme)
        tags = (tag_set.tags[i] for i in tag_set.encode(spans, len(units)))
        lines.extend(f"{unit} {tag}" for unit, tag in zip(units, tags, strict=True))
        lines.append("")
        report.add(doc)
    if not lines and not report.problems:
        raise BertCrfError(f"{src}: file has no sentences.")
    _check_report(report, f"{src}: doc index ", on_error)
    text = "\n".join([*lines, ""])
    # If the corpus begins with U+FEFF, a reader would take it for the byte order mark.
    write_text(dst, BOM + text if text.startswith(BOM) else text)
    return report


def _check_report(report: CorpusReport, where: str, on_error: str) -> None:
    """Raise BertCrfError that lists the problems, if nothing may be written because of them."""
    if not report.problems or (on_error != "fail" and report.sentences):
        return
    count = len(report.problems)
    lines = first_of([f"{where}{line}: {message}" for line, message in report.problems])
    hint = "correct the file, or use --on-error skip-sentence or --on-error repair"
    if on_error != "fail":
        hint = "no sentence is left"
    lines.append(f"{count:,} problem(s), nothing was written: {hint}.")
    raise BertCrfError("\n".join(lines))


def _widen(doc: "Doc", start: int, end: int, label: str) -> "Span | None":
    # A space belongs to the token before it, so widening over a space would include that token.
    words = doc.text[start:end].strip(" ")
    if not words:
        return None
    start = doc.text.find(words, start)
    return doc.char_span(start, start + len(words), label=label, alignment_mode="expand")


def _border_message(doc: "Doc", start: int, end: int, label: str) -> str:
    border = end - 1 if any(token.idx == start for token in doc) else start
    token = [token.text_with_ws for token in doc if token.idx <= border][-1]
    entity = f"entity {quote(doc.text[start:end])} ({label})"
    return f"{entity} has a border inside the tokenizer's token {quote(token)}"


def _blank(lang: str) -> "Language":
    import spacy

    try:
        nlp = spacy.blank(lang)
    except (ImportError, OSError, ValueError) as err:
        raise BertCrfError(f"can't make a tokenizer for language {lang!r}: {err}") from err
    nlp.max_length = sys.maxsize  # The limit is for parsers.
    return nlp


def _read_docs(path: Path) -> "Iterator[Doc]":
    from spacy.vocab import Vocab

    return read_docbin(path, Vocab())


def _progress(items: Iterable[T], total: int | None) -> Iterable[T]:
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    progress: Iterable[T] = tqdm(items, total=total, unit=" sentences", leave=False, disable=None)
    return progress


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise BertCrfError(f"--{name} can't be {value!r}: use one of {known}.")
