"""Linear-chain conditional random field on pytorch-crf's parameters and parametrisation.

Lafferty, McCallum & Pereira (2001), "Conditional Random Fields". The parameters are named as in
pytorch-crf 0.7.2 (`start_transitions`, `end_transitions`, `transitions[from, to]`), so that its
checkpoints load as they are. What differs: a bool mask only, gold given as tags or as sets of
allowed tags, constraints of a tag scheme, and decoding as tensors that stay on their device.

Shapes: B sequences, T steps, K tags. Sequences are padded on the right; `mask` is True on real
steps, of which every sequence has at least one.
"""

from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: Score of what is excluded inside log-sum-exp: small enough that exp() is 0, and finite, since
#: inf - inf in a gradient is nan.
EXCLUDED = -1e4


class LinearChainCRF(nn.Module):
    """A linear-chain CRF over K tags.

    n_tags: K.
    legal_start, legal_end: for each tag, whether a sequence may begin, end with it. [K]
    legal_transitions: [from][to], whether the second tag may follow the first. [K, K]
        Tags and transitions that are not legal never come out of `viterbi`, and are left out
        of the partition function where `constrain` is set. Default: all are legal.
    """

    legal_start: Tensor
    legal_end: Tensor
    legal_transitions: Tensor

    def __init__(
        self,
        n_tags: int,
        legal_start: Optional[Sequence[bool]] = None,
        legal_end: Optional[Sequence[bool]] = None,
        legal_transitions: Optional[Sequence[Sequence[bool]]] = None,
    ) -> None:
        super().__init__()
        if n_tags < 1:
            raise ValueError(f"a CRF needs at least one tag, not {n_tags}.")
        self.n_tags = n_tags
        self.start_transitions = nn.Parameter(torch.empty(n_tags))
        self.end_transitions = nn.Parameter(torch.empty(n_tags))
        self.transitions = nn.Parameter(torch.empty(n_tags, n_tags))
        self.set_legal(legal_start, legal_end, legal_transitions)
        self.reset_parameters()

    def set_legal(
        self,
        start: Optional[Sequence[bool]] = None,
        end: Optional[Sequence[bool]] = None,
        transitions: Optional[Sequence[Sequence[bool]]] = None,
    ) -> None:
        """Set what is legal; None makes all legal.

        Raises ValueError if the sizes are not those of K tags.
        """
        n, device = self.n_tags, self.transitions.device
        given = {
            "legal_start": ((n,), start),
            "legal_end": ((n,), end),
            "legal_transitions": ((n, n), transitions),
        }
        for name, (shape, value) in given.items():
            legal = torch.ones(shape, dtype=torch.bool)
            if value is not None:
                legal = torch.tensor(value, dtype=torch.bool)
            if tuple(legal.shape) != shape:
                raise ValueError(f"{name} has shape {tuple(legal.shape)}, expected {shape}.")
            # Not persistent: derived from the scheme, so no part of a checkpoint.
            self.register_buffer(name, legal.to(device), persistent=False)

    def reset_parameters(self) -> None:
        """Uniform in [-0.1, 0.1], as pytorch-crf does."""
        for param in self.parameters():
            nn.init.uniform_(param, -0.1, 0.1)

    def forward(
        self, emissions: Tensor, gold: Tensor, mask: Tensor, constrain: bool = False
    ) -> Tensor:
        """Negative log-likelihood of each sequence. [B]

        emissions: [B, T, K]; float32 is used inside whatever the dtype (float64 stays).
        gold: tag ids [B, T] (int64), or the sets of allowed tags [B, T, K] (bool). A set holds
            one tag where the tag is known, and all that it may be where it is not: such a step is
            summed over by a constrained forward pass (partial supervision, Tsuboi et al. 2008).
        mask: bool [B, T].
        constrain: leave illegal transitions out of both sums.
        Raises ValueError for shapes or dtypes that do not fit.
        """
        emissions = self._check(emissions, mask)
        if gold.dtype is torch.bool:
            if gold.shape != emissions.shape:
                raise ValueError(
                    f"allowed tags have shape {tuple(gold.shape)}, emissions "
                    f"{tuple(emissions.shape)}: expected the same."
                )
            allowed = gold
        else:
            if gold.shape != mask.shape:
                raise ValueError(
                    f"tags have shape {tuple(gold.shape)}, mask {tuple(mask.shape)}: "
                    "expected the same."
                )
            allowed = nn.functional.one_hot(gold.clamp(min=0), self.n_tags).bool()
        # Numerator and denominator in one scan, as a batch of twice the size.
        # shape: (2 * B, T, K)
        both = torch.cat([emissions.masked_fill(~allowed, EXCLUDED), emissions])
        log_z = self._log_partition(both, torch.cat([mask, mask]), constrain)
        numerator, denominator = log_z.chunk(2)
        return (denominator - numerator).to(emissions.dtype)

    def log_partition(self, emissions: Tensor, mask: Tensor, constrain: bool = False) -> Tensor:
        """Logarithm of the sum over all tag paths of exp(score). [B]"""
        emissions = self._check(emissions, mask)
        return self._log_partition(emissions, mask, constrain).to(emissions.dtype)

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Score of one tag path per sequence, not normalised. [B]"""
        emissions = self._check(emissions, mask)
        keep = mask.to(emissions.dtype)
        # shape: (B, T)
        unary = emissions.gather(2, tags.unsqueeze(2)).squeeze(2) * keep
        pairs = self.transitions[tags[:, :-1], tags[:, 1:]] * keep[:, 1:]
        last = tags.gather(1, (mask.sum(1) - 1).unsqueeze(1)).squeeze(1)
        ends = self.start_transitions[tags[:, 0]] + self.end_transitions[last]
        return unary.sum(1) + pairs.sum(1) + ends

    @torch.no_grad()
    def viterbi(self, emissions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Best legal tag path of each sequence and its score. [B, T] (int64), [B]

        All on the device of `emissions`, with no read by the host; padding steps get tag 0.
        Viterbi (1967), Rabiner (1989). Ties go to the lower tag id.
        """
        emissions = self._check(emissions, mask)
        with _no_autocast(emissions):
            start, end, transitions = self._weights(emissions.dtype, True, -torch.inf)
            n_steps = emissions.shape[1]
            # shape: (B, K)
            best = start + emissions[:, 0]
            identity = torch.arange(self.n_tags, device=emissions.device).expand_as(best)
            back = []
            for step in range(1, n_steps):
                # shape: (B, K_from, K_to) -> (B, K_to)
                value, source = (best.unsqueeze(2) + transitions).max(dim=1)
                on = mask[:, step].unsqueeze(1)
                best = torch.where(on, value + emissions[:, step], best)
                back.append(torch.where(on, source, identity))
            score, tag = (best + end).max(dim=1)
            path = [tag]
            for source in reversed(back):
                tag = source.gather(1, tag.unsqueeze(1)).squeeze(1)
                path.append(tag)
            # shape: (B, T)
            tags = torch.stack(path[::-1], dim=1)
        return tags.masked_fill(~mask, 0), score

    def _log_partition(self, emissions: Tensor, mask: Tensor, constrain: bool) -> Tensor:
        with _no_autocast(emissions):
            start, end, transitions = self._weights(emissions.dtype, constrain, EXCLUDED)
            inputs = (emissions, start, end, transitions, mask)
            out: Tensor = _LogPartition.apply(*inputs)  # type: ignore[no-untyped-call]
        return out

    def _weights(
        self, dtype: torch.dtype, constrain: bool, excluded: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        start, end = self.start_transitions.to(dtype), self.end_transitions.to(dtype)
        transitions = self.transitions.to(dtype)
        if constrain:
            start = start.masked_fill(~self.legal_start, excluded)
            end = end.masked_fill(~self.legal_end, excluded)
            transitions = transitions.masked_fill(~self.legal_transitions, excluded)
        return start, end, transitions

    def _check(self, emissions: Tensor, mask: Tensor) -> Tensor:
        if emissions.dim() != 3 or emissions.shape[2] != self.n_tags:
            raise ValueError(
                f"emissions have shape {tuple(emissions.shape)}, expected [B, T, {self.n_tags}]."
            )
        if mask.shape != emissions.shape[:2]:
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}, expected {tuple(emissions.shape[:2])}."
            )
        if mask.dtype is not torch.bool:
            raise ValueError(f"mask has dtype {mask.dtype}, expected bool.")
        if not mask.is_cuda and not bool(mask[:, :1].all() and mask.shape[1]):
            raise ValueError("a sequence of the batch has no step: leave empty ones out.")
        return emissions if emissions.dtype is torch.float64 else emissions.float()


