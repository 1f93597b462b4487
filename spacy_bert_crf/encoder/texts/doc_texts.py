"""The texts of docs, where their tokens stand in them, and which wordpieces the tokens have.

`Doc.text` makes a Token for each of its tokens, which takes longer than the wordpieces do. Here the
numbers of the tokens' strings come out of a Doc as an array, and are looked up in a table.
"""

from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import ORTH, SPACY
from spacy.tokens import Doc

from .sentences import sentence_ends
from .wordpieces import CODE, SEPARATOR, IntArray, JoinedPieces, JoinedTexts, Pieces, codes_of

#: Entries of the table of strings, a power of 2. It takes 12 bytes for each.
_SLOTS = 1 << 18

HashArray = NDArray[np.uint64]


class DocTokens(NamedTuple):
    """The tokens of docs. N tokens in all.

    strings: numbers of their strings. [N]
    values: the code point of a token of one character, else -1 - its length. [N]
    spaces: 1 where white space follows that is no token, else 0. [N]
    counts: number of tokens of each doc. [docs]
    """

    strings: HashArray
    values: NDArray[np.int32]
    spaces: IntArray
    counts: IntArray


class DocTexts(NamedTuple):
    """The texts of docs as one, and their tokens. N tokens in all.

    texts: the texts of the docs.
    starts: offset of the first character of each token in the joined texts. [N]
    ends: offset after its last character. [N]
    counts: number of tokens of each doc. [docs]
    """

    texts: JoinedTexts
    starts: IntArray
    ends: IntArray
    counts: IntArray


def read_tokens(docs: Sequence[Doc]) -> DocTokens:
    """The tokens of docs. It takes two thirds of the time of `read_texts`.

    docs: the docs. They may have different vocabularies.
    """
    counts = np.fromiter(map(len, docs), np.int64, len(docs))
    arrays = [doc.to_array(_ATTRIBUTES) for doc in docs]
    # shape: (N, 2)
    columns = np.concatenate([np.zeros((0, 2), np.uint64), *arrays])
    strings = np.ascontiguousarray(columns[:, 0])
    values = _table.look_up(strings, docs, counts)
    return DocTokens(strings, values, columns[:, 1].astype(np.int64), counts)


def read_texts(docs: Sequence[Doc]) -> DocTexts:
    """The texts of docs and the offsets of their tokens, as `Doc.text` and `Token.idx` give them.

    docs: the docs. They may have different vocabularies.
    """
    strings, values, spaces, counts = read_tokens(docs)
    lengths = np.where(values >= 0, 1, -1 - values).astype(np.int64)
    widths = lengths + spaces
    stops = np.cumsum(widths)
    # Each text is followed by a separator.
    last = np.append(0, stops)[np.cumsum(counts)]
    text_ends = last + np.arange(len(docs))
    text_begins = np.append(0, text_ends[:-1] + 1)[: len(docs)]
    starts = stops - widths + np.repeat(np.arange(len(docs)), counts)
    codes = np.full(int(last[-1]) + len(docs) if len(docs) else 0, ord(" "), dtype=CODE)
    codes[text_ends] = ord(SEPARATOR)
    is_single = values >= 0
    if is_single.all():
        codes[starts] = values
    else:
        codes[starts[is_single]] = values[is_single]
        at = np.flatnonzero(~is_single)
        store = [docs[i].vocab.strings for i in np.repeat(np.arange(len(docs)), counts)[at]]
        words = [own[word] for own, word in zip(store, strings[at].tolist(), strict=True)]
        before = np.cumsum(lengths[at]) - lengths[at]
        places = np.repeat(starts[at] - before, lengths[at])
        codes[places + np.arange(len(places))] = codes_of("".join(words))
    return DocTexts(JoinedTexts(codes, text_begins, text_ends), starts, starts + lengths, counts)


def annotated_starts(doc: Doc) -> list[int] | None:
    """Character offsets at which the sentences of a doc start, without the first.

    RETURNS: None if the doc does not say where its sentences are.
    """
    if not len(doc) or not doc.has_annotation("SENT_START"):
        return None
    return [sent.start_char for sent in doc.sents][1:]


def sentence_cuts(docs: Sequence[Doc], texts: JoinedTexts, piece_starts: IntArray) -> IntArray:
    """The wordpieces before which the sentences of docs end, counted over all docs. [cuts]

    Those of a doc that says where its sentences are, are at its sentences. Others follow the rule
    of `sentence_ends`.

    texts: the texts of the docs.
    piece_starts: offset of the first character of each wordpiece. [P]
    """
    annotated = [annotated_starts(doc) for doc in docs]
    found = sentence_ends(texts.text)
    by_rule = np.array([own is None for own in annotated], dtype=np.bool_)
    found = found[by_rule[np.minimum(np.searchsorted(texts.ends, found), len(docs) - 1)]]
    own_starts = [
        begin + start
        for begin, own in zip(texts.begins.tolist(), annotated, strict=True)
        for start in (own or ())
    ]
    found = np.concatenate([found, np.array(own_starts, dtype=np.int64)])
    # Some tokenizers give offsets that go back and forth.
    return np.unique(np.searchsorted(np.maximum.accumulate(piece_starts), found))


