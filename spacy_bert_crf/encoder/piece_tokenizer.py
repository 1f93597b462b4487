"""A spaCy tokenizer whose tokens never share a wordpiece.

Most token classifiers give one tag to each wordpiece. In Chinese, a token is a character. There a
wordpiece such as `acme` or `苏州` covers several tokens, and each of them would repeat its tag.
"""

from collections.abc import Callable, Iterable
from typing import Any, Optional

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import DummyTokenizer, from_bytes, from_disk, registry, to_bytes, to_disk
from tokenizers import Tokenizer

from ..errors import BertCrfError
from .texts.doc_texts import doc_pieces
from .texts.wordpieces import Pieces

NAME = "spacy_bert_crf.WholePieces.v1"


@registry.tokenizers(NAME)
def create_piece_tokenizer(base: Callable[[Language], Any]) -> Callable[[Language], Any]:
    """Create a PieceTokenizer for a pipeline.

    base: makes the tokenizer whose tokens are joined, such as that of the language.
    """
    return lambda nlp: PieceTokenizer(base(nlp))


class PieceTokenizer(DummyTokenizer):
    """The tokens of another spaCy tokenizer, joined where they share a wordpiece.

    base: the other spaCy tokenizer.

    Until `set_wordpieces` or loading gives it a tokenizer of wordpieces, it changes nothing.
    """

    def __init__(self, base: Any) -> None:
        self.base = base
        self._wordpieces: Optional[Tokenizer] = None

    def set_wordpieces(self, tokenizer: Any) -> None:
        """Join tokens by the wordpieces of a fast tokenizer of transformers."""
        self._read(tokenizer.backend_tokenizer.to_str())

    def __call__(self, text: str) -> Doc:
        """Tokenize a text."""
        doc: Doc = self.base(text)
        if self._wordpieces is None or len(doc) < 2:
            return doc
        # shape: (S, 2)
        ranges = doc_pieces(doc, self._pieces(text))
        has_pieces = ranges[:, 1] > ranges[:, 0]
        shared = (ranges[1:, 0] < ranges[:-1, 1]) & has_pieces[1:] & has_pieces[:-1]
        if not shared.any():
            return doc
        # The first token of each joined one, and the end of the doc.
        edges = [0, *(np.flatnonzero(~shared) + 1).tolist(), len(doc)]
        groups = [doc[start:end] for start, end in zip(edges[:-1], edges[1:], strict=True)]
        return Doc(
            doc.vocab,
            words=[group.text for group in groups],
            spaces=[bool(group[-1].whitespace_) for group in groups],
        )

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """Serialize to a bytestring."""
        data: bytes = to_bytes(
            {
                "base": lambda: self.base.to_bytes(exclude=["vocab"]),
                "wordpieces": lambda: self._write().encode("utf8"),
            },
            exclude,
        )
        return data

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> "PieceTokenizer":
        """Load from a bytestring. Raises BertCrfError if it is damaged."""
        from_bytes(
            data,
            {
                "base": lambda b: self.base.from_bytes(b, exclude=["vocab"]),
                "wordpieces": lambda b: self._read(b.decode("utf8")),
            },
            exclude,
        )
        return self

    def to_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> None:
        """Save to a folder."""
        to_disk(
            path,
            {
                "base": lambda p: self.base.to_disk(p, exclude=["vocab"]),
                "wordpieces.json": lambda p: p.write_text(self._write(), encoding="utf8"),
            },
            exclude,
        )

    def from_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> "PieceTokenizer":
        """Load from a folder. Raises BertCrfError, naming the file, if it is damaged."""
        from_disk(
            path,
            {
                "base": lambda p: self.base.from_disk(p, exclude=["vocab"]),
                "wordpieces.json": lambda p: self._read(p.read_text(encoding="utf8"), str(p)),
            },
            exclude,
        )
        return self

    def _write(self) -> str:
        return "" if self._wordpieces is None else str(self._wordpieces.to_str())

    def _read(self, text: str, where: str = "the data of the tokenizer") -> None:
        if not text:
            self._wordpieces = None
            return
        try:
            self._wordpieces = Tokenizer.from_str(text)
        except Exception as err:  # tokenizers raises plain Exception
            raise BertCrfError(
                f"{where} is damaged: {err}. Use another copy of the pipeline."
            ) from err
        self._wordpieces.no_truncation()
        self._wordpieces.no_padding()

    def _pieces(self, text: str) -> Pieces:
        """The wordpieces of a text, without the white space that some have at their ends."""
        assert self._wordpieces is not None
        encoding = self._wordpieces.encode(text, add_special_tokens=False)
        ids, starts, ends = [], [], []
        for piece, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            inside = text[start:end]
            if inside.strip():
                ids.append(piece)
                starts.append(start + len(inside) - len(inside.lstrip()))
                ends.append(end - len(inside) + len(inside.rstrip()))
        return Pieces(*(np.array(values, dtype=np.int64) for values in (ids, starts, ends)))
