"""The scan on probabilities against plain log-sum-exp by autograd, where numbers are extreme."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from spacy_bert_crf.crf.forward_backward import EXCLUDED, Order, ProbabilityScan, Weights, scan
from spacy_bert_crf.crf.log_scan import LogScan
from support.crf import batch, make


def plain_log_z(emissions, start, end, transitions, lengths, allowed=None):
    """log Z [B] in float64, one sequence and one step after the other."""
    out = []
    for i, length in enumerate(lengths):
        rows = emissions[i]
        if allowed is not None:
            rows = rows.masked_fill(~allowed[i], EXCLUDED)
        state = start + rows[0]
        for step in range(1, length):
            state = torch.logsumexp(state.unsqueeze(1) + transitions, dim=0) + rows[step]
        out.append(torch.logsumexp(state + end, dim=0))
    return torch.stack(out)


def weights_of(crf, constrain, params=None):
    start, end, transitions = params or (p.detach().double() for p in crf.parameters())
    if constrain:
        start = start.masked_fill(~crf.legal_start, EXCLUDED)
        end = end.masked_fill(~crf.legal_end, EXCLUDED)
        transitions = transitions.masked_fill(~crf.legal_transitions, EXCLUDED)
    return start, end, transitions


def plain(crf, emissions, lengths, allowed, constrain):
    """Negative log-likelihood of sets and its gradient by autograd."""
    values = (emissions, *weights_of(crf, False))
    emissions, *params = inputs = [x.clone().requires_grad_() for x in values]
    weights = weights_of(crf, constrain, params)
    log_z = plain_log_z(emissions, *weights, lengths)
    loss = log_z - plain_log_z(emissions, *weights, lengths, allowed)
    return loss.detach(), *torch.autograd.grad(loss.sum(), inputs, materialize_grads=True)


def own(crf, emissions, mask, gold, constrain):
    inputs = emissions.clone().requires_grad_()
    loss = crf(inputs, gold, mask, constrain)
    names = ("start_transitions", "end_transitions", "transitions")
    params = [crf.get_parameter(name) for name in names]
    return loss.detach(), *torch.autograd.grad(loss.sum(), [inputs, *params])


def sets_with(tags, n_tags, share, seed):
    """Sets of allowed tags that hold these, and others at random."""
    generator = torch.Generator().manual_seed(seed)
    more = torch.rand(*tags.shape, n_tags, generator=generator) < share
    return torch.nn.functional.one_hot(tags, n_tags).bool() | more


def close(got, want, rtol=1e-9, atol=1e-9):
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, check_dtype=False)


@settings(max_examples=80, deadline=None)
@given(
    scheme=st.sampled_from(["BIO", "BIOES"]),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    emission_scale=st.sampled_from([0.1, 3.0, 100.0, 1000.0]),
    weight_scale=st.sampled_from([0.1, 3.0, 300.0]),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    constrain=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_equals_plain_log_sum_exp_at_any_scale(
    scheme, lengths, emission_scale, weight_scale, share, constrain, seed
):
    crf = make(scheme, ("X",), seed, weight_scale)
    emissions, mask, _ = batch(crf.n_tags, lengths, seed, emission_scale)
    # Sets around a path that the scheme allows: all O.
    allowed = sets_with(torch.zeros_like(mask, dtype=torch.long), crf.n_tags, share, seed)
    want = plain(crf, emissions, lengths, allowed, constrain)
    close(own(crf, emissions, mask, allowed, constrain), want)
    single = make(scheme, ("X",), seed, weight_scale, torch.float32)
    want = plain(single, emissions.float().double(), lengths, allowed, constrain)
    got = own(single, emissions.float(), mask, allowed, constrain)
    close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 20.0, 400.0])
@pytest.mark.parametrize("constrain", [False, True])
def test_long_sequences(scale, constrain):
    crf = make("BIOES", ("X",), seed=8)
    lengths = [2500, 2001]
    emissions, mask, _ = batch(crf.n_tags, lengths, seed=8, scale=scale)
    allowed = sets_with(torch.zeros_like(mask, dtype=torch.long), crf.n_tags, 0.2, 8)
    want = plain(crf, emissions, lengths, allowed, constrain)
    # The scores of the plain one grow to 1e6, which leaves it 1e-10 at each of 2,500 steps.
    close(own(crf, emissions, mask, allowed, constrain), want, rtol=1e-9, atol=3e-7)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    scale=st.sampled_from([1.0, 30.0, 200.0]),
    constrain=st.booleans(),
    share=st.sampled_from([None, 0.2]),
    seed=st.integers(0, 10_000),
)
def test_both_scans_agree_wherever_nothing_is_lost(lengths, scale, constrain, share, seed):
    crf = make("BIO", ("X", "Y"), seed)
    emissions, mask, _ = batch(crf.n_tags, lengths, seed, scale)
    allowed = None
    if share is not None:
        allowed = sets_with(torch.zeros_like(mask, dtype=torch.long), crf.n_tags, share, seed)
    weights = Weights(*weights_of(crf, constrain))
    fast = ProbabilityScan(emissions, weights, mask, allowed, True)
    safe = LogScan(emissions, weights, Order(mask), allowed, True)
    if not fast.lost:
        torch.testing.assert_close(fast.log_z, safe.log_z, rtol=1e-12, atol=1e-10)
        grad = torch.rand(len(lengths), dtype=torch.float64)
        close(fast.gradient(grad), safe.gradient(grad))
    if scale == 1.0:
        assert not fast.lost  # or the scan that is fast is never taken


def two_chains(first, second):
    """Two tags that never change into each other, with these scores: [1, T, 2] and weights."""
    emissions = torch.stack([torch.tensor(first), torch.tensor(second)], dim=1).double()[None]
    transitions = torch.tensor([[0.0, EXCLUDED], [EXCLUDED, 0.0]], dtype=torch.float64)
    return emissions, Weights(torch.zeros(2), torch.zeros(2), transitions)


@pytest.mark.parametrize(
    "first, second",
    [
        # The second chain is below any float64 beside the first one, and wins in the end.
        ([0.0, *[-300.0] * 4], [-800.0, *[0.0] * 4]),
        # So it is from either end: forward and backward agree, and both are wrong.
        ([0.0, *[-300.0] * 10, 0.0], [-800.0, *[0.0] * 10, -800.0]),
        # Slowly: no step loses anything of its own.
        ([0.0] * 30 + [-50.0] * 60 + [0.0] * 30, [-50.0] * 30 + [0.0] * 60 + [-50.0] * 30),
    ],
)
def test_a_path_that_underflows_and_then_wins_is_not_lost(first, second):
    emissions, weights = two_chains(first, second)
    mask = torch.ones(emissions.shape[:2], dtype=torch.bool)
    want = torch.logsumexp(emissions.sum(1), dim=1)
    assert ProbabilityScan(emissions, weights, mask, None, True).lost
    done = scan(emissions, weights, mask, None)
    torch.testing.assert_close(done.log_z, want)
    tags, _ = done.gradient(torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(tags[:, 0], torch.softmax(emissions.sum(1), 1).expand_as(tags[:, 0]))


def test_transition_too_small_for_a_float_is_not_taken_for_an_excluded_one():
    crf = make(seed=9)
    crf.set_legal()
    with torch.no_grad():
        crf.transitions[:, 0] = -900.0
    lengths = [6, 1]
    emissions, mask, _ = batch(crf.n_tags, lengths, seed=9)
    allowed = torch.ones_like(emissions, dtype=torch.bool)
    allowed[0, 3:, 1:] = False  # forces the sequence through it
    want = plain(crf, emissions, lengths, allowed, False)
    close(own(crf, emissions, mask, allowed, False), want)


def test_gold_that_constraints_forbid_has_a_finite_loss():
    crf = make("BIO", ("X",), seed=10)
    emissions, mask, _ = batch(3, [4, 3], seed=10)
    illegal = torch.tensor([[0, 2, 0, 0], [0, 0, 0, 0]])  # O, I-X
    loss, *grads = own(crf, emissions, mask, illegal, True)
    start, end, transitions = weights_of(crf, True)
    want = plain_log_z(emissions, start, end, transitions, [4, 3])
    changed = make("BIO", ("X",), seed=10)
    with torch.no_grad():
        changed.transitions[0, 2] = EXCLUDED
    torch.testing.assert_close(loss, want - changed.score(emissions, illegal, mask))
    assert loss[0] > 9000 > 100 > loss[1]
    # The same as a set that no legal path fits into.
    nothing = torch.nn.functional.one_hot(illegal, 3).bool()
    nothing[0, 3, 1] = True
    loss, *grads = own(crf, emissions, mask, nothing, True)
    close([loss, *grads], plain(crf, emissions, [4, 3], nothing, True))
    assert 9000 < loss[0] < 11_000 and all(g.isfinite().all() for g in grads)


def test_a_tag_that_nothing_may_follow():
    """What padding would hold is no path at all; none of it is to reach a gradient."""
    crf = make("BIO", ("X",), seed=16)
    legal = torch.ones(3, 3, dtype=torch.bool)
    legal[1] = False
    crf.set_legal(transitions=legal.tolist())
    lengths = [40, 2]
    emissions, mask, _ = batch(3, lengths, seed=16)
    allowed = torch.ones_like(emissions, dtype=torch.bool)
    allowed[1, 1] = torch.tensor([False, True, False])
    weights = Weights(*weights_of(crf, True))
    assert not ProbabilityScan(emissions, weights, mask, allowed, True).lost
    want = plain(crf, emissions, lengths, allowed, True)
    close(own(crf, emissions, mask, allowed, True), want)


def test_known_and_partly_known_sequences_in_one_batch():
    crf = make(seed=11)
    lengths = [5, 3, 6, 1, 4]
    emissions, mask, tags = batch(crf.n_tags, lengths, seed=11)
    allowed = torch.nn.functional.one_hot(tags, crf.n_tags).bool()
    close(own(crf, emissions, mask, allowed, False), own(crf, emissions, mask, tags, False))
    allowed[1, 1] = True
    allowed[4, 0, 2:] = True
    allowed[3, 1:] = False  # in padding, where sets say nothing
    want = plain(crf, emissions, lengths, allowed, False)
    close(own(crf, emissions, mask, allowed, False), want)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_in_padding_changes_nothing(bad):
    crf = make(seed=12)
    emissions, mask, tags = batch(crf.n_tags, [4, 2], seed=12)
    want = own(crf, emissions, mask, tags, True)
    emissions[1, 2:] = bad
    close(own(crf, emissions, mask, tags, True), want)
    tags, _ = crf.viterbi(emissions, mask)
    emissions[1, 2:] = 0.0
    assert torch.equal(tags, crf.viterbi(emissions, mask)[0])


def test_what_is_no_number_in_a_step_is_not_hidden():
    crf = make(seed=13)
    emissions, mask, tags = batch(crf.n_tags, [4, 2], seed=13)
    emissions[0, 2, 1] = torch.nan
    assert crf(emissions, tags, mask)[0].isnan()
    assert not crf(emissions, tags, mask)[1].isnan()


def test_a_tag_ruled_out_by_its_emission():
    crf = make(seed=14)
    crf.set_legal()
    emissions, mask, _ = batch(crf.n_tags, [5], seed=14)
    emissions[0, 2, 1:] = -torch.inf
    want = plain_log_z(emissions, *weights_of(crf, False), [5])
    torch.testing.assert_close(crf.log_partition(emissions, mask), want)


class _Reads(TorchDispatchMode):
    """Counts what makes the host wait for a device."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")
        self.n += func.overloadpacket.__name__ in waits
        return func(*args, **(kwargs or {}))


