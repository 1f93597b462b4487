"""Linear-chain conditional random field with the parameters of pytorch-crf.

Lafferty, McCallum & Pereira (2001), "Conditional Random Fields". The parameters are named as in
pytorch-crf 0.7.2 (`start_transitions`, `end_transitions`, `transitions[from, to]`), so that its
checkpoints load unchanged. It differs from pytorch-crf in these points:

- The mask is bool.
- Gold may be allowed tags.
- A tag scheme constrains the paths.
- Results stay on their device.
- There are the k best paths and the probabilities of `Posterior`.

The algorithms are in forward_backward.py, viterbi.py and viterbi_blocks.py.

Shapes: B sequences, T steps, K tags. Sequences are padded on the right. `mask` is True on real
steps. Every sequence has at least one.
"""

from collections.abc import Sequence
from typing import Optional

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from .chain_weights import NPZ_LEGAL_NAMES, ChainWeights
from .forward_backward import EXCLUDED, LogPartition, PathScore, Weights, scan
from .log_scan import wide_dtype
from .posterior import Posterior
from .viterbi import decode, nbest

#: Emissions [B, T, K], scores of start [K], end [K] and transitions [from, to], mask [B, T].
_Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class LinearChainCRF(nn.Module):
    """A linear-chain CRF over K tags (Lafferty, McCallum & Pereira 2001).

    `viterbi` never returns an illegal path. With `constrain`, the other methods leave illegal paths
    out of the partition function.

    n_tags: K.
    legal_start: whether a sequence may begin with each tag. [K], None for all
    legal_end: whether a sequence may end with each tag. [K], None for all
    legal_transitions: [from][to], whether the second tag may follow the first. [K, K], None for all
    Raises ValueError for fewer than one tag, or masks of other sizes.
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
        self.start_transitions = nn.Parameter(torch.empty(n_tags, dtype=torch.float32))
        self.end_transitions = nn.Parameter(torch.empty(n_tags, dtype=torch.float32))
        self.transitions = nn.Parameter(torch.empty(n_tags, n_tags, dtype=torch.float32))
        self.set_legal(legal_start, legal_end, legal_transitions)
        self.reset_parameters()

    def set_legal(
        self,
        start: Optional[Sequence[bool]] = None,
        end: Optional[Sequence[bool]] = None,
        transitions: Optional[Sequence[Sequence[bool]]] = None,
    ) -> None:
        """Set which tags and transitions are legal; None makes all legal.

        start: whether a sequence may begin with each tag. [K]
        end: whether a sequence may end with each tag. [K]
        transitions: [from][to], whether the second tag may follow the first. [K, K]
        Raises ValueError if the sizes are not those of K tags.
        """
        masks = (start, end, transitions)
        for name, score, value in zip(NPZ_LEGAL_NAMES, self._chain_scores(), masks, strict=True):
            legal = torch.ones_like(score, dtype=torch.bool)
            if value is not None:
                legal = torch.tensor(value, dtype=torch.bool, device=score.device)
            if legal.shape != score.shape:
                raise ValueError(
                    f"{name} has shape {tuple(legal.shape)}, expected {tuple(score.shape)}."
                )
            # Not persistent: it follows from the tag scheme, so it is no part of a checkpoint.
            self.register_buffer(name, legal, persistent=False)

    def weights(self) -> ChainWeights:
        """The scores, detached, and the legal masks. They share the module's memory."""
        start, end, transitions = (score.detach() for score in self._chain_scores())
        return ChainWeights(
            start, end, transitions, self.legal_start, self.legal_end, self.legal_transitions
        )

    def _chain_scores(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.start_transitions, self.end_transitions, self.transitions

    def reset_parameters(self) -> None:
        """Draw all scores uniformly from [-0.1, 0.1], as pytorch-crf does."""
        for param in self.parameters():
            nn.init.uniform_(param, -0.1, 0.1)

    @torch.no_grad()
    def set_scores(self, start: ArrayLike, transitions: ArrayLike, end: ArrayLike) -> None:
        """Set the scores.

        start: score of each tag at the first step. [K]
        transitions: score of each pair of neighbours, [from, to]. [K, K]
        end: score of each tag at the last step. [K]
        Raises ValueError if the sizes are not those of K tags.
        """
        values = (start, end, transitions)
        for param, value in zip(self._chain_scores(), values, strict=True):
            new = torch.as_tensor(value, dtype=param.dtype, device=param.device)
            if new.shape != param.shape:
                raise ValueError(f"scores have shape {tuple(new.shape)}, not {tuple(param.shape)}.")
            param.copy_(new)

    def forward(
        self,
        emissions: Tensor,
        gold: Tensor,
        mask: Tensor,
        constrain: bool = False,
        open_weights: Optional[Tensor] = None,
        partial: Optional[Tensor] = None,
    ) -> Tensor:
        """Negative log-likelihood of each sequence.

        emissions: scores of the tags at each step. [B, T, K]. Half precision is computed in
            float32, float64 in float64.
        gold: tag ids [B, T] (int64), or allowed tags [B, T, K] (bool). A known step allows one
            tag, an unknown step several. The likelihood sums over all paths that are allowed
            (partial supervision, Tsuboi et al. 2008).
        mask: True on real steps. bool [B, T]
        constrain: whether illegal paths are left out of numerator and partition function.
        open_weights: logarithm of a weight of each tag, which counts at steps that allow several
            tags. [K], or [B, K] for weights of each sequence; None for equal weights
        partial: rows of the sequences with a step that allows several tags. int64 [P]. Without
            them, the host reads them from the device.
        RETURNS: the loss of each sequence, in nats. [B]
        Raises ValueError for shapes or dtypes that do not fit.
        """
        is_allowed = gold.dtype is torch.bool
        emissions = self._check(emissions, mask, gold if is_allowed else None)
        inputs = self._inputs(emissions, mask, constrain)
        if is_allowed:
            with _no_autocast(emissions):
                return self._partial(inputs, gold, open_weights, partial).to(emissions.dtype)
        if gold.shape != mask.shape:
            raise ValueError(
                f"tags have shape {tuple(gold.shape)}, mask {tuple(mask.shape)}: expected the same."
            )
        with _no_autocast(emissions):
            loss = _log_partition(inputs) - _path_score(inputs, gold.clamp(min=0))
            return loss.to(emissions.dtype)

    def log_partition(self, emissions: Tensor, mask: Tensor, constrain: bool = False) -> Tensor:
        """Logarithm of the sum over all tag paths of exp(score).

        emissions: see `forward`. [B, T, K]
        mask: True on real steps. bool [B, T]
        constrain: whether illegal paths are left out.
        RETURNS: log Z of each sequence. [B]
        Raises ValueError for shapes or dtypes that do not fit.
        """
        emissions = self._check(emissions, mask)
        with _no_autocast(emissions):
            return _log_partition(self._inputs(emissions, mask, constrain)).to(emissions.dtype)

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Score of one tag path per sequence, not normalised.

        emissions: see `forward`. [B, T, K]
        tags: tag ids of the path; those of padding are ignored. int64 [B, T]
        mask: True on real steps. bool [B, T]
        RETURNS: the score of each path. [B]
        Raises ValueError for shapes or dtypes that do not fit.
        """
        emissions = self._check(emissions, mask)
        with _no_autocast(emissions):
            return _path_score(self._inputs(emissions, mask, False), tags).to(emissions.dtype)

    @torch.no_grad()
    def viterbi(
        self, emissions: Tensor, mask: Tensor, allowed: Optional[Tensor] = None
    ) -> tuple[Tensor, Tensor]:
        """Best legal tag path of each sequence and its score. Viterbi (1967), Rabiner (1989).

        Padding steps get tag 0. Where no legal path is allowed, the score is -inf and the tags are
        all 0. Ties go to the lower tag id.
        Results stay on the device of `emissions`, and the host reads nothing. The exception is
        sequences of more than LONG steps (see viterbi_blocks.py) where there are no kernels.

        emissions: see `forward`. [B, T, K]
        mask: True on real steps. bool [B, T]
        allowed: the tags that a path may have at each step. bool [B, T, K], None for all
        RETURNS: the tag ids [B, T] (int64) and the scores [B].
        Raises ValueError for shapes or dtypes that do not fit.
        """
        emissions = self._check(emissions, mask, allowed)
        with _no_autocast(emissions):
            weights = self._weights(emissions.dtype, True, -torch.inf)
            if allowed is not None:
                emissions = emissions.masked_fill(~allowed, -torch.inf)
            return decode(emissions, *weights, mask)

    @torch.no_grad()
    def nbest(
        self,
        emissions: Tensor,
        mask: Tensor,
        k: int,
        constrain: bool = True,
        allowed: Optional[Tensor] = None,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """The k best tag paths of each sequence and their log-probabilities.

        Exact. The paths of a sequence all differ, the best comes first, ties come in any order.
        Where there are fewer paths, the log-probability is -inf and the tags are all 0. The host
        reads at most one value. Seshadri & Sundberg (1994), "List Viterbi Decoding Algorithms".

        emissions: see `forward`. [B, T, K]
        mask: True on real steps. bool [B, T]
        k: number of paths.
        constrain: whether only legal paths count.
        allowed: the tags that a path may have at each step. bool [B, T, K], None for all
        temperature: emissions and transitions are divided by it.
        RETURNS: the tag ids [B, k, T] (int64) and the log-probabilities [B, k].
        Raises ValueError for k below 1, and as `posterior` does.
        """
        if k < 1:
            raise ValueError(f"the number of best paths must be at least 1, not {k}.")
        emissions = self._check(emissions, mask, allowed)
        with _no_autocast(emissions):
            inputs = self._scores(emissions, constrain, allowed, temperature)
            log_z = scan(inputs[0], Weights(*inputs[1:]), mask, allowed, both=False).log_z
            tags, score = nbest(*inputs, mask, k)
            log_prob = (score - log_z.unsqueeze(1)).masked_fill_(score == -torch.inf, -torch.inf)
        return tags, log_prob.to(emissions.dtype)

    @torch.no_grad()
    def posterior(
        self,
        emissions: Tensor,
        mask: Tensor,
        constrain: bool = True,
        allowed: Optional[Tensor] = None,
        temperature: float = 1.0,
    ) -> Posterior:
        """The distribution over the tag paths of each sequence, without gradient.

        All its probabilities come from one forward-backward scan.

        emissions: see `forward`. [B, T, K]
        mask: True on real steps. bool [B, T]
        constrain: whether illegal paths have probability 0, exactly.
        allowed: the tags that a path may have at each step. bool [B, T, K], None for all
        temperature: emissions and transitions are divided by it.
        Raises ValueError for shapes or dtypes that do not fit, a temperature not above 0.
        """
        emissions = self._check(emissions, mask, allowed)
        with _no_autocast(emissions):
            inputs = self._scores(emissions, constrain, allowed, temperature)
            return Posterior(*inputs, mask, allowed, emissions.dtype)

    def marginals(
        self,
        emissions: Tensor,
        mask: Tensor,
        constrain: bool = True,
        allowed: Optional[Tensor] = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Probability of each tag at each step, 0 in padding.

        `posterior` has more results from the same scan.

        emissions: see `forward`. [B, T, K]
        mask: True on real steps. bool [B, T]
        constrain: whether illegal paths have probability 0, exactly.
        allowed: the tags that a path may have at each step. bool [B, T, K], None for all
        temperature: emissions and transitions are divided by it.
        RETURNS: the probabilities. [B, T, K]
        Raises ValueError as `posterior` does.
        """
        return self.posterior(emissions, mask, constrain, allowed, temperature).marginals()

    def _partial(
        self,
        inputs: _Inputs,
        allowed: Tensor,
        weights: Optional[Tensor],
        rows: Optional[Tensor],
    ) -> Tensor:
        """Negative log-likelihood of allowed tags. [B], float64

        Sequences that allow one tag at every step need no scan for their numerator. `rows` are the
        others. The host reads which these are if they are not known.
        """
        emissions, start, end, transitions, mask = inputs
        # shape: (B, T)
        several = (allowed.sum(2) != 1) & mask
        if rows is None:
            rows = several.any(1).nonzero().squeeze(1)
        # shape: (B, T)
        tags = allowed.to(torch.uint8).argmax(2)
        if not len(rows):
            return _log_partition(inputs) - _path_score(inputs, tags)
        # One scan for all denominators and for the numerators that need one.
        # shape: (B + P, T, K)
        own = emissions.index_select(0, rows)
        if weights is not None:
            each = weights.index_select(0, rows).unsqueeze(1) if weights.dim() == 2 else weights
            own = own + several.index_select(0, rows).unsqueeze(2) * each.to(own)
        both = torch.cat([emissions, own])
        open_tags = torch.cat([torch.ones_like(allowed), allowed.index_select(0, rows)])
        masks = torch.cat([mask, mask.index_select(0, rows)])
        log_z = _log_partition((both, start, end, transitions, masks), open_tags)
        n_batch = len(emissions)
        numerator = log_z[n_batch:]
        if len(rows) < n_batch:
            numerator = _path_score(inputs, tags).index_copy(0, rows, numerator)
        return log_z[:n_batch] - numerator

    def _inputs(self, emissions: Tensor, mask: Tensor, constrain: bool) -> _Inputs:
        start, end, transitions = self._weights(emissions.dtype, constrain, EXCLUDED)
        return emissions, start, end, transitions, mask

    def _weights(
        self, dtype: torch.dtype, constrain: bool, excluded: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        start, end, transitions = (scores.to(dtype) for scores in self._chain_scores())
        if constrain:
            start = start.masked_fill(~self.legal_start, excluded)
            end = end.masked_fill(~self.legal_end, excluded)
            transitions = transitions.masked_fill(~self.legal_transitions, excluded)
        return start, end, transitions

    def _scores(
        self, emissions: Tensor, constrain: bool, allowed: Optional[Tensor], temperature: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Emissions, start, end and transition scores in wide precision, -inf where excluded."""
        if not temperature > 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}.")
        wide = wide_dtype(emissions.device)
        weights = self._weights(wide, constrain, -torch.inf)
        emissions = emissions.to(wide)
        if allowed is not None:
            emissions = emissions.masked_fill(~allowed, -torch.inf)
        start, end, transitions = (scores / temperature for scores in weights)
        return emissions / temperature, start, end, transitions

    def _check(self, emissions: Tensor, mask: Tensor, allowed: Optional[Tensor] = None) -> Tensor:
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
        if allowed is not None and allowed.shape != emissions.shape:
            raise ValueError(
                f"allowed tags have shape {tuple(allowed.shape)}, emissions "
                f"{tuple(emissions.shape)}: expected the same."
            )
        if allowed is not None and allowed.dtype is not torch.bool:
            raise ValueError(f"allowed tags have dtype {allowed.dtype}, expected bool.")
        if not mask.is_cuda and not bool(mask[:, :1].all() and mask.shape[1]):
            raise ValueError("a sequence of the batch has no step: leave empty ones out.")
        return emissions if emissions.dtype is torch.float64 else emissions.float()


def _log_partition(inputs: _Inputs, allowed: Optional[Tensor] = None) -> Tensor:
    grad = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    out: Tensor = LogPartition.apply(*inputs, allowed, grad)  # type: ignore[no-untyped-call]
    return out


def _path_score(inputs: _Inputs, tags: Tensor) -> Tensor:
    out: Tensor = PathScore.apply(*inputs, tags)  # type: ignore[no-untyped-call]
    return out


def _no_autocast(like: Tensor) -> torch.autocast:
    """Autocast switched off. In float16, log Z was -18304 instead of -18323 over 512 steps."""
    return torch.autocast(like.device.type, enabled=False)
