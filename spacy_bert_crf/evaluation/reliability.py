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
