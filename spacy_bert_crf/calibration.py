"""Are probabilities of entities what they say? Reliability, its figure, and a temperature.

Of entities that are told with probability p, a share of p should be right. Guo et al. (2017), "On
Calibration of Modern Neural Networks". Pure numpy.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Bins of equal width between 0 and 1.
N_BINS = 10
#: Temperatures that are tried lie between these.
_LOWEST, _HIGHEST = 0.05, 20.0
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Bin:
    """Entities whose probability lies in one part of [0, 1].

    low, high: the part; its upper end belongs to the next one, but for 1.
    count: how many. probability: their mean. right: the share of them that is right.
    """

    low: float
    high: float
    count: int
    probability: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """How well probabilities fit what came true.

    bins: all N_BINS. ece: expected calibration error, the mean over all entities of the distance
        between probability and share of right ones in their bin. brier: mean squared error.
    """

    bins: tuple[Bin, ...]
    ece: float
    brier: float
    count: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON. Empty bins have no means."""
        bins = [
            {"low": b.low, "high": b.high, "count": b.count}
            | ({"probability": b.probability, "right": b.right} if b.count else {})
            for b in self.bins
        ]
        return {"ece": self.ece, "brier": self.brier, "entities": self.count, "bins": bins}

    def table(self) -> str:
        """As text."""
        lines = ["probability  entities    mean   right"]
        for b in self.bins:
            cells = f"{b.probability:7.3f} {b.right:7.3f}" if b.count else f"{'-':>7} {'-':>7}"
            lines.append(f"{b.low:4.1f} to {b.high:3.1f}  {b.count:8d} {cells}")
        lines.append(f"expected calibration error {self.ece:.4f} over {self.count} entities")
        return "\n".join(lines)


def reliability(pairs: Iterable[tuple[float, bool]]) -> Reliability:
    """pairs: probability of each predicted entity, and whether it is right."""
    rows = np.array([(p, right) for p, right in pairs], dtype=np.float64).reshape(-1, 2)
    p, right = rows.T
    where = np.searchsorted(np.arange(1, N_BINS) / N_BINS, p, side="right")
    bins, off = [], 0.0
    for i in range(N_BINS):
        here = where == i
        n = int(here.sum())
        means = (float(p[here].mean()), float(right[here].mean())) if n else (0.0, 0.0)
        off += n * abs(means[0] - means[1])
        bins.append(Bin(i / N_BINS, (i + 1) / N_BINS, n, *means))
    n = len(rows)
    brier = float(((p - right) ** 2).mean()) if n else 0.0
    return Reliability(tuple(bins), off / n if n else 0.0, brier, n)


@dataclass(frozen=True)
class ScoreMap:
    """Log-odds of entities that were found, corrected: slope * log-odds + offset.

    Those that made the best path are, of several readings, the ones that looked best, and so are
    told too high where they are in doubt; no temperature mends that (Platt 1999, "Probabilistic
    outputs for support vector machines"; for entities of a CRF: Kuleshov & Liang 2015,
    "Calibrated structured prediction").
    """

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, p: float) -> float:
        """A probability, corrected."""
        log_odds = self.slope * _log_odds(p) + self.offset
        return 1 / (1 + math.exp(-log_odds))

    @classmethod
    def fitted(cls, pairs: Iterable[tuple[float, bool]]) -> "ScoreMap":
        """The one with the least log loss on (probability, is it right), by Newton's method.

        Held back towards no correction, for small corpora.
        """
        rows = np.array([(_log_odds(p), right) for p, right in pairs], dtype=np.float64)
        x, right = rows.reshape(-1, 2).T
        design = np.stack([x, np.ones_like(x)], axis=1)
        start = np.array([1.0, 0.0])
        found = start.copy()
        for _ in range(50):
            p = 1 / (1 + np.exp(-design @ found))
            gradient = design.T @ (p - right) + _HOLD * (found - start)
            hessian = (design.T * (p * (1 - p))) @ design + _HOLD * np.eye(2)
            step = np.linalg.solve(hessian, gradient)
            found -= step
            if np.abs(step).max() < 1e-9:
                break
        return cls(max(float(found[0]), _LEAST_SLOPE), float(found[1]))


#: How much a ScoreMap is held back, of the order of so many entities.
_HOLD = 10.0
#: So that a likelier entity is never told to be less likely.
_LEAST_SLOPE = 0.05
#: Probabilities closer to 0 and 1 than this count as this close.
_CLOSEST = 1e-7


def _log_odds(p: float) -> float:
    p = min(max(p, _CLOSEST), 1 - _CLOSEST)
    return math.log(p / (1 - p))


def best_temperature(loss: Callable[[float], float], precision: float = 1e-3) -> float:
    """The temperature with the least loss, by golden-section search over its logarithm.

    loss: has one minimum (see calibrate.path_loss).
    precision: relative, of what is found.
    """
    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(math.exp(left)), loss(math.exp(right))
    while high - low > precision:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(math.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(math.exp(right))
    return math.exp((low + high) / 2)
