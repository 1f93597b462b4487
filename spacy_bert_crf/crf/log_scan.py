"""Forward-backward on scores, for batches whose probabilities underflow.

A step is a log-sum-exp over K * K, so it takes several times as long as `ProbabilityScan`, whose
interface and shapes it has. `wide_dtype` and `Order` are common to all scans.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .forward_backward import Weights


def wide_dtype(device: torch.device) -> torch.dtype:
    """The dtype of sums over steps: float64, or float32 on a device without it."""
    return torch.float32 if device.type == "mps" else torch.float64


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


class LogScan:
    """Forward-backward on scores. Where there is no path, log_z is -inf and marginals are 0.

    log_z: log Z of each sequence. [B]
    alpha, gamma: as in ProbabilityScan, as scores. [T, B, K]
    incoming: alpha without the emission of its step, as scores. [T, B, K]
    log_scale: the number that each step subtracted from alpha. [T, B]
    """

    def __init__(
        self,
        emissions: Tensor,
        weights: "Weights",
        order: "Order",
        allowed: Optional[Tensor],
        both: bool,
    ) -> None:
        self.order, self._weights = order, weights
        scores = emissions.detach().to(weights.transitions.dtype)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, weights.excluded)
        # shape: (T, B, K)
        scores = scores.transpose(0, 1).contiguous()
        start, end, transitions = weights.start, weights.end, weights.transitions
        self.alpha, self.incoming, top = _log_scan(scores, start, transitions)
        self.log_scale = top.masked_fill(~order.mask, 0.0)
        log_final = torch.logsumexp(order.last_step(self.alpha) + end, dim=1)
        self.log_z = log_final + self.log_scale.sum(0)
        if both:
            self.gamma = order.reverse(_log_scan(order.reverse(scores), end, transitions.T)[0])

    def gradient(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of log Z: unary marginals [T, B, K], summed pair marginals [K, K].

        grad: the weight of each sequence. [B]
        """
        sums = torch.zeros_like(self._weights.transitions)
        for pairs in self._pair_marginals():
            sums += (pairs * grad[None, :, None, None]).sum((0, 1))
        return self.marginals() * grad[None, :, None], sums

    def marginals(self) -> Tensor:
        """Probability of each tag at each step, 0 in padding. [T, B, K]"""
        there = self.order.mask & (self.log_z != -torch.inf)
        joint = torch.softmax(self.incoming + self.gamma, dim=2)
        return joint.masked_fill(~there.unsqueeze(2), 0.0)

    def expected_pairs(self, values: Tensor) -> Tensor:
        """Expectation of the sum of values[from, to] over a sequence. [K, K] -> [B]"""
        out = torch.zeros_like(self.log_z)
        for pairs in self._pair_marginals():
            out += (pairs * values).sum((0, 2, 3))
        return out

    def pair_counts(self) -> Tensor:
        """Expected number of times that one tag follows another. [B, K_from, K_to]"""
        counts = self.log_z.new_zeros((len(self.log_z), *self._weights.transitions.shape))
        for pairs in self._pair_marginals():
            counts += pairs.sum(0)
        return counts

    def logs(self) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, gamma [T, B, K] and total [T, B] as scores."""
        return self.alpha, self.gamma, torch.logsumexp(self.incoming + self.gamma, dim=2)

    def _pair_marginals(self) -> Iterator[Tensor]:
        """Pair marginals [t, B, K_from, K_to] for t steps at a time, to bound the memory."""
        alpha, gamma, transitions = self.alpha, self.gamma, self._weights.transitions
        there = (self.order.mask & (self.log_z != -torch.inf))[:, :, None, None]
        n_steps, n_batch, n_tags = alpha.shape
        # shape of a part: (size, B, K_from, K_to)
        size = max(1, 4_000_000 // max(1, n_batch * n_tags * n_tags))
        for i in range(0, n_steps - 1, size):
            j = min(i + size, n_steps - 1)
            pairs = alpha[i:j, :, :, None] + gamma[i + 1 : j + 1, :, None, :] + transitions
            pairs = torch.softmax(pairs.flatten(2), dim=2).view_as(pairs)
            yield pairs.masked_fill(~there[i + 1 : j + 1], 0.0)


def _log_scan(
    emissions: Tensor, first: Tensor, transitions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Forward variables with and without their step's emission [T, B, K], and their scales [T, B].

    The first are relative to the largest entry of their step, so that rounding does not grow with
    the length. The second are in the scale of the step before.
    """
    incoming = first.expand_as(emissions[0])
    states: list[Tensor] = []
    incomings, tops = [], []
    for step, scores in enumerate(emissions):
        if step:
            incoming = torch.logsumexp(states[-1].unsqueeze(2) + transitions, dim=1)
        state = incoming + scores
        top = state.amax(1, keepdim=True)
        top = top.masked_fill(top == -torch.inf, 0.0)  # Without a path, -inf - -inf is nan.
        states.append(state - top)  # Values at padding are masked later.
        incomings.append(incoming)
        tops.append(top)
    return torch.stack(states), torch.stack(incomings), torch.stack(tops).squeeze(2)
