"""Wordpieces of texts, by a fast tokenizer of transformers.

The tokenizer in Rust takes about a microsecond a character, which is most of what a text costs
outside of an encoder on a GPU. BERT's tokenizer never joins some characters with their neighbours:
Chinese ones, punctuation and white space. So their wordpieces are looked up in a table, and those
of the words between them in a dictionary. Both are filled by the Rust tokenizer itself, which also
reads everything else. The result is exactly that of the Rust tokenizer.
"""

import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple, Optional
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing, TemplateProcessing

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
#: Code points of characters.
CodeArray = NDArray[np.uint32]

#: What stands between texts that are joined. It is a line break, which BERT's tokenizer drops.
SEPARATOR = "\n"
#: dtype of the code points of a str, whatever the byte order of the machine.
CODE = np.dtype("<u4")

# Entries of a CharacterTable. A character that is one wordpiece has its id + _FIRST_ID.
_UNSEEN, _WORD, _DROPPED, _FIRST_ID = 0, 1, 2, 3
#: Longest word that is remembered, and how many words are.
_WORD_LENGTH, _WORDS = 32, 32_768
#: A text in which each place of `{c}` shows whether a character is joined with its neighbours.
_PROBE = "a{c}a{c}{c}a"


class Pieces(NamedTuple):
    """The wordpieces of a text without special tokens: ids, and character offsets. [n] each"""

    ids: IntArray
    starts: IntArray
    ends: IntArray


class JoinedPieces(NamedTuple):
    """The wordpieces of several texts, text after text. P wordpieces in all.

    ids: [P]
    starts: offset of the first character of each wordpiece in the joined texts. [P]
    ends: offset after its last character. [P]
    counts: number of wordpieces of each text. [texts]
    """

    ids: IntArray
    starts: IntArray
    ends: IntArray
    counts: IntArray


