"""Correction of the probabilities of predicted entities, fitted by `calibrate`."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BertCrfError

#: Smallest number of entities in a block of the fit.
BLOCK = 50
#: Entities of unchanged probability that are added to each block, so that small blocks move less.
HOLD = 10
#: Key of a component's cfg that holds the points of a ScoreMap; it may be missing.
SCORE_MAP = "score_map"
#: Names of the predicted and of the corrected points in the cfg. Saved pipelines have them.
_CFG_NAMES = ("told", "right")


@dataclass(frozen=True)
class ScoreMap:
    """Corrects probabilities of predicted entities along a rising line through points.

    A predicted entity is the best of several readings, so its probability is too high on average
    where the model is in doubt. No temperature corrects that (Kuleshov & Liang 2015, "Calibrated
    structured prediction"). The fit is isotonic regression (Zadrozny & Elkan 2002), with a point
    in the middle of each of its blocks (Oron & Flournoy 2017). The order of probabilities stays.

    predicted: probabilities as predicted. They rise strictly from 0 to 1.
    corrected: the corrected probability of each of them. They rise strictly from 0 to 1.
    The default changes nothing.
    Raises ValueError for other points, or tuples of different lengths.
    """

    predicted: tuple[float, ...] = (0.0, 1.0)
    corrected: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for points in (self.predicted, self.corrected):
            is_rising = all(a < b for a, b in itertools.pairwise(points))
            if len(points) < 2 or points[0] != 0 or points[-1] != 1 or not is_rising:
                raise ValueError(f"points of a correction must rise from 0 to 1: {points}")
        if len(self.predicted) != len(self.corrected):
            raise ValueError(
                f"a correction needs as many predicted as corrected points: it has "
                f"{len(self.predicted)} and {len(self.corrected)} points"
            )

    def __call__(self, p: float) -> float:
        """Return the corrected probability."""
        return float(np.interp(p, self.predicted, self.corrected))

    @classmethod
    def from_cfg(cls, cfg: Mapping[str, Any]) -> "ScoreMap":
        """Return the correction in a component's cfg, or the default if it has none.

        Raises BertCrfError if the points are damaged.
        """
        points = cfg.get(SCORE_MAP)
        if points is None:
            return cls()
        try:
            return cls(*(tuple(map(float, points[name])) for name in _CFG_NAMES))
        except (KeyError, TypeError, ValueError) as err:
            raise BertCrfError(
                f"{SCORE_MAP} in the cfg is damaged ({err}): calibrate again."
            ) from err

    def to_cfg(self) -> dict[str, tuple[float, ...]]:
        """Return the entry of a component's cfg from which `from_cfg` restores the correction."""
        return dict(zip(_CFG_NAMES, (self.predicted, self.corrected), strict=True))

    @classmethod
    def fitted(cls, pairs: Iterable[tuple[float, bool]]) -> "ScoreMap":
        """Fit a correction to predicted entities.

        pairs: the probability of each entity, and whether the entity is right.
        The entities are sorted by probability and divided into blocks of BLOCK or more.
        """
        rows = np.array(sorted(pairs), dtype=np.float64).reshape(-1, 2)
        if not len(rows):
            return cls()
        chunks = np.array_split(rows, max(1, len(rows) // BLOCK))
        # shape: [blocks, 3]: number of entities, sum of probabilities, number of right ones
        blocks = _pooled(np.array([[len(chunk), *chunk.sum(0)] for chunk in chunks]))
        mean = blocks[:, 1] / blocks[:, 0]
        blocks = _pooled(blocks + HOLD * np.stack([np.ones_like(mean), mean, mean], axis=1))
        predicted, corrected = [0.0], [0.0]
        for n, probability, rate in blocks:
            point = round(float(probability / n), 6), round(float(rate / n), 6)
            if predicted[-1] < point[0] < 1 and corrected[-1] < point[1] < 1:
                predicted.append(point[0])
                corrected.append(point[1])
        return cls((*predicted, 1.0), (*corrected, 1.0))


def _pooled(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pool neighbouring blocks until the share of right entities rises. [blocks, 3]"""
    from scipy.optimize import isotonic_regression

    count, right = blocks[:, 0], blocks[:, 2]
    fit = isotonic_regression(right / count, weights=count)
    return np.asarray(np.add.reduceat(blocks, fit.blocks[:-1]))
