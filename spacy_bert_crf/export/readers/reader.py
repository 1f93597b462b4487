"""The entities of a text, from a model of a spacy-bert-crf export. predict.py runs the model.

Needs numpy and tokenizers. It cuts a text into encoder passes, as best_model.json says, gives each
token the mean of its wordpieces, and finds the best path of tags that the scheme allows.

Tokens are those of the pipeline for Chinese: characters. For other languages they are what white
space separates: put spaces around punctuation, or give the tokens.
"""

import json
import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

#: Most wordpieces of a text for a decode graph, whose time and memory grow with the square of it.
LONGEST_DECODED = 2048


class Reader:
    """Reads texts with a model. Call it with a text; it gives (start, end, label) of each entity.

    folder: the folder of the export that holds the model.
    emissions: int64 ids, mask and types [B, T] to float32 emissions [B, T, K], as arrays.
    decode: the same and int64 token_pieces [1, S, 3] to int64 tags [1, S]; None for none.
    """

    def __init__(self, folder, emissions, decode=None):
        folder = Path(folder)
        self.info = json.loads((folder / "best_model.json").read_text(encoding="utf8"))
        with np.load(folder / "transitions.npz", allow_pickle=False) as arrays:
            self.scores = dict(arrays)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.emissions, self.decode = emissions, decode

    def __call__(self, text, tokens=None):
        """The entities of a text: start and end (character offsets), label.

        tokens: (start, end) of each token, where the pipeline has a tokenizer of its own.
        """
        tokens = split(text, self.info["lang"]) if tokens is None else tokens
        if not tokens:
            return []
        pieces = self.tokenizer.encode(text, add_special_tokens=False)
        offsets = np.array(pieces.offsets, dtype=np.int64).reshape(-1, 2)
        ranges = token_pieces(np.array(tokens), offsets)
        if self.info.get("whole_pieces"):
            tokens, ranges = join(tokens, ranges)
        words = continued(text, tokens, self.info)
        before, after = self.special_ids()
        size = self.info["max_length"] - len(before) - len(after)
        windows = plan(text, offsets, size, self.info)
        ids = [[*before, *pieces.ids[w[0] : w[1]], *after] for w in windows]
        places = self.graph_places(ranges, windows, ids, len(before))
        if places is not None:
            path = self.run_decode(ids, places, words)
        else:
            rows = self.run_emissions(ids, windows, len(before), len(offsets))
            bias = self.scores["bias"]
            means = [rows[a:b].mean(0) if a < b else bias for a, b in ranges.tolist()]
            path = viterbi(np.stack(means), self.scores, words, self.info["tags"])
        return list(trimmed(text, tokens, spans([self.info["tags"][tag] for tag in path])))

    def special_ids(self):
        """Ids of the special tokens before and after the wordpieces of a pass."""
        for text in ("。", "a", "0"):
            probe = self.tokenizer.encode(text)
            own = [i for i, special in enumerate(probe.special_tokens_mask) if not special]
            if own:
                return probe.ids[: own[0]], probe.ids[own[-1] + 1 :]
        return [], []

    def graph_places(self, ranges, windows, ids, shift):
        """The token_pieces [S, 2] of a decode graph; None if the text is not for such a graph.

        It can't read overlapping windows, or a token that lies in two passes.
        """
        longest = max(map(len, ids), default=0)
        overlap = any(window[:2] != window[2:] for window in windows)
        if self.decode is None or not ids or overlap or len(ids) * longest > LONGEST_DECODED:
            return None
        ends = np.array([window[1] for window in windows])
        begins = np.array([window[0] for window in windows])
        has = ranges[:, 1] > ranges[:, 0]
        row = np.searchsorted(ends, ranges[:, 0], side="right") * has
        if (ranges[:, 1] > ends[row])[has].any():
            return None
        places = ranges + (row * longest + shift - begins[row])[:, None]
        return np.where(has[:, None], places, 1)  # 1, 1 for a token without wordpieces

    def run_decode(self, ids, places, words):
        """The best path, by a graph that contains the Viterbi algorithm. [S]"""
        inputs = np.zeros((2, len(ids), max(map(len, ids))), dtype=np.int64)
        for row, own in enumerate(ids):
            inputs[0, row, : len(own)] = own
            inputs[1, row, : len(own)] = 1
        pieces = np.concatenate([places, np.array(words)[:, None]], axis=1).astype(np.int64)
        return self.decode(*inputs, np.zeros_like(inputs[0]), pieces[None])[0].tolist()

    def run_emissions(self, ids, windows, shift, n_pieces):
        """The emissions of all wordpieces of a text, a pass at a time. [n_pieces, K]"""
        rows = np.zeros((n_pieces, len(self.info["tags"])), dtype=np.float32)
        for own, (begin, _, first, last) in zip(ids, windows, strict=True):
            row = np.array([own], dtype=np.int64)
            found = self.emissions(row, np.ones_like(row), np.zeros_like(row))[0]
            rows[first:last] = found[first - begin + shift : last - begin + shift]
        return rows


def split(text, lang):
    """(start, end) of tokens: Chinese characters, with white space as in spaCy, or else words."""
    if lang == "zh":
        return [m.span(1) if m[1] else m.span() for m in re.finditer(r"(\S) ?|\s+", text)]
    return [m.span() for m in re.finditer(r"\S+", text)]


