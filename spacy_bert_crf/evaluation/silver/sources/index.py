"""Finds the annotation of a text in a file, by id or by the text itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Optional, Union

import xxhash

from ....annotation.formats import read_corpus
from ....annotation.formats.records import TEXT_KEYS, BadRecord, Unannotated
from ....annotation.formats.text import AnnotatedText
from ....errors import BertCrfError
from .records import Parsed, parse_record, resolve
from .source import Text
from .spec import SKIP, Spec

#: An annotation and how far its text begins before the text that was asked for, in characters.
Found = tuple[AnnotatedText, int]


class _At(NamedTuple):
    """Where a record is: its byte, its line, and its number among the records, from 0."""

    byte: int
    line: int
    number: int


class LineIndex:
    """The records of JSON lines. Only the place of each is kept in memory.

    All records are checked at once, as far as they have a text.

    spec: its file and settings.
    Raises BertCrfError that lists bad records, unless they are to be skipped.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec, self.path = spec, Path(spec.path)
        self.labels: set[str] = set()
        self.records = 0
        self._places: dict[int, _At] = {}
        self._contradicted: set[int] = set()
        problems: list[str] = []
        count = 0
        try:
            with self.path.open("rb") as file, self.path.open("rb") as again:
                for at, line in _lines(file):
                    at = at._replace(number=self.records)
                    self.records += 1
                    if message := self._add(at, line, again):
                        count += 1
                        problems = [*problems, message][:10]
        except OSError as err:
            raise spec.error(f"can't read {self.path}: {err.strerror or err}") from err
        if problems and spec.on_error != SKIP:
            more = [f"... and {count - len(problems):,} more"] if count > len(problems) else []
            advice = f"{count:,} bad record(s): correct them, or use --on-error {SKIP}."
            raise BertCrfError("\n".join([*problems, *more, advice]))
        self._used = bytearray(self.records)

    @property
    def unused(self) -> int:
        """How many records were not asked for."""
        return self._used.count(0)

    def find(self, texts: list[Text]) -> Iterator[Union[Found, str, None]]:
        """The annotation of each text, why it can't be used, or None if there is none."""
        with self.path.open("rb") as file:
            for text in texts:
                keys = ([_key("id", text.id)] if text.has_id else []) + [_text_key(text.doc.text)]
                key = next((key for key in keys if key in self._places), None)
                if key is None:
                    yield None
                    continue
                at = self._places[key]
                self._used[at.number] = 1
                try:
                    if key in self._contradicted:
                        raise BadRecord("the text is annotated twice, and not in the same way")
                    yield self._read(file, at, text.doc.text)
                except Unannotated as err:
                    yield f"{self.path}:{at.line}: {err}"
                except BadRecord as err:
                    if self.spec.on_error != SKIP:
                        raise BertCrfError(
                            f"{self.path}:{at.line}: {err}. Correct it, or use --on-error {SKIP}."
                        ) from None
                    yield f"{self.path}:{at.line}: {err}"

    def _add(self, at: _At, line: bytes, again: BinaryIO) -> str:
        """Keep the place of a record. RETURNS: what is wrong with it, or ""."""
        try:
            value = _loads(line)
            key = self._key_of(value)
            before = self._places.setdefault(key, at) if key is not None else at
            parsed = self._parse(value, at)
            self.labels |= parsed.labels
            if parsed.raw.text:
                item = resolve(parsed, parsed.raw.text, self.spec.repeats)
                if before is not at and key is not None:
                    first, _ = self._read(again, before, parsed.raw.text)
                    if _said(first) != _said(item):
                        self._contradicted.add(key)
                        raise BadRecord(f"it annotates the text of line {before.line} otherwise")
            elif before is not at:
                raise BadRecord(f"line {before.line} has the same id")
        except Unannotated:
            return ""
        except BadRecord as err:
            return f"{self.path}:{at.line}: {err}"
        return ""

    def _key_of(self, value: Any) -> Optional[int]:
        """The key of a record, None if it has neither id nor text."""
        if not isinstance(value, dict):
            return None
        own = value.get(self.spec.id_field) if self.spec.id_field else None
        if isinstance(own, (str, int)) and not isinstance(own, bool):
            return _key("id", str(own))
        text = next((value[k] for k in TEXT_KEYS if k in value), None)
        return _text_key(text) if isinstance(text, str) else None

    def _parse(self, value: Any, at: _At) -> Parsed:
        return parse_record(value, f"{self.path}:{at.line}", at.line, self.spec.id_field)

    def _read(self, file: BinaryIO, at: _At, text: str) -> Found:
        """The annotation of a text by a record. Raises BadRecord."""
        file.seek(at.byte)
        parsed = self._parse(_loads(file.readline()), at)
        own = parsed.raw.text or text
        if own.strip() != text.strip():
            raise BadRecord("the record has this id, but another text")
        return resolve(parsed, own, self.spec.repeats), _shift(own, text)


class CorpusIndex:
    """The texts of an annotated corpus of another format, all in memory.

    spec: its file and settings.
    Raises BertCrfError if the corpus can't be read.
    """

    def __init__(self, spec: Spec) -> None:
        on_error = "repair" if spec.on_error == SKIP else "fail"
        self._texts: dict[int, AnnotatedText] = {}
        self._contradicted: set[int] = set()
        corpus = read_corpus(Path(spec.path), on_error=on_error)
        for item in corpus.texts:
            key = _text_key(item.text)
            if _said(self._texts.setdefault(key, item)) != _said(item):
                self._contradicted.add(key)
        self.labels = {entity.label for item in corpus.texts for entity in item.entities}
        self.records = len(self._texts)
        self._used: set[int] = set()

    @property
    def unused(self) -> int:
        """How many texts were not asked for."""
        return self.records - len(self._used)

    def find(self, texts: list[Text]) -> Iterator[Union[Found, str, None]]:
        """The annotation of each text, why it can't be used, or None if there is none."""
        for text in texts:
            key = _text_key(text.doc.text)
            item = self._texts.get(key)
            if item is None:
                yield None
                continue
            self._used.add(key)
            if key in self._contradicted:
                yield f"{item.place}: the text is annotated twice, and not in the same way"
            else:
                yield item, _shift(item.text, text.doc.text)


def _said(item: AnnotatedText) -> tuple[Any, ...]:
    """What an annotation says, to compare it with another."""
    return item.entities, sorted(item.unknown), item.partial, item.covers


def _shift(own: str, text: str) -> int:
    return (len(text) - len(text.lstrip())) - (len(own) - len(own.lstrip()))


def _key(kind: str, value: str) -> int:
    return int(xxhash.xxh3_64_intdigest(f"{kind}\0{value}".encode("utf8", "surrogatepass")))


def _text_key(text: str) -> int:
    """The key of a text. White space at its ends does not count."""
    return _key("text", text.strip())


def _lines(file: BinaryIO) -> Iterator[tuple[_At, bytes]]:
    """The lines of a file that are not blank."""
    byte = 0
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _At(byte, number, 0), line
        byte += len(line)


def _loads(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as err:
        raise BadRecord(f"invalid UTF-8 at byte {err.start + 1} of the line") from None
    except (ValueError, RecursionError) as err:
        raise BadRecord(f"this line is no JSON: {err}") from None
