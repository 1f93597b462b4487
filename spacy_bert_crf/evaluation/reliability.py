"""Calibration of entity probabilities: how reliable they are, and the best temperature.

Of the entities that are predicted with probability p, a share of p should be right. Source: Guo et
al. (2017), "On Calibration of Modern Neural Networks". No torch.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Bins of equal width between 0 and 1.
N_BINS = 10
#: Bounds of the search for a temperature.
_LOWEST, _HIGHEST = 0.05, 20.0


@dataclass(frozen=True)
class Bin:
    """The predicted entities with a probability in one part of [0, 1].

    low: lower bound of the part.
    high: upper bound of the part. It belongs to the next bin, except in the last one.
    count: number of entities.
    probability: their mean probability, 0 without entities.
    right: the share of them that is right, 0 without entities.
    """

    low: float
    high: float
    count: int
    probability: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """How well the probabilities of entities agree with the share that is right.

    bins: the N_BINS bins.
    ece: expected calibration error. It is the mean over all entities of the distance between the
        mean probability and the share of right entities in their bin.
    brier: mean squared error of the probabilities.
    count: number of entities.
    """

    bins: tuple[Bin, ...]
    ece: float
    brier: float
    count: int

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON. Empty bins have no means."""
        bins = [
            {"low": b.low, "high": b.high, "count": b.count}
            | ({"probability": b.probability, "right": b.right} if b.count else {})
            for b in self.bins
        ]
        return {"ece": self.ece, "brier": self.brier, "entities": self.count, "bins": bins}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Reliability":
        """The reliability that `to_dict` made these values of. Raises KeyError where one lacks."""
        bins = [
            Bin(b["low"], b["high"], b["count"], b.get("probability", 0.0), b.get("right", 0.0))
            for b in values["bins"]
        ]
        return cls(tuple(bins), values["ece"], values["brier"], values["entities"])

    def table(self) -> str:
        """Return a table as text, one line per bin."""
        lines = ["probability  entities    mean   right"]
        for b in self.bins:
            cells = f"{b.probability:7.3f} {b.right:7.3f}" if b.count else f"{'-':>7} {'-':>7}"
            lines.append(f"{b.low:4.1f} to {b.high:3.1f}  {b.count:8d} {cells}")
        lines.append(f"expected calibration error {self.ece:.4f} over {self.count} entities")
        return "\n".join(lines)


def reliability(pairs: Iterable[tuple[float, bool]]) -> Reliability:
    """Measure the calibration of predicted entities.

    pairs: the probability of each entity, and whether the entity is right.
    """
    rows = np.array([(p, right) for p, right in pairs], dtype=np.float64).reshape(-1, 2)
    p, right = rows.T
    where = np.searchsorted(np.arange(1, N_BINS) / N_BINS, p, side="right")
    bins, error = [], 0.0
    for i in range(N_BINS):
        here = where == i
        n = int(here.sum())
        means = (float(p[here].mean()), float(right[here].mean())) if n else (0.0, 0.0)
        error += n * abs(means[0] - means[1])
        bins.append(Bin(i / N_BINS, (i + 1) / N_BINS, n, *means))
    n = len(rows)
    brier = float(((p - right) ** 2).mean()) if n else 0.0
    return Reliability(tuple(bins), error / n if n else 0.0, brier, n)


def best_temperature(loss: Callable[[float], float], precision: float = 1e-3) -> float:
    """Find the temperature with the smallest loss, between 0.05 and 20.

    The search is scipy's bounded method of Brent over the logarithm of the temperature.

    loss: a function of the temperature with a single minimum (see `calibrate.path_loss`).
    precision: relative precision of the temperature.
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_temperature: loss(math.exp(log_temperature)),
        bounds=(math.log(_LOWEST), math.log(_HIGHEST)),
        method="bounded",
        options={"xatol": precision / 2},
    )
    return math.exp(found.x)
