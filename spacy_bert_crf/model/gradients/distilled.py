"""What a CRF expects of docs, and the loss and gradients of another CRF that learns from it."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...crf.linear_chain import LinearChainCRF
from ...crf.losses.cross_entropy import cross_entropy
from ...encoder.transfers import to_device
from ..crf_batches import AnyEmissions, BoolArray, CrfBatch, Emissions, crf_batches, run_batches
from ..host_crf import crf_on

FloatArray = NDArray[np.float32]


class Expected(NamedTuple):
    """What a teacher expects of a doc; see `cross_entropy`.

    tags: probability of each tag at each token. float32 [tokens, K]
    pairs: expected number of times that one tag follows another. float32 [K, K]
    """

    tags: FloatArray
    pairs: FloatArray

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.tags.nbytes + self.pairs.nbytes


def expectations(
    crf: LinearChainCRF,
    emissions: AnyEmissions,
    allowed: Sequence[Optional[BoolArray]] = (),
    *,
    constrain: bool,
    temperature: float,
) -> list[Expected]:
    """What a CRF expects of each doc. There is one transfer from the device for all docs.

    crf: the teacher's CRF.
    emissions: the teacher's emissions.
    allowed: see `crf_batches`.
    constrain: whether illegal paths have probability 0.
    temperature: emissions and transitions are divided by it.
    """
    joined = Emissions.of(emissions, crf.legal_start.device)
    crf = crf_on(crf, joined.rows.device)
    n_tags = crf.n_tags
    pairs = np.zeros((len(joined.lengths), n_tags, n_tags), dtype=np.float32)
    tags = [np.zeros((length, n_tags), dtype=np.float32) for length in joined.lengths]

    def expect(batch: CrfBatch) -> tuple[Tensor, Tensor]:
        found = crf.posterior(batch.emissions, batch.mask, constrain, batch.allowed, temperature)
        return found.marginals(), found.pair_counts()

    for batch, (some_tags, some_pairs) in run_batches(joined, allowed, expect):
        for row, i, length in batch.docs():
            tags[i][:] = some_tags[row, :length]
            pairs[i] = some_pairs[row]
    return [Expected(*each) for each in zip(tags, pairs, strict=True)]


def learn_expected(
    crf: LinearChainCRF,
    emissions: Emissions,
    expected: Sequence[Expected],
    *,
    constrain: bool,
    temperature: float,
    weight: float,
) -> tuple[Tensor, Emissions]:
    """Cross-entropy of docs, and its gradient. The gradient of the CRF is added to its parameters.

    The host reads nothing that the likelihood does not read.

    crf: the student's CRF.
    emissions: the student's emissions of the docs.
    expected: what the teacher expects of each doc.
    constrain, temperature: see `cross_entropy`.
    weight: factor on the sum over the docs.
    RETURNS: the loss (float32 []), and the gradient of the emissions. [N, K]
    """
    rows = emissions.rows
    grad = torch.zeros_like(rows)
    total = torch.zeros((), dtype=torch.float32, device=rows.device)
    params = list(crf.parameters())
    for batch in crf_batches(emissions):
        tags, pairs = to_device(_padded(batch, expected), rows.device)
        padded = batch.emissions.requires_grad_()
        losses = cross_entropy(
            crf, padded, batch.mask, tags, pairs, constrain=constrain, temperature=temperature
        )
        loss = losses.sum() * weight
        d_padded, *d_params = torch.autograd.grad(loss, [padded, *params])
        # Padding carries a gradient of 0, and points at a row of its own doc.
        grad.index_add_(0, batch.index.flatten(), d_padded.flatten(0, 1))
        total += loss.detach()
        for param, d_param in zip(params, d_params, strict=True):
            param.grad = d_param if param.grad is None else param.grad + d_param
    return total, Emissions(grad, emissions.lengths)


def _padded(batch: CrfBatch, expected: Sequence[Expected]) -> list[FloatArray]:
    """The expectations of the docs of a batch. [B, T, K] and [B, K, K]"""
    tags = np.zeros(tuple(batch.emissions.shape), dtype=np.float32)
    for row, i, length in batch.docs():
        tags[row, :length] = expected[i].tags
    return [tags, np.stack([expected[i].pairs for i in batch.members])]
