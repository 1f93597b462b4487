"""Choose texts that are unsure and differ from one another.

Texts are compared by vectors of their character n-grams. The choice is greedy, as maximal marginal
relevance (Carbonell & Goldstein 1998): the next text is the one with the highest value. Each text
that is chosen lowers the values of those that are like it.
"""

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import xxhash
from numpy.typing import NDArray

#: Lengths of the n-grams.
_SIZES = (2, 3, 4)
#: Places of a vector. N-grams are hashed to them.
_WIDTH = 2**18
#: Characters of a text that are compared.
_COMPARED = 5_000
#: Unrelated texts have some n-grams in common. A similarity of this size counts as none.
_CHANCE = 0.15

FloatArray = NDArray[np.float64]


def ngram_vectors(texts: Sequence[str]) -> Any:
    """Vectors of texts, of length 1, so that their products are cosines from 0 to 1.

    They hold the square roots of the counts of character n-grams. White space and case do not
    count.

    RETURNS: a sparse matrix of scipy, rows as the texts. [texts, _WIDTH]
    """
    from scipy.sparse import csr_array, diags_array

    places: list[int] = []
    starts = [0]
    for text in texts:
        plain = f" {''.join(text.lower().split())[:_COMPARED]} "
        places += (_place(plain[i : i + n]) for n in _SIZES for i in range(len(plain) - n + 1))
        starts.append(len(places))
    counted = csr_array((np.ones(len(places)), places, starts), shape=(len(texts), _WIDTH))
    counted.sum_duplicates()
    lengths = np.sqrt(np.maximum(counted.sum(axis=1), 1.0))
    counted.data = np.sqrt(counted.data)
    return csr_array(diags_array(1 / lengths) @ counted)


def _place(ngram: str) -> int:
    return xxhash.xxh3_64_intdigest(ngram.encode("utf8", "surrogatepass")) % _WIDTH


def choose(
    texts: Sequence[str],
    scores: Sequence[float],
    *,
    number: Optional[int] = None,
    characters: Optional[int] = None,
    diversity: float = 1.0,
    near: float = 0.8,
) -> list[int]:
    """Choose texts one by one, each time the one with the highest value.

    The value of a text is its score, times (1 - s) ** diversity for each text chosen before. s is
    0 for texts that are as alike as unrelated ones, and 1 for equal ones. Of several texts with
    the same value, the first is chosen. A text that does not fit into what is left of the budget
    is passed over.

    texts: the texts.
    scores: their scores, 0 or more.
    number: number of texts that are chosen; None for any.
    characters: largest number of characters of the texts that are chosen; None for any.
    diversity: how much likeness counts; 0 for not at all.
    near: texts with at least this cosine similarity to a chosen one are never chosen.
    RETURNS: indices of the texts, in the order of the choice.
    """
    vectors = ngram_vectors(texts)
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    values = np.array(scores, dtype=np.float64)
    is_left = np.ones(len(values), dtype=bool)
    budget = sizes.sum() if characters is None else characters
    chosen: list[int] = []
    while number is None or len(chosen) < number:
        is_left &= sizes <= budget
        if not is_left.any():
            break
        best = int(np.argmax(np.where(is_left, values, -1.0)))
        chosen.append(best)
        budget -= sizes[best]
        # shape: [texts]
        likeness = vectors @ vectors[[best]].toarray()[0]
        is_left &= likeness < near
        is_left[best] = False
        above_chance = np.clip((likeness - _CHANCE) / (1 - _CHANCE), 0.0, 1.0)
        values *= (1 - above_chance) ** diversity
    return chosen
