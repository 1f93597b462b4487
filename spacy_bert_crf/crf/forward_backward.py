"""Forward-backward over a batch of sequences: log Z, marginals, and the gradient of log Z.

`LogPartition` and `PathScore` give both to torch.autograd, with explicit gradients.

Rabiner (1989), "A Tutorial on Hidden Markov Models". There are two scans with one interface.
`ProbabilityScan` works on probabilities in float64 and rescales them every few steps. A step is
one matrix product and one product with the emissions. `LogScan` works on scores: a step is a
log-sum-exp over K * K. The first is several times faster, but underflows below 1e-290 of the
largest value. `scan` checks for underflow, and takes the second where it happened. On CUDA,
`KernelScan` is the second by Triton kernels.

Shapes: B sequences, T steps, K tags, padded on the right. Inside, tensors are time-major, so that
each step is contiguous. The backward variables are the forward variables of the reversed sequence
with transposed transitions, so that one scan computes both directions.
"""

from typing import TYPE_CHECKING, Any, Optional, Union

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .kernels.availability import use_kernels
from .log_scan import LogScan, Order, wide_dtype

if TYPE_CHECKING:
    from .kernels.scan import KernelScan

#: Score of excluded tags and transitions in training. Its exp() is 0. It is finite, because
#: inf - inf in a gradient is nan.
EXCLUDED = -1e4
#: Number of steps between two rescalings of probabilities. A step multiplies them by K at most.
_RESCALE = 8
#: Entries of a scan below this count as underflow. Above it, errors are below rounding.
_LOST = 1e-290


class Weights:
    """Scores of start [K], end [K] and transitions [from, to], detached, in the scans' dtype.

    excluded: the score that excluded entries have, EXCLUDED or -inf. All entries at or below
        EXCLUDED count as excluded.
    """

    def __init__(
        self, start: Tensor, end: Tensor, transitions: Tensor, excluded: float = EXCLUDED
    ) -> None:
        wide = wide_dtype(transitions.device)
        self.start, self.end = start.detach().to(wide), end.detach().to(wide)
        self.transitions = transitions.detach().to(wide)
        self.excluded = excluded


Scan = Union["ProbabilityScan", LogScan, "KernelScan"]


def scan(
    emissions: Tensor,
    weights: Weights,
    mask: Tensor,
    allowed: Optional[Tensor],
    both: bool = True,
    whole: bool = True,
) -> Scan:
    """Run the fastest scan that is exact for this batch.

    The host reads one value, or none where there are kernels.

    emissions: [B, T, K]
    weights: scores of start, end and transitions.
    mask: True on real steps. bool [B, T]
    allowed: tags that each step may have. bool [B, T, K], None for all
    both: whether to compute the backward variables too. Only `log_z` does not need them.
    whole: whether methods other than those for gradients will be called.
    """
    # Inference mode saves a fifth of the time. Autograd refuses its tensors later, so only a clone
    # of log_z and tensors computed from the others leave this module.
    with torch.inference_mode():
        done: Optional[Scan] = None
        if use_kernels(emissions):
            from .kernels.scan import KernelScan

            done = KernelScan(emissions, weights, mask, allowed, both, both and whole)
        elif emissions.device.type != "mps":  # MPS has no float64.
            fast = ProbabilityScan(emissions, weights, mask, allowed, both)
            done = None if bool(fast.lost) else fast
        if done is None:
            done = LogScan(emissions, weights, Order(mask), allowed, both)
    done.log_z = done.log_z.clone()
    return done


