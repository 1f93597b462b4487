"""BERT for prediction on CPUs, without padding: the windows of a pass stand one after the other."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import rows_read, windows_of
from .embeddings import embeds_by_rows, padding_of, position_table
from .fused import FusedBertLayer, round_size


class CpuBert:
    """A BERT encoder with fused layers, ready for prediction. Safe from several threads.

    model: a copy of a Hugging Face encoder for which `has_fused_layers` is true.
    """

    def __init__(self, model: Any) -> None:
        embeddings = model.embeddings
        #: See `positions_of`.
        self.padding = padding_of(embeddings)
        self._words: Tensor = embeddings.word_embeddings.weight.detach()
        self._positions = position_table(embeddings)
        self._norm = embeddings.LayerNorm
        self._project = getattr(model, "embeddings_project", None)  # ELECTRA
        self.layers: list[FusedBertLayer] = list(model.encoder.layer)

    def __call__(self, ids: Tensor, positions: Tensor, lengths: Sequence[int]) -> Tensor:
        """Hidden states of windows that stand one after the other. [N, width]

        ids: input ids of all windows. [N]
        positions: position of each id. [N]
        lengths: number of ids of each window.
        """
        n, windows = len(ids), windows_of(lengths)
        rows = self._words.new_empty((round_size(rows_read(windows)), self._words.shape[1]))
        rows[n:] = 0
        torch.index_select(self._words, 0, ids, out=rows[:n])
        if self.padding is None:
            self._add_positions(rows, lengths)
        else:
            rows[:n] += F.embedding(positions, self._positions)
        rows = self._norm(rows)
        if self._project is not None:
            rows[n:] = 0
            rows = self._project(rows)
        for layer in self.layers:
            rows = layer.rows(rows, n, windows)
        return rows[:n]

    def _add_positions(self, rows: Tensor, lengths: Sequence[int]) -> None:
        """Add what positions from 0 on give, in place. It is the same for windows of one length."""
        first = 0
        for length, same in groupby(lengths):
            last = first + length * len(list(same))
            rows[first:last].view(-1, length, rows.shape[1]).add_(self._positions[:length])
            first = last


def has_fused_layers(model: Any) -> bool:
    """Whether CpuBert computes the same as a copy of an encoder."""
    layers: Any = getattr(getattr(model, "encoder", None), "layer", None)
    is_fused = bool(layers) and all(isinstance(layer, FusedBertLayer) for layer in layers)
    return is_fused and embeds_by_rows(model)
