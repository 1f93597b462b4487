"""What every reader returns: texts with entities, and the problems of the file."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Optional

from ...errors import BertCrfError, quote
from ..schemes import EntitySpan, has_space

#: Scripts that have no spaces between words: kana, Chinese characters, Thai, Lao, Khmer, Burmese.
_GBK_PAIR = re.compile(rb"[\xa1-\xf7][\xa1-\xfe]")
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\U00020000-\U0003ffff]"
)
#: The byte order mark.
BOM = "\ufeff"
#: Outcomes of a problem: the entity was corrected, the entity was lost, the text was left out.
MENDED, LOST, SKIPPED = "mended", "lost", "skipped"


class Entity(NamedTuple):
    """An entity of a text.

    start: offset of its first character, in code points.
    end: offset after its last character.
    label: its entity type.
    """

    start: int
    end: int
    label: str


class Problem(NamedTuple):
    """Something wrong in a corpus.

    number: line number, or the number of the record. From 1; from 0 for the docs of a DocBin.
    message: what is wrong.
    outcome: MENDED, LOST or SKIPPED.
    place: the file and the line or record, as messages name it.
    noted: whether it is only listed. `on_error="fail"` raises for other problems.
    """

    number: int
    message: str
    outcome: str
    place: str = ""
    noted: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass
class AnnotatedText:
    """A text and its entities.

    text: the text.
    entities: its entities in the order of the text, without overlaps.
    document: name of the document that the text is a part of; "" for a document of its own.
    partial: whether the annotation is incomplete: what is in no entity is unknown.
    place: the file and the line or record.
    words: (start, end) of each token, if the format has tokens.
    number: line number or number of the record.
    lines: the line of each token in a file with one token a line.
    covers: the labels that the annotation covers; None for all. See coverage/covers.py.
    unknown: (start, end) of parts without annotation, where the rest is annotated.
    """

    text: str
    entities: list[Entity]
    document: str = ""
    partial: bool = False
    place: str = ""
    words: Optional[list[tuple[int, int]]] = None
    number: int = 0
    lines: Optional[list[int]] = None
    covers: Optional[frozenset[str]] = None
    unknown: list[tuple[int, int]] = field(default_factory=list)

    @property
    def limits(self) -> str:
        """What the annotation lacks, "" if nothing, for the message of a format without a mark."""
        if self.partial or self.unknown:
            return "no entity annotation for some tokens"
        return "" if self.covers is None else f"the annotation covers {_listed(self.covers)} only"


@dataclass
class Corpus:
    """A corpus as read from a file or a folder.

    format: a name of FORMATS.
    texts: the texts that can be used.
    problems: what was wrong. Lost entities and texts that were left out are among them.
    details: what the reader found out, for example the tag scheme, as a table shows it.
    """

    format: str
    texts: list[AnnotatedText] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)


class RawSpan(NamedTuple):
    """An entity as a file records it.

    start: its start, in the file's unit.
    end: the end after it, in the file's unit.
    label: its entity type.
    surface: the text of the entity as the file records it, if it does.
    """

    start: int
    end: int
    label: str
    surface: Optional[str] = None


@dataclass
class RawText:
    """A text as a file records it, before its offsets are checked.

    problems: those that the reader found in this text.
    lines: the line of each token in a file with one token a line.
    exact: whether the entities are those of tokens, so that their offsets are right.
    The others are those of AnnotatedText.
    """

    text: str
    spans: list[RawSpan]
    place: str
    number: int
    document: str = ""
    partial: bool = False
    words: Optional[list[tuple[int, int]]] = None
    lines: Optional[list[int]] = None
    exact: bool = False
    problems: list[Problem] = field(default_factory=list)
    covers: Optional[frozenset[str]] = None
    unknown: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """How to read a file; see `read_corpus` for the meaning of each field."""

    columns: str = ""
    scheme: str = "auto"
    join: Optional[str] = None
    names: tuple[str, ...] = ()


def read_bytes(path: Path, size: int = -1) -> bytes:
    """The first `size` bytes of a file, all for -1. Raises BertCrfError if it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as err:
        raise BertCrfError(
            f"can't read {path}: {err.strerror or err}. Name a file that can be read."
        ) from err


