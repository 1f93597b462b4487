"""Gradient scaling for float16. Its arithmetic runs on any device, except for `scale`."""

import torch
from torch import nn

from spacy_bert_crf.model.gradients.scaling import GradScaler

SETTINGS = {"growth_interval": 2, "init_scale": 8.0}


def stepped(scaler, value):
    param = nn.Parameter(torch.zeros(3))
    param.grad = torch.full((3,), value)
    scaler.unscale([param, nn.Parameter(torch.zeros(1))])
    scaler.update()
    return param.grad


def test_it_does_nothing_before_an_update_in_float16():
    scaler, grad = GradScaler(SETTINGS), torch.ones(2)
    for dtype in (None, torch.bfloat16):
        assert scaler.scale(grad, dtype) is grad
    assert torch.equal(stepped(scaler, 4.0), torch.full((3,), 4.0))
    assert scaler.state() == {} and not scaler.is_on


def test_its_state_goes_on_where_it_was():
    scaler = GradScaler(SETTINGS)
    scaler.load_state({"scale": 8.0, "growth_tracker": 1})
    assert torch.equal(stepped(scaler, 4.0), torch.full((3,), 0.5))
    assert scaler.state() == {"scale": 16.0, "growth_tracker": 0}
    stepped(scaler, 4.0)
    other = GradScaler(SETTINGS)
    other.load_state(scaler.state())
    assert other.state() == {"scale": 16.0, "growth_tracker": 1} and other.is_on
    for each in (scaler, other):
        assert stepped(each, float("inf")) is None  # all gradients are dropped
        assert each.state() == {"scale": 8.0, "growth_tracker": 0}


def test_an_empty_state_changes_nothing():
    scaler = GradScaler(SETTINGS)
    scaler.load_state({})
    assert not scaler.is_on
