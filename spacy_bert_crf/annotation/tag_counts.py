"""Tag statistics of a corpus as the initial scores of a CRF. Pure numpy.

The counts are how often tags begin a doc, follow one another and end it. A CRF with these scores
and no emissions is the Markov chain of the corpus's tags. So training need not learn first that
most tokens are outside.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

#: The smallest score, so that a transition that was never seen stays possible.
FLOOR = -6.0


class ChainScores(NamedTuple):
    """Log-probabilities of a Markov chain over K tags.

    start: of the first tag. [K]
    transitions: of each next tag, [from, to]. [K, K]
    end: of the end after each tag. [K]
    """

    start: NDArray[np.float32]
    transitions: NDArray[np.float32]
    end: NDArray[np.float32]


class TagCounts:
    """Counts of known tags over docs.

    n_tags: K.
    """

    def __init__(self, n_tags: int) -> None:
        self.start = np.zeros(n_tags)
        self.pairs = np.zeros((n_tags, n_tags))
        self.end = np.zeros(n_tags)

    def add(self, allowed: NDArray[np.bool_]) -> None:
        """Count one doc.

        allowed: the tags that each token may have. bool [tokens, K]
        """
        if not len(allowed):
            return
        known = allowed.sum(1) == 1
        tags = allowed.argmax(1)
        both = known[:-1] & known[1:]
        np.add.at(self.pairs, (tags[:-1][both], tags[1:][both]), 1)
        if known[0]:
            self.start[tags[0]] += 1
        if known[-1]:
            self.end[tags[-1]] += 1

    def scores(self) -> ChainScores:
        """Log-probabilities with add-one smoothing, none below FLOOR."""
        leave = np.concatenate([self.pairs, self.end[:, None]], axis=1) + 1
        leave = np.log(leave / leave.sum(1, keepdims=True))
        start = np.log((self.start + 1) / (self.start + 1).sum())
        parts = (start, leave[:, :-1], leave[:, -1])
        return ChainScores(*(np.maximum(part, FLOOR).astype(np.float32) for part in parts))


def joined_counts(
    parts: Mapping[Optional[frozenset[str]], TagCounts], labels: Sequence[str]
) -> TagCounts:
    """The counts of docs that cover different labels, as if all docs covered all.

    The counts of a label come from the docs that cover it, multiplied by all docs over these. What
    is then left is outside.

    parts: counts of the docs that cover the same labels, in which all else is O. None for all.
    labels: the label of each of the K tags; "" for O, the first.
    """
    found = TagCounts(len(labels))
    seen = {
        covers: np.array([covers is None or not label or label in covers for label in labels])
        for covers in parts
    }
    for name in ("start", "end", "pairs"):
        counts = getattr(found, name)
        # In how many places each tag, or pair of tags, could have been seen.
        reach, total = np.zeros_like(counts), 0.0
        for covers, own in parts.items():
            here = seen[covers]
            here = here[:, None] & here if counts.ndim == 2 else here
            size = getattr(own, name).sum()
            counts[here] += getattr(own, name)[here]
            reach[here] += size
            total += size
        counts *= np.divide(total, reach, out=np.zeros_like(counts), where=reach > 0)
        counts.flat[0] = max(total - (counts.sum() - counts.flat[0]), 0.0)
    return found
