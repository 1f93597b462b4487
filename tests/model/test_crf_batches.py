"""The likelihood of docs in padded batches: what the host tells the CRF, and what it reads."""

import numpy as np
import pytest
import torch

from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from spacy_bert_crf.model.crf_batches import Emissions, crf_batches, likelihood, read_losses

N_TAGS = 3
LENGTHS = [4, 0, 2, 3, 1]


def docs(seed):
    """Emissions of docs, and their allowed tags: some docs allow one tag at every step."""
    random = np.random.default_rng(seed)
    rows = torch.from_numpy(random.normal(size=(sum(LENGTHS), N_TAGS)))
    allowed = []
    for i, length in enumerate(LENGTHS):
        own = np.eye(N_TAGS, dtype=bool)[random.integers(N_TAGS, size=length)]
        if i % 2 == 0:
            own |= random.random(own.shape) < 0.4
        allowed.append(own)
    return Emissions(rows, LENGTHS), allowed


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [5, 100])
def test_a_batch_knows_its_partial_docs(seed, limit):
    emissions, allowed = docs(seed)
    found = set()
    for batch in crf_batches(emissions, allowed, limit=limit):
        found |= {batch.members[row] for row in batch.partial.tolist()}
    assert found == {i for i, own in enumerate(allowed) if (own.sum(1) != 1).any()}


def test_a_batch_without_allowed_tags_has_no_partial_docs():
    emissions, allowed = docs(0)
    assert all(batch.partial is None for batch in crf_batches(emissions))
    no_doc = [None] * len(allowed)
    assert all(batch.partial is None for batch in crf_batches(emissions, no_doc))


@pytest.mark.parametrize("weights", [None, [0.0, -1.0, -2.0]])
def test_known_partial_rows_change_nothing(weights):
    emissions, allowed = docs(1)
    crf = LinearChainCRF(N_TAGS).double()
    weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    (batch,) = crf_batches(emissions, allowed)
    arguments = batch.emissions, batch.allowed, batch.mask, False, weights
    assert 0 < len(batch.partial) < len(batch.members)
    assert torch.equal(crf(*arguments, batch.partial), crf(*arguments))


def test_the_loss_stays_on_the_device_until_all_are_read():
    emissions, allowed = docs(2)
    crf = LinearChainCRF(N_TAGS).double()
    losses = []
    for docs_of in (slice(0, 2), slice(2, 5)):
        parts = emissions.split()[docs_of]
        loss, gradient = likelihood(
            crf, parts, allowed[docs_of], constrain=False, accumulate=False, n_docs=4
        )
        assert isinstance(loss, torch.Tensor) and loss.shape == ()
        assert [len(rows) for rows in gradient.split()] == LENGTHS[docs_of]
        losses.append(loss)
    whole, _ = likelihood(crf, emissions, allowed, constrain=False, accumulate=False)
    n_docs = sum(own.size > 0 and not own.all() for own in allowed)
    assert n_docs == 4
    assert sum(read_losses(losses)) == pytest.approx(float(whole), rel=1e-6)


def test_no_loss_to_read():
    assert read_losses([]) == []
