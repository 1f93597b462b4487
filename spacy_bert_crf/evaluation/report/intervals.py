"""Confidence intervals of scores, by the bootstrap over documents."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..scores import SpanTuple

#: Number of resampled corpora, and the share of them that an interval covers.
N_RESAMPLES, COVERAGE = 1000, 0.95
#: Weights of docs that are drawn at a time.
_CELLS = 1 << 22


class Interval(NamedTuple):
    """The lower and the upper bound of a score, from 0 to 1."""

    low: float
    high: float


class Intervals(NamedTuple):
    """Intervals of precision, recall and F1."""

    p: Interval
    r: Interval
    f: Interval


def bootstrap(
    pairs: Iterable[tuple[Sequence[SpanTuple], Sequence[SpanTuple]]], seed: int = 0
) -> dict[str, Intervals]:
    """Intervals by label, and of all labels together under "".

    Whole docs are drawn with replacement, since the entities of a doc depend on each other. An
    interval is the middle 95 % of the scores of 1,000 such corpora. A ratio is 0 where its
    denominator is. Source: Efron & Tibshirani (1993), "An Introduction to the Bootstrap", chapter
    13 (percentile intervals).

    pairs: predicted and gold (start, end, label) entities of each doc.
    seed: seed of the random numbers. The same seed gives the same intervals.
    """
    docs = [(set(predicted), set(gold)) for predicted, gold in pairs]
    labels = sorted({span[2] for predicted, gold in docs for span in (*predicted, *gold)})
    places = {label: i for i, label in enumerate(labels, 1)}
    # Right, predicted and gold entities of each doc; column 0 is of all labels.
    counts = np.zeros((len(docs), len(labels) + 1, 3))  # shape: (docs, labels + 1, 3)
    for row, (predicted, gold) in zip(counts, docs, strict=True):
        for kind, spans in enumerate((predicted & gold, predicted, gold)):
            for _, _, label in spans:
                row[0, kind] += 1
                row[places[label], kind] += 1
    resampled = _resample(counts, np.random.default_rng(seed))
    right, n_predicted, n_gold = np.moveaxis(resampled, 2, 0)  # each of shape: (N, labels + 1)
    scores = [
        np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
        for part, whole in (
            (right, n_predicted),
            (right, n_gold),
            (2 * right, n_predicted + n_gold),
        )
    ]
    tail = (1 - COVERAGE) / 2
    bounds = [np.quantile(score, [tail, 1 - tail], axis=0) for score in scores]
    return {
        label: Intervals(*(Interval(float(low[i]), float(high[i])) for low, high in bounds))
        for i, label in enumerate(["", *labels])
    }


def _resample(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts of corpora of as many docs, drawn with replacement. [N_RESAMPLES, labels + 1, 3]"""
    n_docs = len(counts)
    if not n_docs:
        return np.zeros((N_RESAMPLES, *counts.shape[1:]))
    step = max(1, _CELLS // n_docs)
    parts = []
    for begin in range(0, N_RESAMPLES, step):
        size = min(step, N_RESAMPLES - begin)
        # How often each doc is drawn. shape: (size, docs)
        drawn = rng.multinomial(n_docs, np.full(n_docs, 1 / n_docs), size=size)
        parts.append(np.tensordot(drawn.astype(np.float64), counts, axes=1))
    return np.concatenate(parts)