def token_pieces(tokens, offsets):
    """First wordpiece of each token and last + 1; 0, 0 for none. [S, 2]"""
    first = np.searchsorted(offsets[:, 1], tokens[:, 0], side="right")
    last = np.searchsorted(offsets[:, 0], tokens[:, 1], side="left")
    return np.where((last > first)[:, None], np.stack([first, last], axis=1), 0)


def join(tokens, ranges):
    """Tokens that share a wordpiece, joined: so reads what `import-model` made of other models."""
    joined = []
    for (start, end), (first, last) in zip(tokens, ranges.tolist(), strict=True):
        if joined and first < last and first < joined[-1][1][1]:
            (start, _), (first, before) = joined.pop()
            last = max(last, before)
        joined.append(((start, end), (first, last)))
    return [token for token, _ in joined], np.array([own for _, own in joined])


def continued(text, tokens, info):
    """Whether each token continues the word of the token before it. Only single characters can."""
    matches = re.finditer(info.get("whole_words", ""), text)
    inner = {i for m in matches for i in range(m.start() + 1, m.end())}
    pairs = zip([(0, 0), *tokens], tokens, strict=False)
    return [start in inner and b == start == a + 1 == end - 1 for (a, b), (start, end) in pairs]


def plan(text, offsets, size, info):
    """The passes of a text: first wordpiece, last + 1, and the same of those that it is read for.

    A sentence is a pass, or the text. What is too long is cut at ends of sentences, and a sentence
    that is still too long is covered by overlapping windows.
    """
    by_sentences = info.get("context") == "sentences"
    starts, total = np.maximum.accumulate(offsets[:, 0]), len(offsets)
    cuts = set()
    if "sentence_end" in info and (by_sentences or total > size):
        ends = [m.end() for m in re.finditer(info["sentence_end"], text)]
        cuts = {0, *np.searchsorted(starts, ends).tolist(), total}
    edges = sorted(cuts if by_sentences and cuts else {0, total})
    overlap = min(info.get("windows", {}).get("overlap", 64), size - 1)
    found = []
    for begin, end in pairwise(edges):
        own = sorted({begin, *(cut for cut in cuts if begin < cut < end), end})
        for a, b in pairwise(parted(own, size)):
            found += overlapping(a, b, size, overlap)
    return found


def parted(edges, size):
    """The edges of as few parts as possible, of like length. A part is made of whole sentences."""
    kept = [edges[0]]
    while kept[-1] < edges[-1]:
        begin = kept[-1]
        aim = begin + (edges[-1] - begin) / -(-(edges[-1] - begin) // size)
        later = [edge for edge in edges if edge > begin]
        near = [edge for edge in later if edge <= begin + size] or later[:1]
        kept.append(min(near, key=lambda edge: abs(edge - aim)))
    return kept


def overlapping(begin, end, size, overlap):
    """As few windows as possible over a sentence. A wordpiece is read where it is most central."""
    total = end - begin
    if total <= size:
        return [(begin, end, begin, end)] if total else []
    count = -(-(total - overlap) // (size - overlap))
    length = -(-(total + (count - 1) * overlap) // count)
    begins = [begin + round(i * (total - length) / (count - 1)) for i in range(count)]
    cuts = [(a + length + b) // 2 for a, b in pairwise(begins)]
    edges = [begin, *cuts, end]
    return [(b, b + length, edges[i], edges[i + 1]) for i, b in enumerate(begins)]


def viterbi(emissions, scores, words, tags):
    """The best legal path of tag ids. No entity begins or ends at a token that continues a word."""
    start, end, step = (
        np.where(scores[f"legal_{name}"], scores[name], -np.inf)
        for name in ("start", "end", "transitions")
    )
    # Between such tags, no entity begins or ends.
    inside = np.array(
        [
            [a == b == "O" or (a[0] in "BIM" and b[0] in "IMEL" and a[1:] == b[1:]) for b in tags]
            for a in tags
        ]
    )
    within = np.where(inside, step, -np.inf)
    score, back = start + emissions[0], []
    for row, word in zip(emissions[1:], words[1:], strict=True):
        total = score[:, None] + (within if word else step)  # from, to
        back.append(total.argmax(0))
        score = total.max(0) + row
    path = [int((score + end).argmax())]
    for source in reversed(back):
        path.append(int(source[path[-1]]))
    return path[::-1]


def spans(tags):
    """First token, last + 1 and label of each entity, for BIO, BIOES, BMES and BILUO."""
    found, begin, label = [], None, ""
    for i, tag in enumerate([*tags, "O"]):
        role, _, kind = tag.partition("-")
        if begin is not None and not (role in "IMEL" and kind == label):
            found.append((begin, i, label))
            begin = None
        if begin is None and role != "O":
            begin, label = i, kind
        if role in "ELSU":
            found.append((begin, i + 1, label))
            begin = None
    return found


def trimmed(text, tokens, found):
    """Entities by characters, without white space and marks of no width at their ends."""

    def invisible(token):
        token = text[slice(*token)]
        return token.isspace() or all(unicodedata.category(char) == "Cf" for char in token)

    for first, last, label in found:
        while first < last and invisible(tokens[first]):
            first += 1
        while first < last and invisible(tokens[last - 1]):
            last -= 1
        if first < last:
            yield tokens[first][0], tokens[last - 1][1], label
