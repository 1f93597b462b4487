"""Reads DocBins (`.spacy` files) that may be damaged or hostile.

spaCy unpacks a file of any size and contents. Here the unpacked size is bounded, and the parts are
compared first. So a damaged file is an error that names it. It never fills the memory or silently
yields fewer docs.
"""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import srsly

from ..errors import BertCrfError, first_line
from .coverage.covers import COVERS, covers_of

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc
    from spacy.vocab import Vocab

#: A file may unpack to MAX_UNPACKED bytes or to MAX_RATIO times its own size, whichever is more.
#: Real corpora unpack to 20 to 60 times their size, a zip bomb to 1,000 times.
MAX_UNPACKED, MAX_RATIO = 1 << 26, 250

#: Token attributes whose values are hashes of strings.
_STRING_ATTRS = ("ORTH", "TAG", "LEMMA", "NORM", "MORPH", "DEP", "ENT_TYPE", "ENT_KB_ID", "ENT_ID")
_MAKE = "make one with `spacy bert-crf convert-corpus`"
_AGAIN = "make it again with `spacy bert-crf convert-corpus`"
#: Parts with one entry for each doc. Old files may lack some.
_PER_DOC = ("cats", "flags", "span_groups", "user_data")


def read_docbin(path: Path, vocab: "Vocab") -> "Iterator[Doc]":
    """The docs of a DocBin, one at a time.

    Raises BertCrfError, also while iterating, if the file can't be read, is damaged, or unpacks to
    more than MAX_UNPACKED and MAX_RATIO allow.
    """
    from spacy.tokens import DocBin

    data = check_docbin(path)
    try:
        for doc in DocBin().from_bytes(data).get_docs(vocab):
            # Invalid entities and span groups raise here.
            for span in (*doc.ents, *(span for group in doc.spans.values() for span in group)):
                span.label_, span.kb_id_, span.id_  # noqa: B018
            yield doc
    except Exception as err:  # What a damaged file raises varies.
        raise _damaged(path, err) from err


class DocBinWriter:
    """A DocBin that keeps which labels its docs cover, and no other user data."""

    def __init__(self) -> None:
        from spacy.tokens import DocBin

        self._docs = DocBin(store_user_data=False)
        self._covers: list[bytes] = []

    def add(self, doc: "Doc") -> None:
        """Add a doc."""
        covers = covers_of(doc)
        self._docs.add(doc)
        self._covers.append(
            b"" if covers is None else srsly.msgpack_dumps({COVERS: sorted(covers)})
        )

    def to_bytes(self) -> bytes:
        """The content of the file."""
        if any(self._covers):
            self._docs.store_user_data = True
            self._docs.user_data = [each or srsly.msgpack_dumps({}) for each in self._covers]
        return self._docs.to_bytes()


def check_docbin(path: Path) -> bytes:
    """The bytes of a DocBin whose parts are consistent. Raises BertCrfError for other files."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as err:
        raise BertCrfError(f"there is no corpus {path}: {_MAKE}.") from err
    except OSError as err:
        raise BertCrfError(
            f"can't read {path}: {err.strerror or err}. Name a file that can be read."
        ) from err
    try:
        _check_parts(srsly.msgpack_loads(_unpack(data)))
    except Exception as err:
        raise _damaged(path, err) from err
    return data


def check_docbins(paths: Iterable[Path]) -> None:
    """Run check_docbin on every DocBin among the paths and directly in folders among them."""
    for path in sorted(set(paths)):
        for file in sorted(path.glob("*.spacy")) if path.is_dir() else [path]:
            if file.suffix == ".spacy":
                check_docbin(file)


def _unpack(data: bytes) -> bytes:
    limit = max(MAX_UNPACKED, MAX_RATIO * len(data))
    stream = zlib.decompressobj()
    out = stream.decompress(data, limit)
    if stream.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {limit:,} bytes")
    if not stream.eof:
        raise ValueError("it is cut short")
    return out


def _check_parts(parts: Any) -> None:
    from spacy.attrs import IDS
    from spacy.strings import StringStore

    attrs, n_docs = parts["attrs"], len(parts["lengths"]) // 4
    if not attrs or not all(type(attr) is int for attr in attrs) or len(set(attrs)) != len(attrs):
        raise ValueError("its attributes are no list of numbers")
    if len(parts["lengths"]) % 4:
        raise ValueError("its lengths are cut short")
    lengths = memoryview(parts["lengths"]).cast("i").tolist()
    total = sum(lengths)
    if min(lengths, default=0) < 0:
        raise ValueError("a doc has a negative length")
    if len(parts["tokens"]) != total * len(attrs) * 8 or len(parts["spaces"]) != total:
        raise ValueError("its tokens are fewer or more than its lengths say")
    store = StringStore()
    known = {0, *(store.add(string) for string in parts["strings"])}
    tokens = np.frombuffer(parts["tokens"], dtype=np.uint64).reshape(-1, len(attrs))
    hashed = {IDS[name] for name in _STRING_ATTRS}
    columns = [i for i, attr in enumerate(attrs) if attr in hashed]
    if not known.issuperset(np.unique(tokens[:, columns]).tolist()):
        raise ValueError("a token refers to a string that is not in the file")
    for key in _PER_DOC:
        if key in parts and len(parts[key]) != n_docs:
            raise ValueError(f"it has {key} of {len(parts[key])} docs for {n_docs}")


def _damaged(path: Path, err: Exception) -> BertCrfError:
    if isinstance(err, BertCrfError):
        return err
    return BertCrfError(
        f"{path} is no readable DocBin (.spacy file), or damaged ({first_line(err)}): {_AGAIN}."
    )


def read_docs(path: Path, nlp: "Language") -> "list[Doc]":
    """All docs of a DocBin, on the vocab of `nlp`.

    Raises BertCrfError if it is missing, damaged or empty.
    """
    docs = list(read_docbin(path, nlp.vocab))
    if not docs:
        raise BertCrfError(f"{path} holds no docs: {_AGAIN}.")
    return docs
