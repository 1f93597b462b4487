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


@dataclass(frozen=True)
class ScoreMap:
    """Corrects probabilities of predicted entities along a rising line through points.

    A predicted entity is the best of several readings, so its probability is too high on average
    where the model is in doubt. No temperature corrects that (Kuleshov & Liang 2015, "Calibrated
    structured prediction"). The fit is isotonic regression (Zadrozny & Elkan 2002), with a point
    in the middle of each of its blocks (Oron & Flournoy 2017). The order of probabilities stays.

    told: probabilities as predicted. right: probabilities as corrected. Both rise strictly from 0
        to 1 and have the same length. The default changes nothing.
    Raises ValueError for other points.
    """

    told: tuple[float, ...] = (0.0, 1.0)
    right: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for points in (self.told, self.right):
            is_rising = all(a < b for a, b in itertools.pairwise(points))
            if len(points) < 2 or points[0] != 0 or points[-1] != 1 or not is_rising:
                raise ValueError(f"points of a correction must rise from 0 to 1: {points}")
        if len(self.told) != len(self.right):
            raise ValueError(
                f"a correction needs as many predicted as corrected points: it has "
                f"{len(self.told)} and {len(self.right)} points"
            )

    def __call__(self, p: float) -> float:
        """Return the corrected probability."""
        return float(np.interp(p, self.told, self.right))

    @classmethod
    def from_cfg(cls, cfg: Mapping[str, Any]) -> "ScoreMap":
        """Return the correction in a component's cfg, or the default if it has none.

        Raises BertCrfError if the points are damaged.
        """
        points = cfg.get(SCORE_MAP)
        if points is None:
            return cls()
        try:
            return cls(*(tuple(map(float, points[name])) for name in ("told", "right")))
        except (KeyError, TypeError, ValueError) as err:
            raise BertCrfError(
                f"{SCORE_MAP} in the cfg is damaged ({err}): calibrate again."
            ) from err

    @classmethod
    def fitted(cls, pairs: Iterable[tuple[float, bool]]) -> "ScoreMap":
        """Fit a correction to predicted entities.

        pairs: the probability of each entity, and whether the entity is right.
        The entities are parted by probability into blocks of at least BLOCK.
        """
        rows = np.array(sorted(pairs), dtype=np.float64).reshape(-1, 2)
        if not len(rows):
            return cls()
        chunks = np.array_split(rows, max(1, len(rows) // BLOCK))
        # shape: [blocks, 3]: number of entities, sum of probabilities, number of right ones
        blocks = _pooled(np.array([[len(chunk), *chunk.sum(0)] for chunk in chunks]))
        mean = blocks[:, 1] / blocks[:, 0]
        blocks = _pooled(blocks + HOLD * np.stack([np.ones_like(mean), mean, mean], axis=1))
        told, right = [0.0], [0.0]
        for n, probability, rate in blocks:
            point = round(float(probability / n), 6), round(float(rate / n), 6)
            if told[-1] < point[0] < 1 and right[-1] < point[1] < 1:
                told.append(point[0])
                right.append(point[1])
        return cls((*told, 1.0), (*right, 1.0))


def _pooled(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pool neighbouring blocks until the share of right entities rises. shape: [blocks, 3]."""
    from scipy.optimize import isotonic_regression

    count, right = blocks[:, 0], blocks[:, 2]
    fit = isotonic_regression(right / count, weights=count)
    return np.asarray(np.add.reduceat(blocks, fit.blocks[:-1]))
