"""The cross-entropy of two CRFs against enumeration of all tag paths."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.crf.expanded import ExpandedCRF
from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from spacy_bert_crf.crf.losses.cross_entropy import cross_entropy
from support.crf import LENGTHS, Enumeration, batch, make

SCHEMES = ["BIO", "BIOES", "BMES", "BILUO"]


def taught(teacher, emissions, mask, constrain=True, allowed=None, temperature=1.0):
    """What a teacher expects: tags [B, T, K] and pairs [B, K, K]."""
    found = teacher.posterior(emissions, mask, constrain, allowed, temperature)
    return found.marginals(), found.pair_counts()


def by_enumeration(
    teacher, taught_by, student, emissions, length, own, constrain, allowed, temperature
):
    """-sum over all paths of p_teacher * log p_student, times the temperature squared.

    taught_by: the teacher's emissions. own: whether the teacher keeps to legal paths.
    constrain: whether the student does.
    """
    of_teacher = Enumeration(teacher, taught_by, length, own, allowed, temperature)
    of_student = Enumeration(student, emissions, length, constrain, None, temperature)
    log_p = dict(zip(map(tuple, of_student.paths.tolist()), of_student.log_p.tolist(), strict=True))
    paths = zip(of_teacher.paths.tolist(), of_teacher.log_p.exp().tolist(), strict=True)
    return -(temperature**2) * sum(p * log_p[tuple(path)] for path, p in paths)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("constrain", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
def test_equals_enumeration(scheme, constrain, temperature):
    labels = ("X", "Y") if scheme == "BIO" else ("X",)
    teacher, student = make(scheme, labels, seed=1), make(scheme, labels, seed=2)
    its, mask, _ = batch(teacher.n_tags, LENGTHS, seed=3)
    own, _, _ = batch(teacher.n_tags, LENGTHS, seed=4)
    tags, pairs = taught(teacher, its, mask, temperature=temperature)
    got = cross_entropy(
        student, own, mask, tags, pairs, constrain=constrain, temperature=temperature
    )
    for i, length in enumerate(LENGTHS):
        want = by_enumeration(
            teacher, its[i], student, own[i], length, True, constrain, None, temperature
        )
        assert got[i].item() == pytest.approx(want, rel=1e-10)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_equals_enumeration_with_random_masks(data):
    """Any legal transitions, any allowed tags of the teacher, tags without a path left out."""
    n_tags, seed = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 10_000))
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    temperature = data.draw(st.sampled_from([0.7, 1.0, 3.0]))
    constrain, own = data.draw(st.sampled_from([(False, False), (False, True), (True, True)]))
    generator = torch.Generator().manual_seed(seed)

    def chance(*shape):
        return torch.rand(*shape, generator=generator) < 0.7

    legal = [chance(n_tags).tolist(), chance(n_tags).tolist(), chance(n_tags, n_tags).tolist()]
    teacher, student = (LinearChainCRF(n_tags, *legal).double() for _ in range(2))
    with torch.no_grad():
        for param in (*teacher.parameters(), *student.parameters()):
            param.copy_(torch.randn(param.shape, generator=generator).double() * 2)
    its, mask, _ = batch(n_tags, lengths, seed, 2.0)
    emissions, _, _ = batch(n_tags, lengths, seed + 1, 2.0)
    allowed = chance(*its.shape) if data.draw(st.booleans()) else None
    tags, pairs = taught(teacher, its, mask, own, allowed, temperature)
    got = cross_entropy(
        student, emissions, mask, tags, pairs, constrain=constrain, temperature=temperature
    )
    for i, length in enumerate(lengths):
        only = None if allowed is None else allowed[i]
        if not len(Enumeration(teacher, its[i], length, own, only).paths):
            assert not tags[i].any() and not pairs[i].any()
            continue
        assert tags[i].sum().item() == pytest.approx(length)
        assert pairs[i].sum().item() == pytest.approx(length - 1)
        want = by_enumeration(
            teacher, its[i], student, emissions[i], length, own, constrain, only, temperature
        )
        assert got[i].item() == pytest.approx(want, rel=1e-8, abs=1e-8)


def test_pair_counts_of_all_scans_are_equal():
    """Probabilities, scores where they underflow, and many steps in several parts."""
    crf = make("BIOES", ("X", "Y"), seed=5)
    lengths = [700, 3, 1]
    emissions, mask, _ = batch(crf.n_tags, lengths, seed=5)
    usual = crf.posterior(emissions, mask)
    far = emissions.clone()
    far[0, 5] *= 500  # underflows as probabilities
    for each, rows in ((usual, emissions), (crf.posterior(far, mask), far)):
        rows = rows.clone().requires_grad_()
        log_z = crf.log_partition(rows, mask, True)
        for i in range(len(lengths)):
            (want,) = torch.autograd.grad(log_z[i], crf.transitions, retain_graph=True)
            torch.testing.assert_close(each.pair_counts()[i], want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("constrain", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gradients(constrain, temperature):
    teacher, student = make("BIO", ("X",), seed=6), make("BIO", ("X",), seed=7)
    its, mask, _ = batch(teacher.n_tags, LENGTHS, seed=8)
    emissions, _, _ = batch(teacher.n_tags, LENGTHS, seed=9)
    tags, pairs = taught(teacher, its, mask, temperature=temperature)
    params = list(student.parameters())

    def loss(emissions, *params):
        return cross_entropy(
            student, emissions, mask, tags, pairs, constrain=constrain, temperature=temperature
        )

    assert torch.autograd.gradcheck(loss, (emissions.requires_grad_(), *params))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_student_like_its_teacher_has_the_teachers_entropy_and_no_gradient(temperature):
    crf = make("BIOES", ("X", "Y"), seed=10)
    emissions, mask, _ = batch(crf.n_tags, LENGTHS, seed=10)
    tags, pairs = taught(crf, emissions, mask, temperature=temperature)
    emissions.requires_grad_()
    loss = cross_entropy(crf, emissions, mask, tags, pairs, constrain=True, temperature=temperature)
    entropy = crf.posterior(emissions.detach(), mask, temperature=temperature).entropy()
    torch.testing.assert_close(loss.detach(), entropy * temperature**2)
    gradients = torch.autograd.grad(loss.sum(), [emissions, *crf.parameters()])
    assert max(float(each.abs().max()) for each in gradients) < 1e-12


def test_learns_the_teachers_distribution():
    teacher, student = make("BIO", ("X", "Y"), seed=11), make("BIO", ("X", "Y"), seed=12)
    emissions, mask, _ = batch(teacher.n_tags, LENGTHS, seed=13)
    tags, pairs = taught(teacher, emissions, mask)
    own = torch.zeros_like(emissions).requires_grad_()
    optimizer = torch.optim.LBFGS([own, *student.parameters()], max_iter=300)

    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(student, own, mask, tags, pairs, constrain=True).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(student.marginals(own.detach(), mask), tags, rtol=0, atol=1e-3)


def test_what_tags_that_keep_words_whole_expect_is_expected_of_the_base_tags():
    """Each path of BIO is one of BIOES, so that counts of the latter sum to those of the former."""
    base, tag_set = make("BIO", ("X", "Y"), seed=14), TagSet(("X", "Y"), "BIO")
    wide = ExpandedCRF(base, tag_set.of_marking_last, *tag_set.marking_last.legal())
    emissions, mask, _ = batch(base.n_tags, LENGTHS, seed=14)
    tags, pairs = taught(wide, emissions[..., wide.columns], mask)
    one = torch.eye(base.n_tags, dtype=torch.float64)[wide.columns]
    own_tags, own_pairs = taught(base, emissions, mask)
    torch.testing.assert_close(tags @ one, own_tags)
    torch.testing.assert_close(one.T @ pairs @ one, own_pairs)


def test_single_precision_equals_double_on_long_sequences():
    low, high = (make("BIOES", ("X",), seed=15, dtype=d) for d in (torch.float32, torch.float64))
    high.load_state_dict(low.state_dict())
    emissions, mask, _ = batch(low.n_tags, [400, 7], seed=15, scale=3.0, dtype=torch.float32)
    tags, pairs = taught(high, 2 * emissions.double(), mask)
    want = cross_entropy(high, emissions.double(), mask, tags, pairs)
    got = cross_entropy(low, emissions, mask, tags.float(), pairs.float())
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-4)
    half = cross_entropy(low, emissions.half(), mask, tags.half().float(), pairs.float())
    assert half.dtype is torch.float32


def test_misfits_are_named():
    crf = make()
    emissions, mask, _ = batch(crf.n_tags, LENGTHS)
    tags, pairs = taught(crf, emissions, mask)
    for temperature in (0.0, math.nan):
        with pytest.raises(ValueError, match="temperature"):
            cross_entropy(crf, emissions, mask, tags, pairs, temperature=temperature)
    with pytest.raises(ValueError, match="tags and pairs have shapes"):
        cross_entropy(crf, emissions, mask, tags[:, :2], pairs)
    with pytest.raises(ValueError, match="tags and pairs have shapes"):
        cross_entropy(crf, emissions, mask, tags, pairs[:2])
    with pytest.raises(ValueError, match="mask has shape"):
        cross_entropy(crf, emissions, mask[:, :2], tags, pairs)
