"""The order of steps of right-padded sequences."""

import torch
from torch import Tensor


class Order:
    """Row indices that reverse right-padded sequences and pick their last steps.

    mask: True on real steps. [T, B]
    last: index of the last step of each sequence. [B]
    """

    def __init__(self, mask: Tensor) -> None:
        n_batch, n_steps = mask.shape
        # shape: (T, B)
        self.mask = mask.T.contiguous()
        self.last = self.mask.sum(0) - 1
        steps = torch.arange(n_steps, device=mask.device).unsqueeze(1)
        columns = torch.arange(n_batch, device=mask.device)
        # Padding keeps its place. shape: (T * B,)
        self._flip = (
            torch.where(self.mask, self.last - steps, steps) * n_batch + columns
        ).flatten()
        self._last_row = self.last * n_batch + columns

    def reverse(self, rows: Tensor) -> Tensor:
        """Each sequence in reverse order. [T, B, K]"""
        return rows.reshape(-1, rows.shape[2]).index_select(0, self._flip).view(rows.shape)

    def reverse_second(self, pairs: Tensor, out: Tensor) -> None:
        """The second row of each step, in reverse order. [T, B, 2, K] -> [T, B, K]"""
        n_tags = pairs.shape[3]
        where = 2 * self._flip + 1
        torch.index_select(pairs.view(-1, n_tags), 0, where, out=out.view(-1, n_tags))

    def last_step(self, rows: Tensor) -> Tensor:
        """The last step of each sequence. [T, B, K] -> [B, K]"""
        return rows.reshape(-1, rows.shape[2]).index_select(0, self._last_row)
