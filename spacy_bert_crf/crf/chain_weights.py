"""The weights of a linear-chain CRF as one value, with conversions to and from stored forms.

The stored forms are a checkpoint (names as in pytorch-crf 0.7.2) and a `transitions.npz`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

#: Names of the scores in a checkpoint, after the CRF's prefix.
STATE_NAMES = ("start_transitions", "end_transitions", "transitions")
#: Names of the scores and of their masks in a `transitions.npz`.
NPZ_NAMES = ("start", "end", "transitions")
NPZ_LEGAL_NAMES = ("legal_start", "legal_end", "legal_transitions")


@dataclass(frozen=True)
class ChainWeights:
    """Scores of a linear-chain CRF over K tags, and which of them a tag scheme allows.

    start: score of each tag at the first step. [K]
    end: score of each tag at the last step. [K]
    transitions: score of each pair of neighbours, `[from, to]`. [K, K]
    legal_start: whether a sequence may begin with each tag. bool [K]
    legal_end: whether a sequence may end with each tag. bool [K]
    legal_transitions: whether the second tag may follow the first. bool [K, K]
    """

    start: Tensor
    end: Tensor
    transitions: Tensor
    legal_start: Tensor
    legal_end: Tensor
    legal_transitions: Tensor

    def __post_init__(self) -> None:
        """Raises ValueError if the shapes are not those of K tags."""
        n = len(self.start) if self.start.dim() == 1 else -1
        expected = ((n,), (n,), (n, n))
        for name, tensors in (("scores", self.scores), ("masks", self.legal)):
            shapes = tuple(tuple(tensor.shape) for tensor in tensors)
            if n < 1 or shapes != expected:
                raise ValueError(f"{name} of a CRF have shapes {shapes}: expected K, K and K x K.")

    @classmethod
    def of(
        cls,
        start: ArrayLike | Tensor,
        end: ArrayLike | Tensor,
        transitions: ArrayLike | Tensor,
    ) -> "ChainWeights":
        """Weights from tensors, arrays or lists. All is legal (see `with_legal`).

        start: score of each tag at the first step. [K]
        end: score of each tag at the last step. [K]
        transitions: score of each pair of neighbours, [from, to]. [K, K]
        Raises ValueError for other shapes.
        """
        scores = [torch.as_tensor(value) for value in (start, end, transitions)]
        return cls(*scores, *(torch.ones_like(score, dtype=torch.bool) for score in scores))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], prefix: str = "crf.") -> "ChainWeights":
        """Weights from a checkpoint. All is legal. Raises KeyError for a missing name."""
        start, end, transitions = (state[prefix + name] for name in STATE_NAMES)
        return cls.of(start, end, transitions)

    @classmethod
    def from_npz(cls, arrays: Mapping[str, NDArray[Any]]) -> "ChainWeights":
        """Weights from the arrays of a `transitions.npz`. All is legal if it holds no masks.

        Raises KeyError for a missing name.
        """
        start, end, transitions = (np.asarray(arrays[name]) for name in NPZ_NAMES)
        weights = cls.of(start, end, transitions)
        if not all(name in arrays for name in NPZ_LEGAL_NAMES):
            return weights
        return weights.with_legal(*(arrays[name] for name in NPZ_LEGAL_NAMES))

    @property
    def n_tags(self) -> int:
        """K."""
        return len(self.start)

    @property
    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Start, end, transitions. [K], [K], [K, K]"""
        return self.start, self.end, self.transitions

    @property
    def legal(self) -> tuple[Tensor, Tensor, Tensor]:
        """Masks of start, end, transitions. [K], [K], [K, K]"""
        return self.legal_start, self.legal_end, self.legal_transitions

    def with_legal(
        self, start: ArrayLike, end: ArrayLike, transitions: ArrayLike
    ) -> "ChainWeights":
        """The same scores with other masks. [K], [K], [K, K]

        Raises ValueError for other shapes.
        """
        masks = [torch.as_tensor(m, dtype=torch.bool) for m in (start, end, transitions)]
        return replace(self, legal_start=masks[0], legal_end=masks[1], legal_transitions=masks[2])

    def masked(self, fill: float = -torch.inf) -> tuple[Tensor, Tensor, Tensor]:
        """Start, end and transition scores, with `fill` where illegal. [K], [K], [K, K]"""
        start, end, transitions = (
            score if bool(legal.all()) else score.masked_fill(~legal, fill)
            for score, legal in zip(self.scores, self.legal, strict=True)
        )
        return start, end, transitions

    def to_state(self, prefix: str = "crf.") -> dict[str, Tensor]:
        """The scores under the names of a checkpoint."""
        return {prefix + name: t for name, t in zip(STATE_NAMES, self.scores, strict=True)}

    def to_npz(self) -> dict[str, NDArray[Any]]:
        """Scores and masks as the arrays of a `transitions.npz`."""
        names = (*NPZ_NAMES, *NPZ_LEGAL_NAMES)
        tensors = (*self.scores, *self.legal)
        return {name: t.detach().cpu().numpy() for name, t in zip(names, tensors, strict=True)}