class _LogPartition(torch.autograd.Function):
    """log Z with an explicit gradient: the marginals of the forward-backward algorithm.

    The backward variables are the forward variables of the reversed sequence under the
    transposed transitions, so both come from one scan over T of a batch of twice the size, and
    the gradient needs no scan of its own.
    """

    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, start: Tensor, end: Tensor, transitions: Tensor, mask: Tensor
    ) -> Tensor:
        n_steps = emissions.shape[1]
        lengths = mask.sum(1)
        last = (lengths - 1).unsqueeze(1)
        # Where step t of a sequence stands in its reversal; padding stays in its place.
        steps = torch.arange(n_steps, device=emissions.device)
        flip = torch.where(mask, last - steps, steps).unsqueeze(2).expand_as(emissions)
        # shape: (2, B, T, K)
        both = torch.stack([emissions, emissions.gather(1, flip)])
        both_transitions = torch.stack([transitions, transitions.T])
        state = torch.stack([start, end]).unsqueeze(1) + both[:, :, 0]
        top = state.amax(-1, keepdim=True)
        states, tops = [state - top], [top]
        for step in range(1, n_steps):
            state = _lse_matmul(states[-1], both_transitions) + both[:, :, step]
            top = state.amax(-1, keepdim=True)
            states.append(state - top)  # padding steps hold rubbish, and are masked below
            tops.append(top)
        # Relative to their largest entry: at any length the rounding is that of one step.
        # shape: (2, B, T, K)
        scan = torch.stack(states, dim=2)
        alpha = scan[0]
        # gamma[t] = emissions[t] + beta[t]: all that lies from t to the end
        gamma = scan[1].gather(1, flip)
        final = alpha.gather(1, last.unsqueeze(2).expand(-1, 1, alpha.shape[2])).squeeze(1)
        wide = torch.float32 if emissions.device.type == "mps" else torch.float64
        # shape: (B, T)
        scale = torch.stack([t[0, :, 0] for t in tops], dim=1).to(wide).masked_fill(~mask, 0.0)
        ctx.save_for_backward(emissions, transitions, mask, alpha, gamma, last)
        return torch.logsumexp(final + end, dim=1) + scale.sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:  # type: ignore[override]
        emissions, transitions, mask, alpha, gamma, last = ctx.saved_tensors
        grad = grad.to(emissions.dtype)
        # Marginals of the tags, weighted with the incoming gradient. shape: (B, T, K)
        unary = torch.softmax(alpha + gamma - emissions, dim=2) * grad[:, None, None]
        unary = unary.masked_fill(~mask.unsqueeze(2), 0.0)
        d_start = unary[:, 0].sum(0)
        d_end = unary.gather(1, last.unsqueeze(2).expand(-1, 1, unary.shape[2])).sum((0, 1))
        d_transitions = torch.zeros_like(transitions)
        # Marginals of the pairs, in pieces of T that bound the memory.
        n_batch, n_steps, n_tags = emissions.shape
        size = max(1, 4_000_000 // (n_batch * n_tags * n_tags))
        for i in range(0, n_steps - 1, size):
            j = min(i + size, n_steps - 1)
            # shape: (B, piece, K_from, K_to)
            pairs = alpha[:, i:j, :, None] + gamma[:, i + 1 : j + 1, None, :] + transitions
            pairs = torch.softmax(pairs.flatten(2), dim=2).view_as(pairs)
            pairs = (pairs * grad[:, None, None, None]).masked_fill(
                ~mask[:, i + 1 : j + 1, None, None], 0.0
            )
            d_transitions += pairs.sum((0, 1))
        return unary, d_start, d_end, d_transitions, None


def _lse_matmul(state: Tensor, transitions: Tensor) -> Tensor:
    """log(exp(state) @ exp(transitions)) without overflow. [..., B, K], [..., K, K]"""
    return torch.logsumexp(state.unsqueeze(-1) + transitions.unsqueeze(-3), dim=-2)


def _no_autocast(like: Tensor) -> torch.autocast:
    """Half precision loses log Z: fp16 gave -18304 for -18323 over 512 steps."""
    return torch.autocast(like.device.type, enabled=False)
