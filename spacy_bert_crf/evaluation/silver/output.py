"""Writes silver annotation: DocBins, or a format of an annotation tool."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Optional

from spacy.tokens import Doc

from ..._files import atomic_file, atomic_folder
from ...annotation.docbin import DocBinWriter
from ...annotation.formats import FORMATS, AnnotatedText, check_choice, text_of, write_corpus
from ...annotation.formats.records import write_doccano, write_prodigy
from ...annotation.formats.text import Options
from ...errors import BertCrfError

#: Texts of each DocBin of a folder.
PART = 5_000
#: Formats that are written text by text, so that memory does not grow.
_STREAMED: dict[str, Callable[[Path, Iterable[AnnotatedText], Options], None]] = {
    "doccano": write_doccano,
    "prodigy": write_prodigy,
}


def check_output(dst: Path, to: str) -> str:
    """The format of a file or folder that is to be written, "" for DocBin.

    dst: the path. One that ends in .spacy is a DocBin, and one without a suffix a folder of them.
    to: a name of FORMATS; "" to go by the suffix.
    Raises BertCrfError if the two do not fit.
    """
    writable = tuple(name for name, each in FORMATS.items() if each.write)
    check_choice("to", to, ("", *writable))
    if dst.suffix == ".spacy" and to:
        raise BertCrfError(f"{dst} is a DocBin, and --to says {to}: change one of them.")
    if dst.suffix in (".jsonl", ".ndjson") and not to:
        return "doccano"
    if dst.suffix and dst.suffix != ".spacy" and not to:
        raise BertCrfError(
            f"{dst} is no .spacy file: give its format by --to, one of {', '.join(writable)}."
        )
    is_folder = not dst.suffix and not to
    if is_folder and dst.exists() and not _is_ours(dst):
        raise BertCrfError(f"{dst} exists and is no folder of DocBins only: name a new one.")
    return to


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and all(path.suffix == ".spacy" for path in folder.iterdir())


def write_docs(dst: Path, docs: Iterator[Doc], to: str, finish: Callable[[], None]) -> None:
    """Write docs.

    dst: the file or folder, see `check_output`.
    docs: the docs. They are consumed as they are written.
    to: what `check_output` returned.
    finish: called when all docs are there and before the file gets its name. What it raises leaves
        the old file.
    Raises BertCrfError if the format can't hold a doc, or if the file can't be written.
    """
    texts = _then((text_of(doc) for doc in docs), finish)
    if to in _STREAMED:
        _STREAMED[to](dst, texts, Options())
    elif to:
        write_corpus(dst, texts, to)
    elif dst.suffix:
        with atomic_file(dst) as tmp:
            data = _docbin(docs)
            finish()
            tmp.write_bytes(data or DocBinWriter().to_bytes())
    else:
        with atomic_folder(dst) as folder:
            number = 0
            while data := _docbin(islice(docs, PART)):
                (folder / f"part-{number:05}.spacy").write_bytes(data)
                number += 1
            finish()


def _then(texts: Iterator[AnnotatedText], finish: Callable[[], None]) -> Iterator[AnnotatedText]:
    yield from texts
    finish()


def _docbin(docs: Iterable[Doc]) -> Optional[bytes]:
    """The bytes of a DocBin; None if there are no docs."""
    writer, count = DocBinWriter(), 0
    for doc in docs:
        writer.add(doc)
        count += 1
    return writer.to_bytes() if count else None


def disagreement_record(
    id: str, doc: Doc, names: Iterable[str], places: Iterable[Any]
) -> dict[str, Any]:
    """A text with disagreements, for JSON lines of an annotation tool.

    What the sources agree on is in `label`, as doccano has it. `disagreements` has the places.

    id: name of the text.
    doc: its silver annotation.
    names: of the sources.
    places: the disagreements in tokens.
    """

    def offsets(start: int, end: int) -> list[int]:
        span = doc[start:end]
        return [span.start_char, span.end_char]

    record: dict[str, Any] = {
        "id": id,
        "text": doc.text,
        "label": [[ent.start_char, ent.end_char, ent.label_] for ent in doc.ents],
        "disagreements": [],
    }
    names = list(names)
    for start, end, said in places:
        first, last = offsets(start, end)
        sources = {
            name: None if spans is None else [[*offsets(s, e), label] for s, e, label in spans]
            for name, spans in zip(names, said, strict=True)
        }
        place = {"start": first, "end": last, "text": doc.text[first:last], "sources": sources}
        record["disagreements"].append(place)
    return record
