"""Scores that a CRF starts from."""

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert_crf.annotation.tag_counts import FLOOR, TagCounts
from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from support.toys import make_examples, own_config

K = 3


def sets(tags: list[int]) -> np.ndarray:
    """Sets of allowed tags; -1 is an unknown token."""
    out = np.ones((len(tags), K), dtype=bool)
    for i, tag in enumerate(tags):
        if tag >= 0:
            out[i] = np.arange(K) == tag
    return out


def test_counts_of_a_corpus():
    counts = TagCounts(K)
    counts.add(sets([0, 1, 2, 0]))
    counts.add(sets([0, 0]))
    assert counts.start.tolist() == [2, 0, 0]
    assert counts.end.tolist() == [2, 0, 0]
    assert counts.pairs.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_unknown_tokens_count_nothing():
    counts = TagCounts(K)
    counts.add(sets([-1, 1, -1, 2, 0, -1]))
    counts.add(sets([]))
    assert counts.start.sum() == 0 and counts.end.sum() == 0
    assert counts.pairs.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


@given(st.lists(st.lists(st.integers(-1, K - 1), max_size=8), max_size=6))
def test_scores_are_a_chain_of_probabilities(docs):
    counts = TagCounts(K)
    for doc in docs:
        counts.add(sets(doc))
    start, transitions, end = counts.scores()
    assert min(start.min(), transitions.min(), end.min()) >= FLOOR
    assert np.exp(start).sum() == pytest.approx(1, abs=1e-5)
    leaves = np.exp(transitions).sum(1) + np.exp(end)
    assert leaves == pytest.approx(np.ones(K), abs=1e-5)


def test_without_emissions_the_crf_is_that_chain():
    counts = TagCounts(K)
    for _ in range(5):
        counts.add(sets([0, 0, 1, 2, 0, 0]))
    crf = LinearChainCRF(K)
    crf.set_scores(*counts.scores())
    emissions, mask = torch.zeros(1, 4, K), torch.ones(1, 4, dtype=torch.bool)
    usual = crf(emissions, torch.tensor([[0, 1, 2, 0]]), mask)
    odd = crf(emissions, torch.tensor([[2, 2, 1, 1]]), mask)
    assert float(odd - usual) > 3  # natural logarithms


def test_scores_of_another_size_are_refused():
    with pytest.raises(ValueError, match="shape"):
        LinearChainCRF(K).set_scores(np.zeros(2), np.zeros((K, K)), np.zeros(K))


@pytest.mark.parametrize("counts", [True, False])
def test_a_new_crf_starts_from_counts_where_it_is_told_to(encoder_path, counts):
    nlp = spacy.blank("zh")
    config = {**own_config(encoder_path), "transitions_from_counts": counts}
    pipe = nlp.add_pipe("bert_crf", config=config)
    nlp.initialize(lambda: make_examples(nlp))
    crf = pipe.model.get_ref("head").shims[0].module.crf
    assert (float(crf.transitions.detach().min()) < -1) is counts