def test_the_gradient_can_be_worked_with():
    """What comes out has nothing of torch's inference mode, in which the scan runs."""
    crf = make(seed=17)
    emissions, mask, tags = batch(crf.n_tags, [4, 2], seed=17)
    log_z = crf.log_partition(emissions, mask)
    marginals = crf.marginals(emissions, mask)
    posterior = crf.posterior(emissions, mask)
    emissions.requires_grad_()
    loss = crf(emissions, tags, mask)
    (loss * loss).sum().backward()
    outs = [log_z, marginals, posterior.log_z, posterior.entropy()]
    outs += [posterior.log_probability(tags), *crf.nbest(emissions, mask, 2)]
    outs += [*crf.viterbi(emissions, mask), loss, emissions.grad]
    outs += [param.grad for param in crf.parameters()]
    assert not any(x.is_inference() for x in outs)


def test_reads_by_the_host_do_not_grow_with_the_batch():
    crf = make(seed=15)

    def reads(lengths):
        emissions, mask, tags = batch(crf.n_tags, lengths)
        allowed = sets_with(tags, crf.n_tags, 0.5, 0)
        counts = []
        for gold in (tags, allowed):
            with _Reads() as counted:
                crf(emissions.requires_grad_(), gold, mask).sum().backward()
            counts.append(counted.n)
        with _Reads() as counted:
            crf.viterbi(emissions.detach(), mask)
        return [*counts, counted.n]

    few = reads([3, 2])
    assert few == reads([70, 3, 50, 1, 9])
    assert max(few) <= 4
