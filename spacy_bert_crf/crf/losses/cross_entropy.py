"""Cross-entropy between the distributions of two CRFs over the tag paths of a sequence.

Hinton, Vinyals & Dean (2015), "Distilling the Knowledge in a Neural Network". For linear chains,
Wang et al. (2020), "Structure-Level Knowledge Distillation For Multilingual Sequence Labeling".
"""

import torch
from torch import Tensor

from ..forward_backward import EXCLUDED, LogPartition
from ..linear_chain import LinearChainCRF
from ..log_scan import wide_dtype


def cross_entropy(
    crf: LinearChainCRF,
    emissions: Tensor,
    mask: Tensor,
    tags: Tensor,
    pairs: Tensor,
    *,
    constrain: bool = False,
    temperature: float = 1.0,
) -> Tensor:
    """Cross-entropy of each sequence, in nats: -sum over all paths of p_teacher * log p_student.

    It is exact. The score of a path is linear in the tags at its steps and in the pairs of
    neighbours, so that their expectations under the teacher are all that is needed of it: the loss
    is log Z of the student less the expected score. Its smallest value is the teacher's entropy.
    `Posterior.marginals` and `Posterior.pair_counts` give the expectations. The host reads nothing
    that `LinearChainCRF.log_partition` does not read.

    crf: the student's CRF.
    emissions: the student's emissions. [B, T, K]
    mask: True on real steps. bool [B, T]
    tags: probability of each tag at each step under the teacher, 0 in padding. [B, T, K]
    pairs: expected number of times that one tag follows another under the teacher. [B, K, K]
    constrain: leave the student's illegal paths out. The teacher must give them probability 0.
    temperature: the student's scores are divided by it, and the loss is multiplied by its square,
        so that gradients keep their size. The teacher's must have been divided by it, too.
    RETURNS: the loss of each sequence. [B]
    Raises ValueError for shapes that do not fit, and for a temperature not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}.")
    emissions = crf._check(emissions, mask)
    n_tags = crf.n_tags
    if tags.shape != emissions.shape or pairs.shape != (len(emissions), n_tags, n_tags):
        raise ValueError(
            f"the teacher's tags and pairs have shapes {tuple(tags.shape)} and "
            f"{tuple(pairs.shape)}, expected {tuple(emissions.shape)} and "
            f"{(len(emissions), n_tags, n_tags)}."
        )
    wide = wide_dtype(emissions.device)
    with torch.autocast(emissions.device.type, enabled=False):
        scaled = emissions / temperature
        weights = [score.to(emissions.dtype) / temperature for score in crf._chain_scores()]
        legal = (crf.legal_start, crf.legal_end, crf.legal_transitions)
        used = weights
        if constrain:
            used = [w.masked_fill(~ok, EXCLUDED) for w, ok in zip(weights, legal, strict=True)]
        log_z: Tensor = LogPartition.apply(scaled, *used, mask, None, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
        start, end, transitions = (w.to(wide) for w in weights)
        tags, pairs = tags.to(wide), pairs.to(wide)
        # shape: (B, K)
        last = tags[torch.arange(len(tags), device=tags.device), mask.sum(1) - 1]
        # Padding may hold any finite numbers: the teacher's tags are 0 there.
        expected = (tags * scaled).sum((1, 2)) + (pairs * transitions).sum((1, 2))
        expected = expected + tags[:, 0] @ start + last @ end
        return ((log_z - expected) * temperature**2).to(emissions.dtype)
