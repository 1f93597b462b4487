"""Decoding by blocks against decoding step by step, both in float64."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from spacy_bert_crf.crf import viterbi as decoding
from spacy_bert_crf.crf import viterbi_blocks
from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from spacy_bert_crf.crf.viterbi import viterbi
from spacy_bert_crf.crf.viterbi_blocks import viterbi_long


def make(length, n_tags, seed, scale=3.0, excluded=0.0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale

    transitions = draw(n_tags, n_tags)
    if excluded:
        out = torch.rand(n_tags, n_tags, generator=generator) < excluded
        transitions = transitions.masked_fill(out, -torch.inf)
    return draw(length, n_tags), draw(n_tags), draw(n_tags), transitions


def step_by_step(emissions, *weights):
    mask = torch.ones(1, len(emissions), dtype=torch.bool)
    tags, score = viterbi(emissions.unsqueeze(0), *weights, mask)
    return tags[0], score[0]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 200), st.integers(1, 9), st.integers(0, 10**6),
    st.sampled_from([1e-6, 0.1, 10.0]), st.sampled_from([0.0, 0.3, 0.6]), st.integers(9, 900),
)  # fmt: skip
def test_equals_step_by_step(length, n_tags, seed, scale, excluded, in_cache):
    given_scores = make(length, n_tags, seed, scale, excluded)
    want, want_score = step_by_step(*given_scores)
    with mock.patch.object(viterbi_blocks, "_IN_CACHE", in_cache):
        tags, score = viterbi_long(*given_scores)
    torch.testing.assert_close(score, want_score, atol=1e-5, rtol=1e-9)
    if not torch.equal(tags, want):  # another path of the same score
        emissions, start, end, transitions = given_scores
        path = start[tags[0]] + end[tags[-1]] + emissions.gather(1, tags.unsqueeze(1)).sum()
        path += transitions[tags[:-1], tags[1:]].sum()
        torch.testing.assert_close(path, want_score, atol=1e-5, rtol=0)


def test_blocks_that_depend_on_the_very_first_step():
    """Two chains that never meet: the first step decides, and each block learns it in its turn."""
    emissions = torch.zeros(500, 2, dtype=torch.float64)
    emissions[0, 1] = 1.0
    none = torch.zeros(2, dtype=torch.float64)
    apart = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]], dtype=torch.float64)
    tags, score = viterbi_long(emissions, none, none, apart)
    assert tags.unique().tolist() == [1] and score == 1.0


def test_no_path():
    emissions, start, end, transitions = make(100, 3, 0)
    tags, score = viterbi_long(emissions, start, end, transitions.fill_(-torch.inf))
    assert score == -torch.inf and not tags.any()


def test_scores_that_are_not_numbers_end():
    emissions, *weights = make(100, 3, 0)
    emissions[50] = torch.nan
    viterbi_long(emissions, *weights)


def test_long_docs_lose_no_precision():
    """Sums of 200,000 float32 scores would not tell these tags apart."""
    emissions = torch.full((200_000, 2), 40.0)
    better = torch.randint(2, (200_000,), generator=torch.Generator().manual_seed(0))
    emissions[torch.arange(len(better)), better] += 0.01
    none = torch.zeros(2)
    tags, _ = viterbi_long(emissions, none, none, torch.zeros(2, 2))
    assert torch.equal(tags, better)


@pytest.mark.parametrize("n_tags", [1, 5])
def test_the_crf_takes_it_for_long_sequences(n_tags):
    crf = LinearChainCRF(n_tags)
    emissions, *_ = make(3 * 40, n_tags, 1)
    emissions = emissions.float().view(3, 40, n_tags)
    mask = torch.arange(40) < torch.tensor([[40], [17], [1]])
    allowed = torch.rand(emissions.shape, generator=torch.Generator().manual_seed(2)) < 0.8
    allowed[..., 0] = True
    want = [crf.viterbi(emissions, mask), crf.viterbi(emissions, mask, allowed)]
    with mock.patch.object(decoding, "LONG", 10):
        found = [crf.viterbi(emissions, mask), crf.viterbi(emissions, mask, allowed)]
    for (tags, score), (want_tags, want_score) in zip(found, want, strict=True):
        assert torch.equal(tags, want_tags)
        torch.testing.assert_close(score, want_score)


class NoFloat64(TorchDispatchMode):
    """Apple's GPU: no tensor of float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        assert not (isinstance(out, torch.Tensor) and out.dtype is torch.float64), func
        return out


def test_a_device_without_float64(monkeypatch):
    emissions, *weights = (tensor.float() for tensor in make(500, 5, 0))
    want, score = viterbi_long(emissions, *weights)
    monkeypatch.setattr(viterbi_blocks, "wide_dtype", lambda device: torch.float32)
    with NoFloat64():
        tags, found = viterbi_long(emissions, *weights)
    assert torch.equal(tags, want)
    torch.testing.assert_close(found, score)
