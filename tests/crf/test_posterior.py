"""Probabilities, entropy and n-best of the CRF against enumeration of all tag paths."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from support.crf import LENGTHS, Enumeration, batch, make

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


@st.composite
def problems(draw):
    """A random CRF, a batch and the arguments of `posterior`."""
    n_tags = draw(st.integers(1, 5))
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    scale = draw(st.sampled_from([0.3, 2.0, 10.0]))
    seed = draw(st.integers(0, 10_000))
    generator = torch.Generator().manual_seed(seed)

    def chance(*shape):
        return torch.rand(*shape, generator=generator) < 0.7

    pairs = chance(n_tags, n_tags)
    crf = LinearChainCRF(n_tags, chance(n_tags).tolist(), chance(n_tags).tolist(), pairs.tolist())
    with torch.no_grad():
        for param in crf.parameters():
            param.copy_(torch.randn(param.shape, generator=generator) * scale)
    emissions, mask, tags = batch(n_tags, lengths, seed, scale, dtype)
    arguments = {"constrain": draw(st.booleans())}
    if draw(st.booleans()):
        arguments["allowed"] = chance(*emissions.shape)
    if draw(st.booleans()):
        arguments["temperature"] = draw(st.sampled_from([0.5, 3.0]))
    return crf.to(dtype), emissions, mask, tags, lengths, arguments


def enumerations(crf, emissions, lengths, arguments):
    allowed = arguments.get("allowed")
    others = {k: v for k, v in arguments.items() if k != "allowed"}
    return [
        Enumeration(crf, emissions[i], n, allowed=None if allowed is None else allowed[i], **others)
        for i, n in enumerate(lengths)
    ]


@settings(max_examples=150, deadline=None)
@given(problems())
def test_equals_enumeration(problem):
    crf, emissions, mask, tags, lengths, arguments = problem
    close = TOLERANCE[emissions.dtype]
    posterior = crf.posterior(emissions, mask, **arguments)
    log_z, marginals = posterior.log_z.tolist(), crf.marginals(emissions, mask, **arguments)
    log_p, entropy = posterior.log_probability(tags).tolist(), posterior.entropy().tolist()
    assert marginals.dtype is emissions.dtype
    for i, want in enumerate(enumerations(crf, emissions, lengths, arguments)):
        paths, length = want.paths, lengths[i]
        assert not marginals[i, length:].any()
        path = tags[i, :length]
        is_path = (paths == path).all(1)
        if not len(paths):
            assert log_z[i] == log_p[i] == -math.inf and math.isnan(entropy[i])
            assert not marginals[i].any()
            continue
        assert log_z[i] == pytest.approx(float(want.log_z), rel=close, abs=close)
        for step in range(length):
            for tag in range(crf.n_tags):
                p = want.probability(paths[:, step] == tag)
                assert marginals[i, step, tag].item() == pytest.approx(p, rel=0, abs=close)
                if not (paths[:, step] == tag).any():
                    assert marginals[i, step, tag] == 0  # not small: nothing
        if is_path.any():
            assert log_p[i] == pytest.approx(float(want.log_p[is_path]), rel=close, abs=close)
        else:
            assert log_p[i] == -math.inf
        nats = float(-(want.log_p.exp() * want.log_p).sum())
        assert entropy[i] == pytest.approx(nats, rel=close, abs=close)


@settings(max_examples=100, deadline=None)
@given(problems(), st.data())
def test_spans_equal_enumeration(problem, data):
    crf, emissions, mask, _, lengths, arguments = problem
    wanted = enumerations(crf, emissions, lengths, arguments)
    spans = []
    for i, length in enumerate(lengths):
        for _ in range(4):
            start = data.draw(st.integers(0, length - 1))
            end = data.draw(st.integers(start + 1, length))
            tags = data.draw(st.lists(st.integers(0, crf.n_tags - 1), min_size=6, max_size=6))
            spans.append((i, start, end, tags))
    sequence, start, end, tags = (torch.tensor(x) for x in zip(*spans, strict=True))
    following = None
    if data.draw(st.booleans()):
        seed = data.draw(st.integers(0, 1000))
        generator = torch.Generator().manual_seed(seed)
        following = torch.rand(len(spans), crf.n_tags, generator=generator) < 0.6
    posterior = crf.posterior(emissions, mask, **arguments)
    got = posterior.span_probability(sequence, start, end, tags, following)
    for n, (i, begin, stop, span) in enumerate(spans):
        paths = wanted[i].paths
        has = (paths[:, begin:stop] == torch.tensor(span[: stop - begin])).all(1)
        if following is not None and stop < lengths[i]:
            has &= following[n][paths[:, stop]]
        want = wanted[i].probability(has) if len(paths) else 0.0
        assert got[n].item() == pytest.approx(want, rel=0, abs=TOLERANCE[emissions.dtype])
        if not has.any():
            assert got[n] == 0


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(1, 12))
def test_n_best_equals_enumeration(problem, k):
    crf, emissions, mask, _, lengths, arguments = problem
    tags, log_p = crf.nbest(emissions, mask, k, **arguments)
    close = TOLERANCE[emissions.dtype]
    assert tags.shape == (len(lengths), k, max(lengths)) and log_p.shape == (len(lengths), k)
    for i, want in enumerate(enumerations(crf, emissions, lengths, arguments)):
        n = min(k, len(want.paths))
        assert (log_p[i, n:] == -torch.inf).all() and not tags[i, n:].any()
        best = want.log_p.topk(n).values
        torch.testing.assert_close(log_p[i, :n].double(), best, rtol=close, atol=close)
        assert not tags[i, :, lengths[i] :].any()
        paths = tags[i, :n, : lengths[i]]
        assert len(set(map(tuple, paths.tolist()))) == n
        for path, got in zip(paths, log_p[i, :n].tolist(), strict=True):
            its = want.log_p[(want.paths == path).all(1)]
            assert got == pytest.approx(float(its), rel=close, abs=close)


@settings(max_examples=100, deadline=None)
@given(problems())
def test_constrained_decoding_equals_enumeration(problem):
    crf, emissions, mask, _, lengths, arguments = problem
    allowed = arguments.get("allowed")
    tags, score = crf.viterbi(emissions, mask, allowed)
    only = {"constrain": True, "allowed": allowed}
    for i, want in enumerate(enumerations(crf, emissions, lengths, only)):
        if not len(want.paths):
            assert score[i] == -torch.inf and not tags[i].any()
            continue
        best = float((want.log_p + want.log_z).max())
        assert score[i].item() == pytest.approx(best, rel=1e-5, abs=1e-5)
        its = (want.paths == tags[i, : lengths[i]]).all(1)
        assert float(want.log_p[its]) == pytest.approx(float(want.log_p.max()), abs=1e-4)


@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_probability_of_an_entity(scheme):
    """That decoding a path, drawn by its probability, gives just this entity."""
    labels = ("X", "Y") if scheme == "BIO" else ("X",)
    tag_set, crf = TagSet(labels, scheme), make(scheme, labels, seed=20)
    emissions, mask, _ = batch(crf.n_tags, LENGTHS, seed=20)
    spans = [
        (i, start, end, label)
        for i, length in enumerate(LENGTHS)
        for start in range(length)
        for end in range(start + 1, length + 1)
        for label in labels
    ]
    tags = torch.full((len(spans), max(LENGTHS)), -1)
    for row, (_, start, end, label) in zip(tags, spans, strict=True):
        row[: end - start] = torch.tensor(tag_set.span_tags(end - start, label))
    sequence, start, end = (torch.tensor(x) for x in list(zip(*spans, strict=True))[:3])
    following = torch.tensor([tag_set.closing(label) for *_, label in spans])
    posterior = crf.posterior(emissions, mask)
    got = posterior.span_probability(sequence, start, end, tags, following)
    for n, (i, begin, stop, label) in enumerate(spans):
        want = Enumeration(crf, emissions[i], LENGTHS[i], True)
        has = [(begin, stop, label) in tag_set.decode(path) for path in want.paths.tolist()]
        assert got[n].item() == pytest.approx(want.probability(torch.tensor(has)), abs=1e-9)
    assert got.sum() > 0.5


@pytest.mark.parametrize("scale, weight", [(1.0, 1.0), (8.0, 2.0), (300.0, 50.0)])
def test_single_precision_equals_double_on_longer_sequences(scale, weight):
    single = make("BIOES", ("X", "Y"), seed=21, scale=weight, dtype=torch.float32)
    double = make("BIOES", ("X", "Y"), dtype=torch.float64)
    double.load_state_dict(single.state_dict())
    lengths = [300, 120, 1, 299]
    emissions, mask, _ = batch(single.n_tags, lengths, seed=21, scale=scale, dtype=torch.float32)
    low, high = single.posterior(emissions, mask), double.posterior(emissions.double(), mask)
    torch.testing.assert_close(low.marginals().double(), high.marginals(), rtol=0, atol=1e-6)
    torch.testing.assert_close(low.entropy().double(), high.entropy(), rtol=1e-5, atol=1e-5)
    best, score = double.viterbi(emissions.double(), mask)
    torch.testing.assert_close(high.log_probability(best), score - high.log_z)
    paths, log_p = single.nbest(emissions, mask, 3)
    assert torch.equal(paths[:, 0], best)
    torch.testing.assert_close(log_p[:, 0].double(), score - high.log_z, rtol=1e-5, atol=1e-5)
    # The marginals are the gradient of log Z.
    emissions = emissions.double().requires_grad_()
    double.log_partition(emissions, mask, True).sum().backward()
    torch.testing.assert_close(high.marginals(), emissions.grad, rtol=1e-9, atol=1e-9)


def test_entropy_of_one_path_is_0_and_of_equal_ones_the_logarithm_of_their_number():
    crf = LinearChainCRF(3)
    with torch.no_grad():
        for param in crf.parameters():
            param.zero_()
    emissions, mask, tags = batch(3, [5, 2], dtype=torch.float32)
    flat = crf.posterior(torch.zeros_like(emissions), mask).entropy()
    torch.testing.assert_close(flat, torch.tensor([5.0, 2.0]) * math.log(3))
    forced = torch.nn.functional.one_hot(tags, 3).bool()
    one = crf.posterior(1000 * emissions, mask, allowed=forced)
    assert one.entropy().tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert torch.equal(one.marginals(), forced * mask.unsqueeze(2).float())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"allowed": torch.ones(4, 4, 2, dtype=torch.bool)}, "allowed tags have shape"),
        ({"allowed": torch.ones(4, 4, 5)}, "allowed tags have dtype"),
        ({"mask": torch.ones(4, 3, dtype=torch.bool)}, "mask has shape"),
    ],
)
def test_misfits_are_named(change, message):
    crf = make()
    emissions, mask, _ = batch(crf.n_tags, LENGTHS)
    arguments = {"emissions": emissions, "mask": mask, **change}
    with pytest.raises(ValueError, match=message):
        crf.posterior(**arguments)
    with pytest.raises(ValueError, match=message):
        crf.nbest(k=2, **arguments)


def test_misfits_of_spans_and_paths_are_named():
    crf = make()
    emissions, mask, tags = batch(crf.n_tags, LENGTHS)
    posterior = crf.posterior(emissions, mask)
    for start, end in ((3, 3), (-1, 1), (0, 4), (0, 2)):
        spans = [torch.tensor([x]) for x in (2, start, end)]
        width = 1 if (start, end) == (0, 2) else 4
        with pytest.raises(ValueError, match=f"span 0 at {start}:{end} with {width} tags"):
            posterior.span_probability(*spans, torch.zeros(1, width, dtype=torch.long))
    one = torch.tensor([0])
    with pytest.raises(ValueError, match="following tags"):
        posterior.span_probability(one, one, one + 1, one[None], torch.ones(1, 2).bool())
    with pytest.raises(ValueError, match="shapes"):
        posterior.span_probability(one, tags[0], one + 1, one[None])
    with pytest.raises(ValueError, match="tags have shape"):
        posterior.log_probability(tags[:, :2])
    with pytest.raises(ValueError, match="at least 1"):
        crf.nbest(emissions, mask, 0)
    none = torch.zeros(0, dtype=torch.long)
    assert posterior.span_probability(none, none, none, none.view(0, 3)).shape == (0,)
