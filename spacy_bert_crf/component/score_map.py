"""Correction of the probabilities of predicted entities, fitted by `calibrate`."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BertCrfError

#: Least number of entities of a ScoreMap's block, and how many of unchanged probability are added
#: to each.
BLOCK, HOLD = 50, 10
#: Key of a component's cfg that holds the points of a ScoreMap; it may be missing.
SCORE_MAP = "score_map"


@dataclass(frozen=True)
class ScoreMap:
    """Probabilities of entities that were found, corrected: a rising line through points.

    Those that made the best path are, of several readings, the ones that looked best, and so are
    told too high where they are in doubt; no temperature mends that (Kuleshov & Liang 2015,
    "Calibrated structured prediction"). Isotonic regression (Zadrozny & Elkan 2002) with points
    in the middle of its blocks (Oron & Flournoy 2017), so that a likelier entity stays likelier.

    told, right: the points, both rising strictly from 0 to 1. The default changes nothing.
    Raises ValueError for points that do not.
    """

    told: tuple[float, ...] = (0.0, 1.0)
    right: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for points in (self.told, self.right):
            rise = all(a < b for a, b in itertools.pairwise(points))
            if len(points) < 2 or points[0] != 0 or points[-1] != 1 or not rise:
                raise ValueError(f"points of a correction must rise from 0 to 1: {points}")
        if len(self.told) != len(self.right):
            raise ValueError(f"{len(self.told)} and {len(self.right)} points of a correction")

    def __call__(self, p: float) -> float:
        """A probability, corrected."""
        return float(np.interp(p, self.told, self.right))

    @classmethod
    def from_cfg(cls, cfg: Mapping[str, Any]) -> "ScoreMap":
        """The one in a component's cfg, or one that changes nothing.

        Raises BertCrfError if it is damaged.
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
        """The one that fits (probability, is it right).

        Of blocks of BLOCK entities or more, each held back by HOLD, for small corpora.
        """
        rows = np.array(sorted(pairs), dtype=np.float64).reshape(-1, 2)
        chunks = np.array_split(rows, max(1, len(rows) // BLOCK)) if len(rows) else []
        # shape: (3,) each: entities, sum of probabilities, number of right ones
        blocks = _rising([np.array([len(chunk), *chunk.sum(0)]) for chunk in chunks])
        held = [block + HOLD * np.array([1, *2 * [block[1] / block[0]]]) for block in blocks]
        told, right = [0.0], [0.0]
        for n, probability, rate in _rising(held):
            point = round(float(probability / n), 6), round(float(rate / n), 6)
            if told[-1] < point[0] < 1 and right[-1] < point[1] < 1:
                told.append(point[0])
                right.append(point[1])
        return cls((*told, 1.0), (*right, 1.0))


def _rising(blocks: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Pool neighbours until the rate of right ones rises: Ayer et al. (1955)."""
    out: list[NDArray[np.float64]] = []
    for block in blocks:
        out.append(block)
        while len(out) > 1 and out[-2][2] / out[-2][0] >= out[-1][2] / out[-1][0]:
            last = out.pop()
            out[-1] = out[-1] + last
    return out
