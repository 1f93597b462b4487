"""Which wordpieces each token of a text has."""

import numpy as np
from spacy.tokens import Doc

from .doc_texts import DocTexts
from .wordpieces import IntArray, JoinedPieces, Pieces


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
