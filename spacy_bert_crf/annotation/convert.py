"""Corpora of any known format to DocBin, and any of them to a format that can be written."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional, TypeVar

from .._files import atomic_file
from ..errors import BertCrfError
from .coverage.label_map import LabelMap
from .docbin import DocBinWriter
from .formats import (
    FORMATS,
    ON_ERROR,
    AnnotatedText,
    Problem,
    check_choice,
    check_problems,
    examine,
    make_doc,
    write_corpus,
)
from .formats.text import LOST, MENDED, SKIPPED, Options, choose_join, is_unspaced

if TYPE_CHECKING:
    from spacy.language import Language

T = TypeVar("T")


@dataclass
class CorpusReport:
    """What a conversion wrote, and the problems that it found.

    scheme: a tag scheme, as in `convert_corpus`; "" for a format without tags.
    sentences: number of sentences (texts) written.
    characters: number of characters written.
    entities: number of entities by label.
    without_entity: number of sentences without an entity.
    problems: (line number, message), those of skipped and repaired sentences included. For a DocBin
        the number is the index of the doc, for JSON the number of the record.
    skipped: number of sentences left out.
    repaired: number of tags and entities that were corrected.
    dropped: number of entities left out.
    format: the format that was read, a name of FORMATS.
    details: what the reader found out, for example the unit of the offsets.
    messages: each problem with its file and line or record, and doubts about the settings.
    """

    scheme: str = ""
    sentences: int = 0
    characters: int = 0
    entities: dict[str, int] = field(default_factory=dict)
    without_entity: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    skipped: int = 0
    repaired: int = 0
    dropped: int = 0
    format: str = field(default="", compare=False)
    details: dict[str, str] = field(default_factory=dict, compare=False)
    messages: list[str] = field(default_factory=list, compare=False)

    def add(self, length: int, labels: Sequence[str]) -> None:
        """Count a text that will be written.

        length: its number of characters.
        labels: the label of each of its entities.
        """
        self.sentences += 1
        self.characters += length
        self.without_entity += not labels
        for label in labels:
            self.entities[label] = self.entities.get(label, 0) + 1

    def table(self) -> str:
        """The counts as a plain table."""
        from wasabi.tables import table

        rows: list[tuple[str, str]] = [
            *([("format", self.format)] if self.format else []),
            *([("tag scheme", self.scheme)] if self.scheme else []),
            *((name, text) for name, text in self.details.items() if name != "tag scheme"),
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
    join: Optional[str] = None,
    on_error: str = "fail",
    format: str = "auto",
    columns: str = "",
    overlap: str = "longest",
    partial: bool = False,
    names: Sequence[str] = (),
    to: str = "",
    covers: Optional[Sequence[str]] = None,
    label_map: Optional[LabelMap] = None,
) -> CorpusReport:
    """Convert a corpus of any known format to a DocBin (`.spacy`), or to another format.

    src: the file to read, or a folder of brat.
    dst: the file to write; a DocBin ends in `.spacy`.
    scheme: `auto`, a key of SCHEME_NAMES or `iob1`. `auto` is the smallest scheme that fits the
        columns that are read, and `bio` when columns are written.
    lang: the language whose blank tokenizer makes the docs.
    join: the text between two tokens of a column file: "" (one character a line) or " " (one word
        a line). None finds it.
    on_error: what happens to sentences with errors. `fail` lists all errors and writes no file.
        `skip-sentence` leaves those sentences out. `repair` corrects a sentence where it can.
        An orphan continuation begins an entity, and an unfinished entity ends at its last token. An
        entity with a border inside a token is widened to the token, or dropped if it then overlaps
        another one. An entity outside of its text is dropped. Sentences with other problems are
        left out: no tag, a third column, an unknown prefix, two characters.
    format: the format of `src`; see `formats.read_corpus`, also for the next four.
    columns: the columns of token and tag, or of text and entities.
    overlap: which of two overlapping entities stays.
    partial: whether all texts are annotated in part.
    names: the tags of numbers in `ner_tags`.
    to: the format of a file that does not end in `.spacy`. "" writes columns of a DocBin.
    covers: labels that the annotation covers, by their new names, in texts that do not say so
        themselves; None for all.
    label_map: other names for the labels, and labels that are dropped; None for none.
    RETURNS: the counts of the conversion and the problems that it found.
    Raises BertCrfError for errors (see on_error), and if no sentence is left. Also for a file that
    can't be read or written, is not UTF-8, has no sentences or mixes schemes. Also for an unknown
    setting or language.
    """
    src, dst = Path(src), Path(dst)
    check_choice("on-error", on_error, ON_ERROR)
    writable = tuple(name for name, each in FORMATS.items() if each.write)
    check_choice("to", to, ("", *writable))
    examined = examine(
        src,
        format=format,
        columns=columns,
        scheme=scheme,
        join=join,
        overlap=overlap,
        partial=partial,
        names=names,
    )
    is_docbin, was_docbin = dst.suffix == ".spacy", examined.format == "spacy"
    if is_docbin and (was_docbin or to):
        kind = "a DocBin" if was_docbin else f"to become {to}"
        raise BertCrfError(f"{src} is {kind}, so the file to write must not end in .spacy: {dst}.")
    if not (is_docbin or was_docbin or to):
        title = FORMATS[examined.format].title
        raise BertCrfError(
            f"{src} is a {title}, so the file to write must end in .spacy: {dst}. Or give its "
            f"format: --to {', '.join(writable)}."
        )
    report = CorpusReport(
        examined.details.get("tag scheme", ""), format=examined.format, details=examined.details
    )
    target = to or "columns"
    if not is_docbin and target == "columns":
        report.scheme = "bio" if scheme in ("auto", "iob1") else scheme
    writer = _DocBinWriter(lang) if is_docbin else _TextWriter(target, report.scheme, join)
    if isinstance(writer, _TextWriter) and writer.join is None:
        writer.join = choose_join(item for item, _ in examined.items if item)
    problems = list(examined.notes)
    for item, found in _progress(examined.items, len(examined.items)):
        if item is not None:
            item = _covering(item if label_map is None else label_map.apply(item), covers)
            found = sorted([*found, *writer.prepare(item)])
        problems.extend(found)
        outcomes = [problem.outcome for problem in found]
        is_bad = any(not problem.noted for problem in found)
        if item is None or SKIPPED in outcomes or (is_bad and on_error != "repair"):
            report.skipped += 1
            continue
        report.repaired += outcomes.count(MENDED)
        report.dropped += outcomes.count(LOST)
        report.add(*writer.add())
    report.problems = [(problem.number, problem.message) for problem in problems]
    report.messages = [f"{problem} [{problem.outcome}]" for problem in problems]
    texts = (item.text for item, _ in examined.items if item)
    if is_docbin and lang == "zh" and not is_unspaced("".join(texts)):
        message = "few characters are Chinese, but tokens of the language zh are characters"
        report.messages.insert(0, f"{src}: {message}: is --lang right? [note]")
    check_problems(src, problems, on_error, report.sentences > 0)
    writer.write(dst)
    return report


def _covering(item: AnnotatedText, covers: Optional[Sequence[str]]) -> AnnotatedText:
    """The text, with the labels that the corpus covers if it does not say so itself."""
    if covers is None or item.covers is not None:
        return item
    return replace(item, covers=frozenset(covers))


class _DocBinWriter:
    """Makes docs of texts and writes them to a DocBin."""

    def __init__(self, lang: str) -> None:
        self.nlp = blank(lang)
        self.docs = DocBinWriter()

    def prepare(self, item: AnnotatedText) -> list[Problem]:
        """Make the doc of a text. RETURNS: the problems of its entities."""
        self.doc, problems = make_doc(self.nlp, item)
        return problems

    def add(self) -> tuple[int, list[str]]:
        """Keep the doc. RETURNS: its number of characters, and the labels of its entities."""
        self.docs.add(self.doc)
        return len(self.doc.text), [ent.label_ for ent in self.doc.ents]

    def write(self, path: Path) -> None:
        """Write the docs that were kept."""
        data = self.docs.to_bytes()
        with atomic_file(path) as tmp:
            tmp.write_bytes(data)


class _TextWriter:
    """Writes texts in a format."""

    def __init__(self, format: str, scheme: str, join: Optional[str]) -> None:
        self.format, self.scheme, self.join = format, scheme or "bio", join
        self.texts: list[AnnotatedText] = []

    def prepare(self, item: AnnotatedText) -> list[Problem]:
        """Take a text. RETURNS: why the format can't hold it, if so."""
        self.item = item
        try:
            FORMATS[self.format].check(item, Options(join=self.join))
        except BertCrfError as err:
            return [Problem(item.number, str(err), SKIPPED, item.place)]
        return []

    def add(self) -> tuple[int, list[str]]:
        """Keep the text. RETURNS: its number of characters, and the labels of its entities."""
        self.texts.append(self.item)
        return len(self.item.text), [entity.label for entity in self.item.entities]

    def write(self, path: Path) -> None:
        """Write the texts that were kept."""
        scheme = "bio" if self.scheme == "iob1" else self.scheme
        write_corpus(path, self.texts, self.format, scheme=scheme, join=self.join)


def blank(lang: str) -> "Language":
    """The blank pipeline of a language, for texts of any length.

    Raises BertCrfError for an unknown language, or one whose tokenizer lacks its library.
    """
    import spacy

    try:
        nlp = spacy.blank(lang)
    except (ImportError, OSError, ValueError) as err:
        raise BertCrfError(f"can't make a tokenizer for language {lang!r}: {err}") from err
    nlp.max_length = sys.maxsize  # The limit is for parsers.
    return nlp


def _progress(items: Iterable[T], total: int | None) -> Iterable[T]:
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    progress: Iterable[T] = tqdm(items, total=total, unit=" sentences", leave=False, disable=None)
    return progress