def token_pieces(
    token_starts: IntArray, token_ends: IntArray, piece_starts: IntArray, piece_ends: IntArray
) -> IntArray:
    """First wordpiece and last + 1 of each token, (0, 0) for none. [S, 2]

    A wordpiece that covers several tokens belongs to each of them.

    token_starts: offset of the first character of each token. [S]
    token_ends: offset after the last character of each token. [S]
    piece_starts: offset of the first character of each wordpiece. [n]
    piece_ends: offset after the last character of each wordpiece. [n]
    """
    first = np.searchsorted(piece_ends, token_starts, side="right")
    last = np.searchsorted(piece_starts, token_ends, side="left")
    out = np.stack([first, last], axis=1).astype(np.int64)
    out[last <= first] = 0
    return out


def joined_token_pieces(tokens: DocTexts, pieces: JoinedPieces) -> IntArray:
    """First wordpiece of each token of several docs and last + 1, (0, 0) for none. [N, 2]

    Wordpieces are counted over all docs. For each doc, they are those of token_pieces.

    tokens: the tokens of the docs.
    pieces: the wordpieces of the docs' texts.
    """
    if (np.diff(pieces.starts) < 0).any() or (np.diff(pieces.ends) < 0).any():
        return _ranges_by_doc(tokens, pieces)
    # Entry i counts the wordpieces that end at character i or before, or that start before it.
    size = len(tokens.texts.codes) + 1
    ended = np.cumsum(np.bincount(pieces.ends, minlength=size))
    started = np.cumsum(np.bincount(pieces.starts + 1, minlength=size))
    out = np.stack([ended[tokens.starts], started[tokens.ends]], axis=1)
    out[out[:, 1] <= out[:, 0]] = 0
    return out


def _ranges_by_doc(tokens: DocTexts, pieces: JoinedPieces) -> IntArray:
    """See joined_token_pieces. Offsets that go back and forth are searched in each doc alone."""
    out, token, piece = [np.zeros((0, 2), dtype=np.int64)], 0, 0
    for n_tokens, n_pieces in zip(tokens.counts.tolist(), pieces.counts.tolist(), strict=True):
        own, of_doc = slice(token, token + n_tokens), slice(piece, piece + n_pieces)
        ranges = token_pieces(
            tokens.starts[own], tokens.ends[own], pieces.starts[of_doc], pieces.ends[of_doc]
        )
        ranges[ranges[:, 1] > ranges[:, 0]] += piece
        out.append(ranges)
        token, piece = own.stop, of_doc.stop
    return np.concatenate(out)


def doc_pieces(doc: Doc, pieces: Pieces) -> IntArray:
    """First wordpiece and last + 1 of each token of a doc, see token_pieces. [S, 2]"""
    starts, lengths = doc.to_array(["IDX", "LENGTH"]).astype(np.int64).T
    return token_pieces(starts, starts + lengths, pieces.starts, pieces.ends)


_ATTRIBUTES = [ORTH, SPACY]


class _StringTable:
    """What is needed of strings by spaCy's 64-bit number of them, for arrays of numbers at once.

    The value of a string of one character is its code point. That of another one is -1 - length.
    A string has one slot, by the last bits of its number, which is a hash in all vocabularies. A
    slot keeps the string that came first. Others are looked up in the vocabulary each time.

    Threads may share a table. A reader finds a slot empty or complete, and it never changes.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._clear()

    def _clear(self) -> None:
        # The number of the empty string is 0, like the numbers of empty slots.
        values = np.zeros(_SLOTS, dtype=np.int32)
        values[0] = -1
        self._slots = np.zeros(_SLOTS, dtype=np.uint64), values
        self._used = 0

    def look_up(
        self, strings: HashArray, docs: Sequence[Doc], counts: IntArray
    ) -> NDArray[np.int32]:
        """The values of strings.

        strings: the numbers of the strings of all tokens. [N]
        docs: the docs that the tokens belong to.
        counts: number of tokens of each doc. [docs]
        RETURNS: [N]
        """
        numbers, values = self._slots
        slots = (strings & np.uint64(_SLOTS - 1)).astype(np.intp)
        # shape: (N,)
        out: NDArray[np.int32] = values[slots]
        missed = np.flatnonzero(numbers[slots] != strings)
        if len(missed):
            new, first, inverse = np.unique(strings[missed], return_index=True, return_inverse=True)
            owners = np.searchsorted(np.cumsum(counts), missed[first], side="right")
            words = [
                docs[owner].vocab.strings[number]
                for owner, number in zip(owners.tolist(), new.tolist(), strict=True)
            ]
            found = [ord(word) if len(word) == 1 else -1 - len(word) for word in words]
            out[missed] = np.array(found, dtype=np.int32)[inverse]
            self._add(new, out[missed[first]])
        return out

    def _add(self, strings: HashArray, values: NDArray[np.int32]) -> None:
        with self._lock:
            if self._used > _SLOTS // 2:
                self._clear()
            numbers, kept = self._slots
            slots, first = np.unique(
                (strings & np.uint64(_SLOTS - 1)).astype(np.intp), return_index=True
            )
            free = (numbers[slots] == 0) & (slots != 0)
            slots, first = slots[free], first[free]
            kept[slots] = values[first]
            numbers[slots] = strings[first]  # last: a reader who finds it finds the value, too
            self._used += len(slots)


_table = _StringTable()