class JoinedTexts(NamedTuple):
    """Several texts as one, with SEPARATOR after each. C characters in all.

    codes: the code points. [C]
    begins: offset of the first character of each text. [texts]
    ends: offset after its last character, that of the separator. [texts]
    """

    codes: CodeArray
    begins: IntArray
    ends: IntArray

    @classmethod
    def of(cls, texts: Sequence[str]) -> "JoinedTexts":
        """Join texts. Raises UnicodeEncodeError for half a surrogate pair."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        ends = np.cumsum(lengths + 1) - 1
        return cls(codes_of(SEPARATOR.join([*texts, ""])), ends - lengths, ends)

    @property
    def text(self) -> str:
        """The joined texts."""
        return self.codes.astype(CODE, copy=False).tobytes().decode("utf-32-le")


def codes_of(text: str) -> CodeArray:
    """The code points of a text. Raises UnicodeEncodeError for half a surrogate pair. [C]"""
    return np.frombuffer(text.encode("utf-32-le"), CODE)


def tokenize(tokenizer: Any, texts: Sequence[str]) -> list[Pieces]:
    """Wordpieces of whole texts, without special tokens and without truncation.

    tokenizer: a fast tokenizer of transformers.
    """
    texts = list(texts)
    try:
        joined = JoinedTexts.of(texts)
    except UnicodeEncodeError:
        backend(tokenizer).encode_batch(texts, add_special_tokens=False)  # raises its own error
        raise
    pieces = tokenize_joined(tokenizer, joined)
    stops = np.cumsum(pieces.counts).tolist()
    return [
        Pieces(pieces.ids[a:b], pieces.starts[a:b] - begin, pieces.ends[a:b] - begin)
        for a, b, begin in zip([0, *stops], stops, joined.begins.tolist(), strict=False)
    ]


def tokenize_joined(tokenizer: Any, texts: JoinedTexts) -> JoinedPieces:
    """Wordpieces of joined texts, as `tokenize` finds them in each alone.

    tokenizer: a fast tokenizer of transformers.
    """
    fast = backend(tokenizer)
    table = _table_of(tokenizer, fast)
    whole = texts.text
    if table is None:
        spans = zip(texts.begins.tolist(), texts.ends.tolist(), strict=True)
        found = _encode(fast, [whole[begin:end] for begin, end in spans])
        shift = np.repeat(texts.begins, found.counts)
        return JoinedPieces(found.ids, found.starts + shift, found.ends + shift, found.counts)
    return table.pieces(fast, whole, texts)


def backend(tokenizer: Any) -> Any:
    """The Rust tokenizer of a fast one, set to neither truncate nor pad."""
    fast = tokenizer.backend_tokenizer
    if fast.truncation is not None:
        fast.no_truncation()
    if fast.padding is not None:
        fast.no_padding()
    return fast


def _encode(fast: Any, texts: list[str]) -> JoinedPieces:
    """Wordpieces by the Rust tokenizer. Offsets are those in each text alone."""
    encodings = fast.encode_batch(texts, add_special_tokens=False)
    all_ids = [encoding.ids for encoding in encodings]
    counts = np.fromiter(map(len, all_ids), np.int64, len(all_ids))
    total = int(counts.sum())
    ids = np.fromiter(chain.from_iterable(all_ids), np.int64, total)
    pairs = chain.from_iterable(encoding.offsets for encoding in encodings)
    # shape: (total, 2)
    offsets = np.fromiter(chain.from_iterable(pairs), np.int64, 2 * total).reshape(-1, 2)
    return JoinedPieces(ids, offsets[:, 0], offsets[:, 1], counts)


#: Ids, starts and ends of the wordpieces of a word.
_Row = tuple[list[int], list[int], list[int]]
#: See `_stamp_of`.
_Stamp = Optional[tuple[bytes, str, str, int, list[str]]]


class CharacterTable:
    """What a BERT tokenizer makes of single characters, and of the words between them.

    A character is looked up only after the Rust tokenizer has shown, in `_PROBE`, that it joins the
    character with none of its neighbours. The proof holds in any text, since BERT's normalizer and
    pre-tokenizer decide each character alone: they put spaces around it, or split there. The one
    step that looks further is canonical decomposition, which reorders marks. It never moves them
    across a character that it leaves unchanged and that is no mark (combining class 0).

    Threads may share a table. An entry is written once, with the same value by all.

    fast: a Rust tokenizer for which `_stamp_of` is not None.
    contents: the texts of its added tokens. Those that hold one are for the Rust tokenizer.
    Raises ValueError if the tokenizer can't be read this way.
    """

    def __init__(self, fast: Any, contents: Sequence[str]) -> None:
        self._contents = contents  # of added tokens, which are found before anything else
        # Zeros take no memory until they are written. The table has an entry for each code point.
        self._entries = np.zeros(0x110000, dtype=np.int32)
        self._words: dict[str, _Row] = {}
        letter = fast.encode("a", add_special_tokens=False)
        if letter.offsets != [(0, 1)]:
            raise ValueError("a letter is no wordpiece")
        (self._letter,) = letter.ids
        # Otherwise an "a" that begins a word would look like one that continues a word.
        if fast.token_to_id(fast.model.continuing_subword_prefix + "a") == self._letter:
            raise ValueError("wordpieces that continue a word are not marked")
        self._learn(fast, codes_of(SEPARATOR))
        if self._entries[ord(SEPARATOR)] != _DROPPED:
            raise ValueError("a line break is no white space")

    def pieces(self, fast: Any, whole: str, texts: JoinedTexts) -> JoinedPieces:
        """The wordpieces of joined texts.

        fast: the Rust tokenizer.
        whole: the texts as one str.
        texts: the texts.
        """
        entries = self._entries[texts.codes]
        unseen = entries == _UNSEEN
        if unseen.any():
            self._learn(fast, np.unique(texts.codes[unseen]))
            entries = self._entries[texts.codes]
        self._spare_added_tokens(whole, texts, entries)
        # shape: [characters that are wordpieces]
        singles = np.flatnonzero(entries >= _FIRST_ID)
        ids = entries[singles].astype(np.int64) - _FIRST_ID
        edges = np.append(texts.begins, len(texts.codes))
        counts = np.diff(np.searchsorted(singles, edges))
        # The last character is a separator, so that each run of others ends before it.
        edge = np.flatnonzero(np.diff(entries == _WORD, prepend=False))
        begins = edge[::2]
        if not len(begins):
            return JoinedPieces(ids, singles, singles + 1, counts)
        found = self._runs(fast, whole, begins, edge[1::2])
        place = np.repeat(begins, found.counts)
        owner = np.searchsorted(texts.begins, begins, side="right") - 1
        counts += np.bincount(owner, found.counts, len(counts)).astype(np.int64)
        # Wordpieces of words are put between those of single characters.
        at = np.searchsorted(singles, place) + np.arange(len(place))
        is_single = np.ones(len(singles) + len(place), dtype=bool)
        is_single[at] = False
        merged = []
        for of_singles, of_words in (
            (ids, found.ids),
            (singles, found.starts + place),
            (singles + 1, found.ends + place),
        ):
            both = np.empty(len(is_single), dtype=np.int64)
            both[is_single], both[at] = of_singles, of_words
            merged.append(both)
        return JoinedPieces(merged[0], merged[1], merged[2], counts)

    def _learn(self, fast: Any, codes: CodeArray) -> None:
        """Write the entries of characters that are not in the table yet."""
        texts = [_PROBE.format(c=chr(code)) for code in codes.tolist()]
        encodings = fast.encode_batch(texts, add_special_tokens=False)
        found = map(self._entry, map(chr, codes.tolist()), encodings)
        self._entries[codes] = np.fromiter(found, np.int32, len(codes))

    def _entry(self, char: str, encoding: Any) -> int:
        """The entry of a character, as the encoding of `_PROBE` with it shows."""
        if (
            unicodedata.category(char) in ("Cn", "Cs")  # not assigned yet, so that it may change
            or unicodedata.combining(char)
            or unicodedata.normalize("NFD", char) != char
        ):
            return _WORD
        ids, a = encoding.ids, self._letter
        if ids == [a] * 3 and encoding.offsets == [(0, 1), (2, 3), (5, 6)]:
            return _DROPPED
        places = [(i, i + 1) for i in range(6)]
        if encoding.offsets == places and ids == [a, ids[1], a, ids[1], ids[1], a]:
            return int(ids[1]) + _FIRST_ID
        return _WORD

    def _spare_added_tokens(
        self, whole: str, texts: JoinedTexts, entries: NDArray[np.int32]
    ) -> None:
        """Make a text that may hold an added token one word as a whole, in place."""
        contents = [content for content in self._contents if content in whole]
        if not contents:
            return
        for begin, end in zip(texts.begins.tolist(), texts.ends.tolist(), strict=True):
            if any(content in whole[begin:end] for content in contents):
                entries[begin:end] = _WORD

    def _runs(self, fast: Any, whole: str, begins: IntArray, ends: IntArray) -> JoinedPieces:
        """Wordpieces of runs of characters that may be joined. Offsets count within each run."""
        runs = [whole[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
        known, fresh = self._words, {}
        new = list({run for run in runs if run not in known})
        if new:
            fresh = dict(zip(new, _rows(_encode(fast, new)), strict=True))
            short = {run: row for run, row in fresh.items() if len(run) <= _WORD_LENGTH}
            if len(known) + len(short) > _WORDS:
                self._words = {}  # a new one: other threads may read the old one
            self._words.update(short)
        rows = [known.get(run) or fresh[run] for run in runs]
        counts = np.fromiter((len(row[0]) for row in rows), np.int64, len(rows))
        ids, firsts, lasts = (_flat([row[i] for row in rows]) for i in range(3))
        return JoinedPieces(ids, firsts, lasts, counts)


def _rows(pieces: JoinedPieces) -> list[_Row]:
    """The ids, starts and ends of each text."""
    lists = [values.tolist() for values in pieces[:3]]
    stops = np.cumsum(pieces.counts).tolist()
    return [
        (lists[0][a:b], lists[1][a:b], lists[2][a:b])
        for a, b in zip([0, *stops], stops, strict=False)
    ]


def _flat(lists: list[list[int]]) -> IntArray:
    return np.fromiter(chain.from_iterable(lists), np.int64)


#: The table of each tokenizer, with the settings that it was made for.
_tables: WeakKeyDictionary[Any, tuple[_Stamp, Optional[CharacterTable]]] = WeakKeyDictionary()


def _table_of(tokenizer: Any, fast: Any) -> Optional[CharacterTable]:
    """The table of a tokenizer; None if all texts are for the Rust tokenizer.

    It is made anew if the normalizer, the model's settings or the added tokens have changed.
    """
    stamp = _stamp_of(fast)
    made = _tables.get(tokenizer)
    if made is None or made[0] != stamp:
        table = None
        if stamp is not None:
            with suppress(ValueError):
                table = CharacterTable(fast, stamp[-1])
        made = _tables[tokenizer] = (stamp, table)
    return made[1]


def _stamp_of(fast: Any) -> _Stamp:
    """The settings that a table depends on; None for a tokenizer of another kind than BERT's."""
    model, normalizer, post = fast.model, fast.normalizer, type(fast.post_processor)
    if (
        type(model) is not WordPiece
        or type(normalizer) is not BertNormalizer
        or type(fast.pre_tokenizer) is not BertPreTokenizer
        or post not in (TemplateProcessing, BertProcessing, type(None))
        or fast.token_to_id(model.unk_token) is None
    ):
        return None
    added = fast.get_added_tokens_decoder().values()
    # Tokens that are searched in the normalized text may match where the text differs.
    if any(token.normalized or not token.content for token in added):
        return None
    contents = [token.content for token in added]
    prefix, longest = model.continuing_subword_prefix, model.max_input_chars_per_word
    return normalizer.__getstate__(), model.unk_token, prefix, longest, contents
