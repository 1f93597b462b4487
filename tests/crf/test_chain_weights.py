"""ChainWeights: its forms carry the same numbers, and bad shapes are refused."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert_crf.crf.chain_weights import ChainWeights
from spacy_bert_crf.crf.linear_chain import LinearChainCRF


@st.composite
def weights(draw):
    n = draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shapes = ((n,), (n,), (n, n))
    scores = [torch.randn(shape, generator=generator) for shape in shapes]
    legal = [torch.rand(shape, generator=generator) < 0.7 for shape in shapes]
    return ChainWeights(*scores, *legal)


def same(a, b):
    pairs = zip((*a.scores, *a.legal), (*b.scores, *b.legal), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@given(weights())
def test_npz_and_state_carry_the_same_numbers(given_weights):
    file = io.BytesIO()
    np.savez(file, **given_weights.to_npz())
    file.seek(0)
    assert same(ChainWeights.from_npz(np.load(file, allow_pickle=False)), given_weights)
    state = given_weights.to_state()
    assert same(ChainWeights.from_state(state).with_legal(*given_weights.legal), given_weights)
    crf = LinearChainCRF(given_weights.n_tags)
    crf.load_state_dict(given_weights.to_state(prefix=""))
    assert torch.equal(crf.transitions.data, given_weights.transitions)


@given(weights(), st.sampled_from([-1e4, -torch.inf]))
def test_masked_fills_what_is_not_legal_and_nothing_else(given_weights, fill):
    for score, legal, out in zip(
        given_weights.scores, given_weights.legal, given_weights.masked(fill), strict=True
    ):
        assert torch.equal(out[legal], score[legal])
        assert bool((out[~legal] == fill).all())


def test_arrays_without_masks_are_all_legal():
    arrays = {"start": np.zeros(2), "end": np.ones(2), "transitions": np.eye(2)}
    assert all(bool(mask.all()) for mask in ChainWeights.from_npz(arrays).legal)


@pytest.mark.parametrize(
    "shapes", [((2,), (3,), (2, 2)), ((2,), (2,), (2, 3)), ((0,), (0,), (0, 0))]
)
def test_shapes_of_no_crf_are_refused(shapes):
    with pytest.raises(ValueError, match="expected K, K and K x K"):
        ChainWeights.of(*(torch.zeros(shape) for shape in shapes))


def test_a_missing_score_is_a_key_error():
    with pytest.raises(KeyError, match="crf.transitions"):
        ChainWeights.from_state({"crf.start_transitions": torch.zeros(2),
                                 "crf.end_transitions": torch.zeros(2)})  # fmt: skip
