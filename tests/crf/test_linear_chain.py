"""The CRF against enumeration of all tag paths, against pytorch-crf, and by gradcheck."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchcrf import CRF as PytorchCRF

from spacy_bert_crf.annotation.schemes import SCHEMES
from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from spacy_bert_crf.crf.viterbi import _trace_back, _trace_back_on_cpu
from support.crf import LENGTHS, all_paths, batch, is_legal, lse, make, path_score


@pytest.mark.parametrize("constrain", [False, True])
@pytest.mark.parametrize("labels", [("X",), ("X", "Y")])
def test_log_partition_equals_enumeration(labels, constrain):
    crf = make(labels=labels)
    emissions, mask, _ = batch(crf.n_tags, LENGTHS)
    got = crf.log_partition(emissions, mask, constrain)
    for i, length in enumerate(LENGTHS):
        paths = all_paths(crf.n_tags, length)
        if constrain:
            paths = [p for p in paths if is_legal(crf, p)]
        want = lse([path_score(crf, emissions[i], p) for p in paths])
        assert got[i].item() == pytest.approx(want, abs=1e-9)


def test_nll_of_known_tags_equals_enumeration():
    crf = make()
    emissions, mask, tags = batch(crf.n_tags, LENGTHS, seed=1)
    got = crf(emissions, tags, mask)
    for i, length in enumerate(LENGTHS):
        gold = path_score(crf, emissions[i], tags[i, :length].tolist())
        z = lse([path_score(crf, emissions[i], p) for p in all_paths(crf.n_tags, length)])
        assert got[i].item() == pytest.approx(z - gold, abs=1e-9)
    torch.testing.assert_close(
        crf.score(emissions, tags, mask), crf.log_partition(emissions, mask) - got
    )


@pytest.mark.parametrize("constrain", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_nll_of_partial_tags_equals_enumeration(weighted, constrain):
    crf = make(seed=2)
    emissions, mask, _ = batch(crf.n_tags, LENGTHS, seed=2)
    allowed = torch.zeros_like(emissions, dtype=torch.bool)
    allowed[:, :, 0] = True  # O is always among them, so that a legal path exists
    allowed |= torch.rand(emissions.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    weights = torch.linspace(-2, 0, crf.n_tags, dtype=torch.float64) if weighted else None
    got = crf(emissions, allowed, mask, constrain, weights)

    def counts(i, path):
        if weights is None:
            return 0.0
        return sum(weights[tag].item() for t, tag in enumerate(path) if allowed[i, t].sum() > 1)

    for i, length in enumerate(LENGTHS):
        paths = all_paths(crf.n_tags, length)
        if constrain:
            paths = [p for p in paths if is_legal(crf, p)]
        inside = [p for p in paths if all(allowed[i, t, tag] for t, tag in enumerate(p))]
        z = lse([path_score(crf, emissions[i], p) for p in paths])
        want = z - lse([path_score(crf, emissions[i], p) + counts(i, p) for p in inside])
        assert got[i].item() == pytest.approx(want, abs=1e-9)


def test_unknown_everywhere_is_no_loss_and_no_gradient():
    crf = make()
    emissions, mask, _ = batch(crf.n_tags, LENGTHS)
    emissions.requires_grad_()
    loss = crf(emissions, torch.ones_like(emissions, dtype=torch.bool), mask)
    loss.sum().backward()
    assert loss.abs().max() < 1e-12
    assert emissions.grad.abs().max() < 1e-12
    assert crf.transitions.grad.abs().max() < 1e-12


@pytest.mark.parametrize("scheme", SCHEMES)
def test_viterbi_equals_enumeration_of_legal_paths(scheme):
    crf = make(scheme, labels=("X", "Y") if scheme == "BIO" else ("X",), seed=4)
    emissions, mask, _ = batch(crf.n_tags, LENGTHS, seed=4)
    tags, score = crf.viterbi(emissions, mask)
    for i, length in enumerate(LENGTHS):
        legal = [p for p in all_paths(crf.n_tags, length) if is_legal(crf, p)]
        best = max(legal, key=lambda p: path_score(crf, emissions[i], p))
        assert tags[i, :length].tolist() == list(best)
        assert score[i].item() == pytest.approx(path_score(crf, emissions[i], best), abs=1e-9)
        assert not tags[i, length:].any()


@settings(max_examples=60, deadline=None)
@given(
    scheme=st.sampled_from(sorted(SCHEMES)),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    scale=st.sampled_from([0.1, 1.0, 30.0, 3000.0]),
    seed=st.integers(0, 10_000),
)
def test_viterbi_is_always_legal(scheme, lengths, scale, seed):
    crf = make(scheme, labels=("A", "B", "C"), seed=seed, dtype=torch.float32)
    emissions, mask, _ = batch(crf.n_tags, lengths, seed, scale, torch.float32)
    tags, _ = crf.viterbi(emissions, mask)
    for row, length in zip(tags.tolist(), lengths, strict=True):
        assert is_legal(crf, row[:length])


def test_equals_pytorch_crf():
    crf = make("BIO", dtype=torch.float32, seed=5)
    crf.set_legal()  # pytorch-crf knows no constraints
    other = PytorchCRF(crf.n_tags, batch_first=True)
    other.load_state_dict(crf.state_dict())  # strict: the same names and shapes
    emissions, mask, tags = batch(crf.n_tags, [17, 3, 9, 1], seed=5, dtype=torch.float32)
    mine, theirs = emissions.clone().requires_grad_(), emissions.clone().requires_grad_()
    loss = crf(mine, tags, mask).sum()
    want = -other(theirs, tags, mask=mask, reduction="sum")
    torch.testing.assert_close(loss, want)
    loss.backward()
    want.backward()
    torch.testing.assert_close(mine.grad, theirs.grad)
    for name, param in crf.named_parameters():
        torch.testing.assert_close(param.grad, other.get_parameter(name).grad, atol=1e-4, rtol=1e-4)
    decoded, _ = crf.viterbi(emissions, mask)
    for row, path in zip(decoded.tolist(), other.decode(emissions, mask), strict=True):
        assert row[: len(path)] == path


@pytest.mark.parametrize("constrain", [False, True])
@pytest.mark.parametrize("partial", [False, True])
def test_gradcheck(partial, constrain):
    crf = make(labels=("X",), seed=6)
    emissions, mask, tags = batch(crf.n_tags, [3, 1, 4], seed=6)
    gold = tags
    if constrain:
        gold = torch.zeros_like(tags)
    if partial:
        gold = torch.nn.functional.one_hot(gold, crf.n_tags).bool()
        gold[0, 1] = True
        gold[2, 0] = True

    def loss(e, start, end, transitions):
        params = {
            "start_transitions": start, "end_transitions": end, "transitions": transitions,
        }  # fmt: skip
        weights = torch.linspace(-1, 0, crf.n_tags, dtype=e.dtype)
        return torch.func.functional_call(crf, params, (e, gold, mask, constrain, weights))

    inputs = [emissions, *(crf.get_parameter(n).detach() for n in (
        "start_transitions", "end_transitions", "transitions"))]  # fmt: skip
    assert torch.autograd.gradcheck(loss, [x.clone().requires_grad_() for x in inputs])


def test_padding_changes_nothing():
    crf = make()
    emissions, mask, tags = batch(crf.n_tags, [3], seed=7)
    pad = torch.full((1, 5, crf.n_tags), 1e6, dtype=torch.float64)
    wide = torch.cat([emissions, pad], 1)
    wide_mask = torch.nn.functional.pad(mask, (0, 5))
    wide_tags = torch.nn.functional.pad(tags, (0, 5), value=1)
    short = emissions.clone().requires_grad_()
    long = wide.clone().requires_grad_()
    a, b = crf(short, tags, mask), crf(long, wide_tags, wide_mask)
    torch.testing.assert_close(a, b)
    a.sum().backward()
    b.sum().backward()
    torch.testing.assert_close(long.grad[:, :3], short.grad)
    assert not long.grad[:, 3:].any()
    assert (
        crf.viterbi(wide, wide_mask)[0][:, :3].tolist() == crf.viterbi(emissions, mask)[0].tolist()
    )


def test_gradient_of_a_long_sequence_keeps_its_precision():
    single, double = make(dtype=torch.float32), make(dtype=torch.float64)
    double.load_state_dict(single.state_dict())
    emissions, mask, tags = batch(single.n_tags, [5000], scale=3.0)
    low, high = emissions.float().requires_grad_(), emissions.clone().requires_grad_()
    loss = single(low, tags, mask)
    want = double(high, tags, mask)
    torch.testing.assert_close(loss.double(), want, rtol=1e-6, atol=0)
    loss.sum().backward()
    want.sum().backward()
    torch.testing.assert_close(low.grad.double(), high.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_float32_inside_whatever_the_dtype(dtype):
    crf = make(dtype=torch.float32)
    emissions, mask, tags = batch(crf.n_tags, [400, 7], scale=5.0, dtype=torch.float32)
    low = emissions.to(dtype)
    want = crf(low.float(), tags, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = crf(low, tags, mask)
    assert got.dtype is torch.float32
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mask": torch.ones(4, 4)}, "dtype"),
        ({"mask": torch.ones(4, 3, dtype=torch.bool)}, "mask has shape"),
        ({"mask": torch.zeros(4, 4, dtype=torch.bool)}, "no step"),
        ({"emissions": torch.zeros(4, 4, 3)}, "emissions have shape"),
        ({"gold": torch.zeros(4, 3, dtype=torch.long)}, "tags have shape"),
        ({"gold": torch.zeros(4, 4, 2, dtype=torch.bool)}, "allowed tags have shape"),
    ],
)
def test_misfits_are_named(change, message):
    crf = make()
    emissions, mask, gold = batch(crf.n_tags, LENGTHS)
    arguments = {"emissions": emissions, "gold": gold, "mask": mask, **change}
    with pytest.raises(ValueError, match=message):
        crf(**arguments)
    with pytest.raises(ValueError, match="expected"):
        crf.set_legal([True])


@pytest.mark.parametrize("trace", [_trace_back, _trace_back_on_cpu])
@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    n_tags=st.integers(1, 5),
    seed=st.integers(0, 10_000),
)
def test_viterbi_gives_ties_to_the_lower_tag(trace, lengths, n_tags, seed):
    generator = torch.Generator().manual_seed(seed)
    crf = LinearChainCRF(n_tags)
    with torch.no_grad():
        for param in crf.parameters():
            param.copy_(torch.randint(0, 2, param.shape, generator=generator))
    steps = max(lengths)
    emissions = torch.randint(0, 2, (len(lengths), steps, n_tags), generator=generator).float()
    mask = torch.arange(steps)[None, :] < torch.tensor(lengths)[:, None]
    with mock.patch("spacy_bert_crf.crf.viterbi._trace_back_on_cpu", trace):
        tags, score = crf.viterbi(emissions, mask)
    for i, length in enumerate(lengths):
        best = crf.start_transitions + emissions[i, 0]
        back = []
        for step in range(1, length):
            value, source = (best.unsqueeze(1) + crf.transitions).max(dim=0)
            best = value + emissions[i, step]
            back.append(source)
        best = best + crf.end_transitions
        path = [int(best.argmax())]
        for source in reversed(back):
            path.append(int(source[path[-1]]))
        assert tags[i, :length].tolist() == path[::-1]
        assert score[i] == best.max()
