"""Tag statistics of a corpus as the initial scores of a CRF. Pure numpy.

The counts are how often tags begin a doc, follow one another and end it. A CRF with these scores
and no emissions is the Markov chain of the corpus's tags. So training need not learn first that
most tokens are outside.
"""

from collections.abc import Iterable
from typing import NamedTuple

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


def count_tags(allowed: Iterable[NDArray[np.bool_]], n_tags: int) -> TagCounts:
    """Counts over docs.

    allowed: the tags that each token may have, bool [tokens, K] for each doc.
    n_tags: K.
    """
    counts = TagCounts(n_tags)
    for own in allowed:
        counts.add(own)
    return counts