class ProbabilityScan:
    """Forward-backward on rescaled probabilities. Excluded entries have probability 0.

    log_z: log Z of each sequence. [B]
    alpha: sum over all paths up to step t that end in a tag, with the emission of t. [T, B, K]
    gamma: sum over all paths from step t to the end, with the emission of t. [T, B, K]
    joint: alpha without the emission of t, times gamma. [T, B, K]
    total: sum of joint over the tags. [T, B, 1]
    log_scale: logarithm of the number by which each step of alpha was divided. [T, B]
    lost: whether an entry underflowed or is not finite. No other attribute is valid then. bool []
    alpha and gamma have a scale of their own at each step.
    """

    log_z: Tensor
    lost: Tensor

    def __init__(
        self,
        emissions: Tensor,
        weights: Weights,
        mask: Tensor,
        allowed: Optional[Tensor],
        both: bool,
    ) -> None:
        n_batch, n_steps, n_tags = emissions.shape
        order = Order(mask)
        self.order = order
        # shape: (T, B, 1)
        on = order.mask.unsqueeze(2)
        scores, open_tags = emissions.detach(), None
        if allowed is not None:
            # shape: (T, B, K)
            open_tags = allowed.transpose(0, 1) | ~on
            scores = scores.masked_fill(~allowed, -torch.inf)
        # Padding may hold any finite numbers: they are masked below.
        scores = torch.where(mask.unsqueeze(2), scores, 0.0)
        # shape: (T, B, 1)
        top = scores.amax(2, keepdim=True).transpose(0, 1).double()
        # shape: (T, B, K)
        exp = scores.new_empty((n_steps, n_batch, n_tags), dtype=torch.float64)
        exp.copy_(scores.transpose(0, 1)).sub_(top).exp_()
        start, top_start = _probability(weights.start)
        end, top_end = _probability(weights.end)
        self.pairs, top_transition = _probability(weights.transitions)
        self._top_transition = top_transition

        # Both directions side by side, (T, B, directions * K). The second has reversed steps.
        ways = 2 if both else 1
        states = exp.new_empty((n_steps, n_batch, ways, n_tags))
        states[:, :, 0] = exp
        step_matrix, first = self.pairs, start
        if both:
            self.gamma = order.reverse(exp)
            states[:, :, 1] = self.gamma
            step_matrix = torch.block_diag(self.pairs, self.pairs.T)  # type: ignore[no-untyped-call]
            first = torch.cat([start, end])
            if open_tags is not None:
                reverse_open = order.reverse(open_tags)
                # shape: (T, B, 2 * K)
                open_tags = torch.cat([open_tags, reverse_open], dim=2)
        # shape: (T, B, directions * K)
        flat = states.flatten(2)
        scales = _run(flat, first, step_matrix, ways)

        # Buffers are reused, because allocation is a good part of the time at these sizes.
        # shape: (T, B, K)
        self.alpha = exp.copy_(states[:, :, 0])
        # shape: (T, B), logarithm of the number by which each step of alpha was divided
        logs = top.squeeze(2)
        logs[0] += top_start
        logs[1:] += top_transition
        logs[::_RESCALE] += scales[:, :, 0].log()
        self.log_scale = logs.masked_fill_(~order.mask, 0.0)
        final = (order.last_step(self.alpha) * end).sum(1)
        self.log_z = final.log() + self.log_scale.sum(0) + top_end
        self.lost = _is_lost(flat, first, step_matrix, open_tags) | self.pairs.isnan().any()
        self.lost |= ~self.log_z.isfinite().all()
        if both:
            order.reverse_second(states, out=self.gamma)
            self.joint = torch.empty_like(self.gamma)
            self.joint[0] = start
            # shape: ((T - 1) * B, K)
            rows = self.alpha[:-1].flatten(0, 1)
            torch.mm(rows, self.pairs, out=self.joint[1:].view(rows.shape))
            self.joint.mul_(self.gamma)
            # A product with ones is a sum, and faster than sum() over a short dimension.
            self.total = self.joint @ self.joint.new_ones((n_tags, 1))
            self.lost = self.lost | (~(self.total >= _LOST) & on).any()

    def gradient(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of log Z: unary marginals [T, B, K], summed pair marginals [K, K].

        grad: the weight of each sequence. [B]
        """
        on = self.order.mask.unsqueeze(2)
        # shape: (T, B, 1)
        weight = torch.where(on, grad[None, :, None] / self.total, 0.0)
        # shape: ((T - 1) * B, K)
        before = self.alpha[:-1].flatten(0, 1)
        after = (self.gamma[1:] * weight[1:]).flatten(0, 1)
        return self.joint * weight, (before.T @ after) * self.pairs

    def marginals(self) -> Tensor:
        """Probability of each tag at each step, 0 in padding. [T, B, K]"""
        return torch.where(self.order.mask.unsqueeze(2), self.joint / self.total, 0.0)

    def expected_pairs(self, values: Tensor) -> Tensor:
        """Expectation of the sum of values[from, to] over a sequence. [K, K] -> [B]"""
        # shape: ((T - 1) * B, K)
        before = self.alpha[:-1].flatten(0, 1) @ (self.pairs * values)
        after = self.gamma[1:] / self.total[1:]
        each = (before.view_as(after) * after).sum(2)
        return each.masked_fill(~self.order.mask[1:], 0.0).sum(0)

    def pair_counts(self) -> Tensor:
        """Expected number of times that one tag follows another. [B, K_from, K_to]"""
        after = self.gamma[1:] / self.total[1:]
        after = after.masked_fill_(~self.order.mask[1:].unsqueeze(2), 0.0)
        return torch.einsum("tbi,tbj->bij", self.alpha[:-1], after) * self.pairs

    def logs(self) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, gamma [T, B, K] and total [T, B] as scores."""
        total = self.total.squeeze(2).log()
        total[1:] += self._top_transition
        return self.alpha.log(), self.gamma.log(), total


def _run(flat: Tensor, first: Tensor, step_matrix: Tensor, ways: int) -> Tensor:
    """Run the scan in place: `flat` [T, B, ways * K] holds emissions first, the states afterwards.

    RETURNS: the divisors of the states at every _RESCALE-th step. [T / _RESCALE, B, ways]
    """
    n_batch, n_tags = flat.shape[1], flat.shape[2] // ways
    # All views are made in one call. Made one by one, they cost as much as the arithmetic.
    steps = flat.unbind()
    ways_of = flat[::_RESCALE].view(-1, n_batch, ways, n_tags).unbind()
    scales = flat.new_empty((len(ways_of), n_batch, ways, 1))
    scale_of = scales.unbind()
    incoming = torch.empty_like(steps[0])
    before = steps[0].mul_(first)
    for step, state in enumerate(steps):
        if step:
            torch.mm(before, step_matrix, out=incoming)
            state.mul_(incoming)
        if not step % _RESCALE:
            now, scale = ways_of[step // _RESCALE], scale_of[step // _RESCALE]
            # Padding is 0 where nothing may follow the last tag. It must not become nan.
            now.div_(torch.amax(now, 2, keepdim=True, out=scale).clamp_(min=_LOST))
        before = state
    return scales.squeeze(3)


def _is_lost(
    flat: Tensor, first: Tensor, step_matrix: Tensor, open_tags: Optional[Tensor]
) -> Tensor:
    """Whether an entry underflowed or is nan, other than by exclusion. bool []

    An entry must be present if its tag is allowed and a present entry may precede it.
    """
    # shape: (T, B, ways * K)
    there = flat >= _LOST
    if open_tags is None:  # Exclusion is then the same for all sequences.
        there = _all(there)
    follows = there[:-1].float() @ (step_matrix > 0).float() > 0
    expected = torch.cat([(first > 0).expand_as(there[:1]), follows])
    if open_tags is not None:
        expected &= open_tags
    return (expected != there).any()


def _all(rows: Tensor) -> Tensor:
    """all(1, keepdim=True) by halving, which is several times faster. bool [T, B, K]"""
    while (n_rows := rows.shape[1]) > 1:
        half = (n_rows + 1) // 2
        rows = rows[:, :half] & rows[:, n_rows - half :]
    return rows


def _probability(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Scores as probabilities relative to the largest score, and the largest score.

    Excluded entries are 0. Entries that underflow without being excluded are nan.
    """
    top = scores.amax()
    out = (scores - top).exp_()
    out = out.masked_fill_(out < _LOST, torch.nan).masked_fill_(scores <= EXCLUDED, 0.0)
    return out, top


class LogPartition(torch.autograd.Function):
    """Log Z of each sequence [B]. Its gradient is the marginals of forward-backward.

    apply(emissions, start, end, transitions, mask, allowed, needs_grad)
    """

    @staticmethod
    def forward(
        ctx: Any,
        emissions: Tensor,
        start: Tensor,
        end: Tensor,
        transitions: Tensor,
        mask: Tensor,
        allowed: Optional[Tensor],
        needs_grad: bool,
    ) -> Tensor:
        weights = Weights(start, end, transitions)
        done = scan(emissions, weights, mask, allowed, needs_grad, whole=False)
        # None of these is an input or an output, so save_for_backward is not needed.
        ctx.scan, ctx.allowed, ctx.dtypes = done, allowed, (emissions.dtype, transitions.dtype)
        return done.log_z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:  # type: ignore[override]
        from .kernels.scan import KernelScan

        dtype, weights_dtype = ctx.dtypes
        if isinstance(ctx.scan, KernelScan):
            d_emissions, *d_weights = ctx.scan.input_gradients(grad)
            return d_emissions, *(d.to(weights_dtype) for d in d_weights), None, None, None
        unary, pairs = ctx.scan.gradient(grad)
        d_start = unary[0].sum(0).to(weights_dtype)
        d_end = ctx.scan.order.last_step(unary).sum(0).to(weights_dtype)
        # shape: (B, T, K)
        d_emissions = unary.transpose(0, 1).to(dtype, memory_format=torch.contiguous_format)
        if ctx.allowed is not None:  # excluded scores have no gradient
            d_emissions = d_emissions.masked_fill_(~ctx.allowed, 0.0)
        return d_emissions, d_start, d_end, pairs.to(weights_dtype), None, None, None


class PathScore(torch.autograd.Function):
    """Score of one tag path per sequence [B]. It is a gather, and its gradient is a count.

    apply(emissions, start, end, transitions, mask, tags). Tags of padding are ignored.
    """

    @staticmethod
    def forward(
        ctx: Any,
        emissions: Tensor,
        start: Tensor,
        end: Tensor,
        transitions: Tensor,
        mask: Tensor,
        tags: Tensor,
    ) -> Tensor:
        n_tags, wide = len(start), wide_dtype(emissions.device)
        # shape: (B,)
        last = tags.gather(1, mask.sum(1, keepdim=True) - 1).squeeze(1)
        # shape: (B, T)
        unary = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        # shape: (B, T - 1)
        pair_ids = tags[:, :-1] * n_tags + tags[:, 1:]
        pairs = transitions.reshape(-1)[pair_ids]
        ctx.save_for_backward(mask, tags, pair_ids, last)
        ctx.dtypes, ctx.n_tags = (emissions.dtype, transitions.dtype), n_tags
        score = unary.masked_fill(~mask, 0.0).sum(1, dtype=wide)
        score += pairs.masked_fill(~mask[:, 1:], 0.0).sum(1, dtype=wide)
        return score + start[tags[:, 0]] + end[last]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:  # type: ignore[override]
        mask, tags, pair_ids, last = ctx.saved_tensors
        dtype, weights_dtype = ctx.dtypes
        n_tags = ctx.n_tags
        # shape: (B, T)
        weight = (grad.unsqueeze(1) * mask).to(weights_dtype)
        zeros = weight.new_zeros
        # shape: (B, T, K)
        d_emissions = zeros((*mask.shape, n_tags), dtype=dtype)
        d_emissions.scatter_(2, tags.unsqueeze(2), weight.to(dtype).unsqueeze(2))
        d_start = zeros(n_tags).index_add_(0, tags[:, 0], weight[:, 0])
        d_end = zeros(n_tags).index_add_(0, last, weight[:, 0])
        # shape: (K * K,)
        d_pairs = zeros(n_tags * n_tags)
        d_pairs.index_add_(0, pair_ids.flatten(), weight[:, 1:].flatten())
        return d_emissions, d_start, d_end, d_pairs.view(n_tags, n_tags), None, None