def read_text(path: Path) -> str:
    """The text of a UTF-8 file without a byte order mark. Raises BertCrfError for other files."""
    data = read_bytes(path)
    try:
        return data.decode("utf8").removeprefix(BOM)
    except UnicodeDecodeError as err:
        lines = data.count(b"\n", 0, err.start)
        raise BertCrfError(
            f"{path}:{lines + 1}: invalid UTF-8 at byte {err.start} (0x{data[err.start]:02x}). "
            f"The file looks like {_encoding_and_advice(path, data)}"
        ) from None


def _encoding_and_advice(path: Path, data: bytes) -> str:
    """The likely encoding of a file that is not UTF-8, and what to do."""
    name, encoding = _find_encoding(data)
    if not encoding:
        return f"{name}. Export the annotation as text first, for example as JSONL."
    command = f"iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"
    return f"{name}. Save it as UTF-8 in an editor, or by `{command}`."


def _find_encoding(data: bytes) -> tuple[str, str]:
    """The likely encoding of a file that is not UTF-8: for a reader, and as iconv names it."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16", "UTF-16"
    if b"\0" in data:
        return "a binary file", ""
    # In GBK a common Chinese character is two bytes from 0xa1 on. In Latin-1 few such are in a row.
    high = sum(byte >= 0x80 for byte in data)
    if 2 * len(_GBK_PAIR.findall(data)) >= 0.8 * high:
        return "GBK", "GB18030"
    return "text in an older encoding of one language, such as Windows-1252", "CP1252"


def _listed(labels: frozenset[str]) -> str:
    return ", ".join(sorted(labels)) or "no label"


def is_unspaced(text: str) -> bool:
    """Whether a text is mainly in scripts that have no spaces between words."""
    letters = sum(char.isalpha() for char in text)
    return letters > 0 and len(_UNSPACED.findall(text)) >= 0.3 * letters


def choose_join(texts: Iterable[AnnotatedText]) -> str:
    """The text between two tokens: "" for scripts without spaces between words, else " "."""
    return "" if is_unspaced("".join(item.text for item in texts)) else " "


def text_rows(item: AnnotatedText, join: str) -> tuple[list[str], list[EntitySpan]]:
    """The first column of a text's lines, and the text's entities over these lines.

    join: with "" a line is a character, with " " a word. Words leave out tokens of whitespace.
    Raises BertCrfError if a column file can't represent the text.
    """
    if item.limits:
        raise BertCrfError(f"{item.limits}, and columns have no tag for it")
    if "\n" in item.text or "\r" in item.text:
        raise BertCrfError(f"a line break in the text would end the line: {quote(item.text)}")
    for entity in item.entities:
        if has_space(entity.label):
            raise BertCrfError(f"the label {entity.label!r} holds whitespace")
    if not join:
        if not item.text:
            raise BertCrfError("the doc is empty")
        return list(item.text), [EntitySpan(*entity) for entity in item.entities]
    words = [(s, e) for s, e in _words(item) if not item.text[s:e].isspace()]
    for start, end in words:
        if has_space(item.text[start:end]):
            raise BertCrfError(f"the token {quote(item.text[start:end])} holds whitespace")
    if not words:
        raise BertCrfError("the doc is empty")
    starts, ends = [start for start, _ in words], [end for _, end in words]
    spans = []
    for start, end, label in item.entities:
        first, last = bisect_right(ends, start), bisect_left(starts, end)
        if first == last:
            raise BertCrfError(f"the entity {quote(item.text[start:end])} ({label}) is whitespace")
        spans.append(EntitySpan(first, last, label))
    return [item.text[start:end] for start, end in words], spans


def _words(item: AnnotatedText) -> list[tuple[int, int]]:
    """The tokens of a text. Without any these are its words, which end at entity borders too."""
    if item.words is not None:
        return item.words
    borders = {border for start, end, _ in item.entities for border in (start, end)}
    words: list[tuple[int, int]] = []
    for match in re.finditer(r"\S+", item.text):
        cuts = sorted({match.start(), match.end(), *borders & set(range(*match.span()))})
        words.extend(pairwise(cuts))
    return words
