"""Dropout from random bits keeps elements at its rate, and keeps their mean."""

import pytest
import torch
from torch import nn

from spacy_bert_crf.encoder.cpu.updates.dropout import STEPS, CpuDropout, Rate, drop


@pytest.mark.parametrize("p", [0.0, 1e-9, 0.1, 0.5, 0.9, 1.0])
def test_rate(p):
    rate = Rate(p)
    torch.manual_seed(0)
    n = 400_001  # no multiple of 4
    keep = rate.keep(n)
    assert keep.shape == (n,) and set(keep.unique().tolist()) <= {-1, 0}
    assert abs(rate.rate - p) <= 1 / STEPS and (rate.rate > 0) == (p > 0)
    deviation = (rate.rate * (1 - rate.rate) / n) ** 0.5
    assert abs(float((keep == 0).float().mean()) - rate.rate) <= 4 * deviation
    if p < 1:
        assert rate.scale * (1 - rate.rate) == pytest.approx(1, abs=1e-12)


def test_elements_are_independent():
    torch.manual_seed(0)
    dropped = (Rate(0.5).keep(1_000_000) == 0).double() - 0.5
    # The four numbers of one draw are neighbours.
    for lag in range(1, 9):
        assert abs(float((dropped[:-lag] * dropped[lag:]).mean())) < 0.25 * 4e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_drop(dtype):
    values = torch.randn(3, 5, dtype=dtype)
    before, keep = values.clone(), Rate(0.4).keep(15)
    want = torch.where(keep.view(3, 5).bool(), values, torch.zeros((), dtype=dtype))
    assert torch.equal(drop(values, keep), want) and torch.equal(values, before)


def layer(p=0.25):
    made = nn.Dropout(p)
    made.__class__ = CpuDropout
    return made.train()


def test_values_and_gradients():
    torch.manual_seed(0)
    values = torch.randn(200, 300).t().requires_grad_()  # not contiguous
    out = layer()(values)
    kept = out != 0
    assert torch.allclose(out[kept], values[kept] / 0.75)
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.01)
    assert float(layer()(torch.ones(100_000)).mean()) == pytest.approx(1, abs=0.01)
    (grad,) = torch.autograd.grad(out.sum(), values)
    assert torch.allclose(grad, kept / 0.75)


def test_second_derivatives():
    values = torch.randn(3, 4, dtype=torch.float64).requires_grad_()

    def run(values):
        torch.manual_seed(0)
        return layer()(values).square()

    assert torch.autograd.gradgradcheck(run, values)


def test_seeds_and_other_cases():
    values = torch.randn(50)
    torch.manual_seed(4)
    first, second = layer()(values), layer()(values)
    torch.manual_seed(4)
    assert torch.equal(layer()(values), first) and not torch.equal(first, second)
    assert torch.equal(layer().eval()(values), values)
    assert torch.equal(layer(0.0)(values), values)
    assert torch.equal(layer(1.0)(values), torch.zeros(50))
    assert layer()(torch.ones(2, 3, device="meta")).shape == (2, 3)
