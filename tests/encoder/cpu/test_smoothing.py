"""Smoothing changes no result, and evens out channels that stretch the range."""

import copy

import pytest
import torch
from torch import nn

from spacy_bert_crf.encoder.cpu import smoothing
from spacy_bert_crf.encoder.hf import load_encoder
from spacy_bert_crf.export.formats.torch_int8 import quantized
from spacy_bert_crf.export.graphs import plain_encoder
from support.toys import own_config


@pytest.fixture
def encoder(encoder_path):
    """The toy encoder with an outlier channel before each of two layers."""
    source = own_config(encoder_path)["model"]["tok2vec"]["name"]
    model = plain_encoder(load_encoder(source, {}, {}).model, "sdpa")
    layer = model.encoder.layer[0]
    layer.attention.output.LayerNorm.weight[3] = 60.0
    layer.intermediate.dense.weight[:, 3] *= 0.02
    model.encoder.layer[1].intermediate.dense.bias[5] = 90.0
    model.encoder.layer[1].output.dense.weight[:, 5] *= 0.01
    return model


def inputs(encoder):
    return smoothing.probe_inputs(encoder.config.vocab_size, [2], [3], 64)


def run(encoder):
    with torch.inference_mode():
        out = [encoder(input_ids=i, attention_mask=m).last_hidden_state for i, m in inputs(encoder)]
    return torch.cat([rows.flatten(0, 1) for rows in out])


def test_results_stay(encoder):
    want = run(encoder)
    done = smoothing.smooth(encoder, inputs(encoder))
    assert "encoder.layer.0.intermediate.dense" in done
    assert "encoder.layer.1.output.dense" in done
    assert isinstance(encoder.encoder.layer[1].output.dense, smoothing.ScaledLinear)
    assert torch.allclose(run(encoder), want, atol=1e-4 * float(want.abs().max()))


def test_layers_that_read_the_same_input_share_their_factors(encoder):
    groups = list(smoothing.largest_inputs(encoder, inputs(encoder)))
    stem = "encoder.layer.1.attention.self."
    shared = tuple(stem + name for name in ("query", "key", "value"))
    assert shared in groups and sorted(map(len, groups)) == [1] * 6 + [3] * 2
    encoder.encoder.layer[0].output.LayerNorm.weight[7] = 60.0
    assert set(shared) <= set(smoothing.smooth(encoder, inputs(encoder)))
    first, *others = [encoder.get_submodule(name).factors for name in shared]
    assert all(torch.equal(factors, first) for factors in others)


@pytest.mark.parametrize("any_cpu", [False, True])
def test_int8_loses_less(encoder, any_cpu):
    want = run(encoder)
    plain = (run(quantized(copy.deepcopy(encoder), any_cpu)) - want).square().mean()
    smoothing.smooth(encoder, inputs(encoder))
    smoothed = (run(quantized(encoder, any_cpu)) - want).square().mean()
    assert 0 < smoothed < plain / 2


def test_even_inputs_are_left_alone(encoder_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)).requires_grad_(False)

    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = model

        def forward(self, input_ids, attention_mask):
            return self.layers(rows[input_ids])

    rows = torch.rand(50, 8) * 2 - 1
    probes = smoothing.probe_inputs(50, [2], [3], 20)
    encoder = Embedded()
    seen = smoothing.largest_inputs(encoder, probes)
    ids = torch.cat([ids.flatten() for ids, _ in probes])
    assert torch.equal(seen[("layers.0",)], rows[ids].abs().amax(0))
    assert smoothing.smooth(encoder, probes) == []
    rows[:, 2] *= 50
    assert "layers.0" in smoothing.smooth(encoder, probes)


def test_layers_that_lose_too_much_are_named_and_left(encoder):
    name = "encoder.layer.1.output.dense"
    ratios = smoothing.rounding_ratios(encoder, inputs(encoder))
    assert len(ratios) == 12
    ratios[name] = 5.04
    (line,) = smoothing.left_in_float(ratios)
    assert line.startswith(f"{name}: ") and "5.0 dB" in line
    small = quantized(encoder, False, [name])
    assert type(small.get_submodule(name)) is nn.Linear
    kinds = [type(module).__name__ for module in small.modules()]
    assert kinds.count("_WholeRange") == 11


def test_ratio_by_hand():
    """Uniform in [-1, 1]: signal 1/3, step 2/255; 10 log10(1/3 * 12 / (2/255)^2) = 48.1"""
    seen = smoothing.Range()
    seen.add(torch.linspace(-1, 1, 10_001).numpy())
    assert seen.ratio() == pytest.approx(48.1, abs=0.05)
    assert smoothing.Range().ratio() == float("inf")


@pytest.mark.parametrize(("any_cpu", "most"), [(False, 127), (True, 63)])
def test_bits_of_the_weights(any_cpu, most):
    torch.manual_seed(0)
    model = quantized(nn.Sequential(nn.Linear(16, 4)).eval(), any_cpu)
    weight = model[0].weight().int_repr()
    assert int(weight.max()) <= most and int(weight.abs().max()) > most // 2
    assert int(weight.min()) >= -most - 1


def test_probes_fit_the_window():
    probes = smoothing.probe_inputs(50, [2], [3], 20)
    assert all(ids.shape[1] <= 20 for ids, _ in probes)
    for ids, mask in probes:
        assert (ids[:, 0] == 2).all() and (ids[:, -1] == 3).all() and mask.all()
