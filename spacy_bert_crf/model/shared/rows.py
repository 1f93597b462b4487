"""The rows of several docs as one tensor, and as an array for each doc."""

from collections.abc import Sequence
from typing import Any, Optional, cast

import numpy as np
import torch
from thinc.api import torch2xp
from thinc.types import Floats2d
from torch import Tensor

from ..._devices import as_tensor


class SplitRows(list[Floats2d]):
    """The rows of each doc as thinc's arrays, which are views of one array.

    rows: the array of all docs. [N, width]
    lengths: number of rows of each doc.
    """

    def __init__(self, rows: Floats2d, lengths: list[int]) -> None:
        ends = np.cumsum(lengths)
        super().__init__(rows[end - n : end] for end, n in zip(ends, lengths, strict=True))
        self._rows, self._parts = rows, tuple(self)

    @property
    def whole(self) -> Optional[Floats2d]:
        """The array of all docs; None if the list was changed."""
        same = len(self) == len(self._parts)
        same = same and all(a is b for a, b in zip(self, self._parts, strict=True))
        return self._rows if same else None

    def __reduce__(self) -> tuple[Any, ...]:
        # The arrays of a copy would be views of nothing.
        return list, (list(self),)


def join_rows(arrays: Sequence[Floats2d], device: torch.device) -> Tensor:
    """One tensor of the arrays of docs. [N, width]

    Arrays that `split_rows` made are not copied. CuPy does not join the others: it does so only on
    the device that is current in the thread, and only where thinc uses CuPy in the thread.

    arrays: the rows of each doc, of numpy or CuPy, on any device. [tokens, width] each
    device: device of the result.
    """
    whole = arrays.whole if isinstance(arrays, SplitRows) else None
    if whole is not None:
        return as_tensor(whole).to(device)
    # spacy-transformers gives an empty doc a vector of shape (0, 0).
    filled = [rows for rows in arrays if len(rows)] or list(arrays[:1])
    if len(filled) > 1 and all(isinstance(rows, np.ndarray) for rows in filled):
        return torch.from_numpy(np.concatenate(filled)).to(device)
    tensors = [as_tensor(rows).to(device) for rows in filled]
    return torch.cat(tensors) if len(tensors) > 1 else tensors[0]


def split_rows(rows: Tensor, lengths: list[int]) -> SplitRows:
    """The rows of each doc as thinc's arrays.

    rows: the rows of all docs. [N, width]
    lengths: number of rows of each doc.
    """
    return SplitRows(cast(Floats2d, torch2xp(rows)), lengths)
