"""The CRF alone, without spaCy: on the device it computes what it computes on the CPU."""

import copy

import pytest
import torch

from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from tests.cuda.pretend import LOG

DEVICE = torch.device("cuda")
SHAPES = [(1, 1, 1), (3, 1, 5), (5, 17, 7), (4, 33, 3), (2, 9, 13), (6, 8, 4)]
#: Scores of this size are summed as logarithms (`log_scan`).
LARGE = 300.0


def same(found, want, tolerance=1e-5):
    """Compare tensors of the device, or tuples of them, with those of the CPU."""
    if isinstance(want, tuple):
        for one, other in zip(found, want, strict=True):
            same(one, other, tolerance)
        return
    assert found.device.type == "cuda", "it left the device"
    torch.testing.assert_close(
        found.cpu().double(), want.double(), rtol=tolerance, atol=tolerance, equal_nan=True
    )


class Both:
    """A CRF and its inputs on the CPU, and the same on the device."""

    def __init__(self, shape, scale):
        B, T, K = shape
        draw = torch.Generator().manual_seed(SHAPES.index(shape))
        self.crf = LinearChainCRF(K)
        with torch.no_grad():
            for parameter in self.crf.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw))
        legal = torch.rand(K, K, generator=draw) > 0.2
        legal.fill_diagonal_(True)
        self.crf.set_legal([True] * K, [True] * K, legal.tolist())
        self.emissions = torch.randn(B, T, K, generator=draw) * scale
        self.lengths = torch.randint(1, T + 1, (B,), generator=draw)
        self.lengths[0] = T
        self.mask = torch.arange(T) < self.lengths[:, None]
        self.tags = torch.randint(0, K, (B, T), generator=draw)
        self.gold = torch.zeros(B, T, K, dtype=torch.bool).scatter_(2, self.tags.unsqueeze(2), True)
        is_open = torch.rand(B, T, generator=draw) > 0.6
        is_open[::2] = False
        self.partial = self.gold | is_open.unsqueeze(2)
        self.open_weights = torch.randn(K, generator=draw)
        self.on_device = copy.deepcopy(self.crf).to(DEVICE)

    def up(self):
        """CRF, emissions and mask on the device."""
        return self.on_device, self.emissions.to(DEVICE), self.mask.to(DEVICE)

    def down(self):
        """CRF, emissions and mask on the CPU."""
        return self.crf, self.emissions, self.mask


@pytest.fixture(params=[1.0, LARGE], ids=["small", "large"])
def scale(request):
    return request.param


@pytest.fixture(params=SHAPES, ids=str)
def both(request, scale):
    return Both(request.param, scale)


GOLDS = {
    "tags": lambda both: (both.tags, None),
    "one tag each": lambda both: (both.gold, None),
    "partial": lambda both: (both.partial, None),
    "partial, weighted": lambda both: (both.partial, both.open_weights),
    "anything": lambda both: (torch.ones_like(both.gold), None),
}


@pytest.mark.parametrize("constrain", [False, True])
@pytest.mark.parametrize("gold", GOLDS)
def test_likelihood_and_gradients(both, gold, constrain):
    allowed, weights = GOLDS[gold](both)
    outcomes = []
    for device, (crf, emissions, mask) in (("cpu", both.down()), ("cuda", both.up())):
        x = emissions.detach().clone().requires_grad_()
        own_weights = None if weights is None else weights.to(device)
        loss = crf(x, allowed.to(device), mask, constrain, own_weights)
        wanted = [x, *crf.parameters()]
        outcomes.append([loss, *torch.autograd.grad(loss.sum(), wanted, allow_unused=True)])
    for want, found in zip(*outcomes, strict=True):
        if want is None:
            assert found is None
        else:
            same(found, want, 2e-4)


def test_viterbi(both):
    (cpu, emissions, mask), (crf, x, m) = both.down(), both.up()
    LOG.reset()
    found = crf.viterbi(x, m)
    assert LOG.waits == []
    same(found, cpu.viterbi(emissions, mask))
    allowed = cpu.viterbi(emissions, mask, both.gold)
    same(crf.viterbi(x, m, both.gold.to(DEVICE)), allowed)


def test_nbest(both):
    (cpu, emissions, mask), (crf, x, m) = both.down(), both.up()
    want = cpu.nbest(emissions, mask, 3)
    LOG.reset()
    found = crf.nbest(x, m, 3)
    assert len(LOG.waits) <= 1
    same(found[1], want[1], 1e-4)


def test_posterior(both):
    (cpu, emissions, mask), (crf, x, m) = both.down(), both.up()
    want = cpu.posterior(emissions, mask, temperature=1.7)
    LOG.reset()
    found = crf.posterior(x, m, temperature=1.7)
    assert len(LOG.waits) <= 1
    same(found.log_z, want.log_z)
    same(found.marginals(), want.marginals())
    same(found.entropy(), want.entropy(), 1e-4)
    same(found.log_probability(both.tags.to(DEVICE)), want.log_probability(both.tags), 1e-4)
    B, _, K = both.emissions.shape
    spans = [torch.arange(B), torch.zeros(B, dtype=torch.int64), both.lengths.clamp(max=3)]
    spans.append(torch.randint(0, K, (B, 3), generator=torch.Generator().manual_seed(0)))
    on_device = [part.to(DEVICE) for part in spans]
    same(found.span_probability(*on_device), want.span_probability(*spans), 1e-4)


def test_sums_and_scores(both):
    (cpu, emissions, mask), (crf, x, m) = both.down(), both.up()
    same(crf.log_partition(x, m), cpu.log_partition(emissions, mask))
    same(crf.score(x, both.tags.to(DEVICE), m), cpu.score(emissions, both.tags, mask))


def test_viterbi_of_5000_steps():
    torch.manual_seed(0)
    crf = LinearChainCRF(5)
    emissions, mask = torch.randn(2, 5000, 5), torch.ones(2, 5000, dtype=torch.bool)
    mask[1, 4500:] = False
    want = crf.viterbi(emissions, mask)
    same(crf.to(DEVICE).viterbi(emissions.to(DEVICE), mask.to(DEVICE)), want)


def test_inputs_of_the_cpu_are_refused():
    crf, x = LinearChainCRF(5).to(DEVICE), torch.randn(2, 3, 5).to(DEVICE)
    mask = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises((RuntimeError, ValueError), match="device"):
        crf.viterbi(x, mask)
    with pytest.raises((RuntimeError, ValueError), match="device"):
        crf(x, torch.zeros(2, 3, dtype=torch.int64), mask.to(DEVICE))
