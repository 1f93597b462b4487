"""A CRF over the tags of BIOES with the scores of one over BIO, against enumeration of paths."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.crf.expanded import ExpandedCRF
from support.crf import LENGTHS, Enumeration, batch, make

TAGS = TagSet(("X", "Y"))


def expand(crf, tags=TAGS):
    return ExpandedCRF(crf, tags.of_marking_last, *tags.marking_last.legal())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.1, 1.0, 6.0]), st.sampled_from([0.5, 1.0, 2.0]))
def test_all_paths_and_their_scores_are_those_of_the_base(seed, scale, temperature):
    crf = make(seed=seed, scale=scale)
    wide = expand(crf)
    emissions, mask, _ = batch(crf.n_tags, LENGTHS, seed=seed, scale=scale)
    rows = emissions[..., wide.columns]
    own = torch.tensor(TAGS.of_marking_last)
    best, score = crf.viterbi(emissions, mask)
    wide_best, wide_score = wide.viterbi(rows, mask)
    assert torch.equal(own[wide_best], best)
    torch.testing.assert_close(wide_score, score)
    paths, log_p = crf.nbest(emissions, mask, 200, temperature=temperature)
    wide_paths, wide_log_p = wide.nbest(rows, mask, 200, temperature=temperature)
    torch.testing.assert_close(wide_log_p, log_p)
    here = crf.posterior(emissions, mask, temperature=temperature)
    there = wide.posterior(rows, mask, temperature=temperature)
    torch.testing.assert_close(there.log_z, here.log_z)
    torch.testing.assert_close(there.entropy(), here.entropy())
    marginals = torch.zeros_like(emissions).index_add_(2, own, there.marginals())
    torch.testing.assert_close(marginals, here.marginals())
    for row, length in enumerate(LENGTHS):
        every = Enumeration(crf, emissions[row], length, True, temperature=temperature)
        exists = log_p[row].isfinite()
        assert int(exists.sum()) == min(200, len(every.paths))
        found = {tuple(path) for path in own[wide_paths[row, exists, :length]].tolist()}
        if len(every.paths) <= 200:
            assert found == {tuple(path) for path in every.paths.tolist()}


def test_the_parameters_are_those_of_the_base():
    crf = make(seed=3)
    wide = expand(crf)
    assert [id(p) for p in wide.parameters()] == [id(p) for p in crf.parameters()]
    with torch.no_grad():
        crf.transitions[2, 2] += 1
    names = TAGS.marking_last.ids
    inside, last = (names[role, "X"] for role in (TAGS.marking_last.roles[i][0] for i in (2, 3)))
    scores = wide.weights()
    assert torch.equal(scores.transitions[inside, last], crf.transitions[2, 2])
    assert torch.equal(scores.end[last], crf.end_transitions[2])
    assert not scores.legal_end[inside] and scores.legal_end[last]


def test_it_draws_no_random_numbers():
    crf = make(seed=4)
    before = torch.get_rng_state()
    expand(crf)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("partial", [False, True])
def test_gradcheck(partial):
    crf = make(labels=("X",), seed=5)
    wide = expand(crf, TagSet(("X",)))
    emissions, mask, _ = batch(crf.n_tags, [3, 2], seed=5)
    ids = TagSet(("X",)).marking_last
    gold = torch.tensor([ids.encode([(0, 2, "X")], 3), ids.encode([(1, 2, "X")], 3)])
    allowed = torch.nn.functional.one_hot(gold, wide.n_tags).bool()
    if partial:
        allowed[0, 1:] = True

    def loss(rows, start, end, transitions):
        own = {"start_transitions": start, "end_transitions": end, "transitions": transitions}
        return torch.func.functional_call(
            wide,
            {f"base.{name}": value for name, value in own.items()},
            (rows[..., wide.columns], allowed, mask, True),
        ).sum()

    inputs = [emissions, *(p.detach().clone() for p in crf.parameters())]
    assert torch.autograd.gradcheck(loss, [x.requires_grad_() for x in inputs])
