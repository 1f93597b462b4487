"""Probabilities of a linear-chain CRF: of tags, spans and paths, and the entropy.

All are exact and come from one forward-backward scan. Shapes: B sequences, T steps, K tags,
N spans.
"""

from typing import Optional

import torch
from torch import Tensor

from .forward_backward import PathScore, Weights, scan


class Posterior:
    """The distribution over the tag paths of each sequence (see `LinearChainCRF.posterior`).

    Paths that constraints or allowed tags exclude have probability 0, exactly. Where no path is
    left, log_z and log-probabilities are -inf, probabilities 0, and the entropy is nan. Results
    are on the device of the emissions and have no gradient.
    """

    def __init__(
        self,
        emissions: Tensor,
        start: Tensor,
        end: Tensor,
        transitions: Tensor,
        mask: Tensor,
        allowed: Optional[Tensor],
        dtype: torch.dtype,
    ) -> None:
        """Run the scan.

        emissions: [B, T, K], -inf where a tag is not allowed.
        start: score of each tag at the first step, -inf where illegal. [K]
        end: score of each tag at the last step, -inf where illegal. [K]
        transitions: [from, to], -inf where illegal. [K, K]
        mask: True on real steps. bool [B, T]
        allowed: tags that each step may have. bool [B, T, K], None for all
        dtype: the dtype of the results.
        """
        self._emissions, self._mask, self._allowed, self._dtype = emissions, mask, allowed, dtype
        self._weights = Weights(start, end, transitions, excluded=-torch.inf)
        self._scan = scan(emissions, self._weights, mask, allowed)
        self._logs: Optional[tuple[Tensor, Tensor, Tensor]] = None

    @property
    def log_z(self) -> Tensor:
        """Logarithm of the sum over all paths of exp(score). [B]"""
        return self._scan.log_z.to(self._dtype)

    @torch.no_grad()
    def marginals(self) -> Tensor:
        """Probability of each tag at each step, 0 in padding. [B, T, K]"""
        # shape: (T, B, K) -> (B, T, K)
        return (
            self._scan.marginals()
            .transpose(0, 1)
            .to(self._dtype, memory_format=torch.contiguous_format)
        )

    @torch.no_grad()
    def pair_counts(self) -> Tensor:
        """Expected number of times that one tag follows another in a sequence. [B, K, K]

        Each is the sum of the pair's marginals over the steps.
        """
        return self._scan.pair_counts().to(self._dtype)

    @torch.no_grad()
    def log_probability(self, tags: Tensor) -> Tensor:
        """Log-probability of one tag path per sequence. [B, T] (int64) -> [B]

        Tags of padding are ignored. An excluded path gives -inf.
        Raises ValueError if the shape does not fit.
        """
        if tags.shape != self._mask.shape:
            raise ValueError(
                f"tags have shape {tuple(tags.shape)}, mask {tuple(self._mask.shape)}: "
                "expected the same."
            )
        tags, weights = tags.masked_fill(~self._mask, 0), self._weights
        score = PathScore.apply(
            self._emissions, weights.start, weights.end, weights.transitions, self._mask, tags
        )  # type: ignore[no-untyped-call]
        out = (score - self._scan.log_z).masked_fill(score == -torch.inf, -torch.inf)
        return out.to(self._dtype)

    @torch.no_grad()
    def entropy(self) -> Tensor:
        """Entropy of the distribution over paths, in nats. [B]

        It is log Z minus the expected score (Mann & McCallum 2007), and nan without a path.
        """
        weights, order = self._weights, self._scan.order
        # Excluded entries have probability 0 and score -inf, whose product must count as 0.
        # shape: (T, B, K)
        unary = self._scan.marginals()
        scores = self._emissions.transpose(0, 1)
        expected = torch.where(unary > 0, unary * scores, 0.0).sum((0, 2))
        for at, scores in ((unary[0], weights.start), (order.last_step(unary), weights.end)):
            expected += torch.where(at > 0, at * scores, 0.0).sum(1)
        pairs = weights.transitions
        expected += self._scan.expected_pairs(pairs.masked_fill(pairs == -torch.inf, 0.0))
        log_z = self._scan.log_z
        # Rounding may leave the entropy of a certain path a little below 0.
        out = (log_z - expected).clamp(min=0.0)
        return out.masked_fill(log_z == -torch.inf, torch.nan).to(self._dtype)

    @torch.no_grad()
    def span_probability(
        self,
        sequence: Tensor,
        start: Tensor,
        end: Tensor,
        tags: Tensor,
        following: Optional[Tensor] = None,
    ) -> Tensor:
        """Probability that steps start..end-1 of a sequence have exactly these tags. [N]

        sequence: index of each span's sequence in the batch. int64 [N]
        start: first step of each span. int64 [N]
        end: the step after the last one of each span. int64 [N]
        tags: the tags of each span, of which the first end - start count. int64 [N, L]
        following: the tags that step `end` may have, if the sequence has that step. bool [N, K].
            Under BIO an entity ends before `end` only if the next tag does not continue it.
            See `TagSet.closing`.
        Raises ValueError for shapes that do not fit, and on the CPU for spans outside their
        sequence. On other devices this check would need a read by the host.
        """
        self._check_spans(sequence, start, end, tags, following)
        # shape: (T, B, K), (T, B, K), (T, B)
        alpha, gamma, total = self._as_logs()
        order, weights = self._scan.order, self._weights
        n_steps = len(alpha)
        length = order.last[sequence] + 1
        # shape: (N, 1)
        size = (end - start).unsqueeze(1)
        # shape: (N,)
        last_tag = tags.gather(1, size - 1).squeeze(1)
        places = torch.arange(tags.shape[1], device=tags.device)
        tags = tags.masked_fill(places >= size, 0)

        # Inside: emissions and transitions of all steps but the first. shape: (N, L - 1)
        steps = (start.unsqueeze(1) + places[1:]).clamp_(max=n_steps - 1)
        scores = self._emissions[sequence.unsqueeze(1), steps, tags[:, 1:]]
        scores = scores + weights.transitions[tags[:, :-1], tags[:, 1:]]
        # Scores of the scan are relative to the scale of their step. shape: (T, B)
        scale = self._scan.log_scale.cumsum(0)
        scores = scores.masked_fill(places[1:] >= size, 0.0)
        # shape: (N,)
        path = alpha[start, sequence, tags[:, 0]] + scores.sum(1)
        path += scale[start, sequence] - scale[end - 1, sequence]

        # Behind: the sum over all paths of the rest of the sequence, or its end. shape: (N, K)
        behind = end.clamp(max=n_steps - 1)
        rest = weights.transitions[last_tag] + gamma[behind, sequence]
        if following is not None:
            rest = rest.masked_fill(~following, -torch.inf)
        rest_of = torch.logsumexp(rest, dim=1) - total[behind, sequence]
        final = torch.logsumexp(order.last_step(alpha) + weights.end, dim=1)
        end_of = weights.end[last_tag] - final[sequence]
        out = (path + torch.where(end == length, end_of, rest_of)).exp().clamp(max=1.0)
        return out.masked_fill(self._scan.log_z[sequence] == -torch.inf, 0.0).to(self._dtype)

    def _as_logs(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._logs is None:
            self._logs = self._scan.logs()
        return self._logs

    def _check_spans(
        self,
        sequence: Tensor,
        start: Tensor,
        end: Tensor,
        tags: Tensor,
        following: Optional[Tensor],
    ) -> None:
        n_spans, n_tags = len(sequence), self._emissions.shape[2]
        shapes = [tuple(x.shape) for x in (sequence, start, end, tags[:, 0])]
        if shapes != [(n_spans,)] * 4:
            raise ValueError(f"sequence, start, end and tags have shapes {shapes} for {n_spans}.")
        if following is not None and following.shape != (n_spans, n_tags):
            raise ValueError(
                f"following tags have shape {tuple(following.shape)}, expected {(n_spans, n_tags)}."
            )
        if sequence.is_cuda or not n_spans:
            return
        length = self._mask.sum(1)[sequence]
        fits = (start >= 0) & (start < end) & (end <= length) & (end - start <= tags.shape[1])
        if not bool(fits.all()):
            i = int((~fits).nonzero()[0])
            raise ValueError(
                f"span {i} at {int(start[i])}:{int(end[i])} with {tags.shape[1]} tags lies outside "
                f"its sequence of {int(length[i])} steps, or has too few tags."
            )
