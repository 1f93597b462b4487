"""Outlying activations: which channels are taken out, and that nothing is lost by it."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from spacy_bert_crf.encoder.cpu import fused, int8, outliers
from spacy_bert_crf.encoder.cpu.smoothing import probe_inputs
from spacy_bert_crf.encoder.hf import load_encoder
from spacy_bert_crf.errors import BertCrfError
from support.toys import own_config

#: The inner channel that outlies, and how far.
CHANNEL, FACTOR = 7, 300.0


@pytest.fixture
def encoder(encoder_path):
    """An encoder that gives what it gave before, with an outlying activation in its last layer."""
    model = copy.deepcopy(
        load_encoder(own_config(encoder_path)["model"]["tok2vec"]["name"], {}, {}).model
    )
    model.requires_grad_(False)
    layer = model.encoder.layer[-1]
    layer.intermediate.dense.weight[CHANNEL] = 0
    layer.intermediate.dense.bias[CHANNEL] = FACTOR
    layer.output.dense.weight[:, CHANNEL] /= FACTOR
    return model


def observed(rows):
    seen = outliers._Channels()
    for part in np.split(rows, 2):
        seen.add(part)
    return seen


def test_ranges_by_hand():
    rows = np.array([[1, -9, 2, 0], [0, 3, 1, 4], [2, 3, 0, 0], [1, 3, 0.5, 1]], dtype=np.float32)
    found = observed(rows).rest(-100.0)
    assert found.apart == [] and (found.range.low, found.range.high) == (-9, 4)
    # The two largest channels, the second and the last, do not count as signal.
    assert found.range.count == 8 and found.range.squares == np.square(rows[:, [0, 2]]).sum()


def test_as_few_channels_as_it_takes(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(64, 80)).astype(np.float32)
    even = observed(rows).rest(0.0)
    assert even.apart == []
    enough = even.range.ratio() - outliers._ROOM
    # Two channels that are large in all rows have nearly all of the energy.
    rows[:, [3, 30]] += [100.0, 200.0]
    uneven = observed(rows)
    found = uneven.rest(enough - 1.0)
    assert found.apart[:2] == [30, 3] and len(found.apart) == outliers._STEP
    assert found.range.high < 5 and found.range.ratio() > enough - 1.0
    # Where none has room, the best of them is taken; where none is enough, none.
    best = uneven.rest(found.range.ratio() + 0.1)
    assert len(best.apart) > outliers._STEP and best.range.ratio() > found.range.ratio()
    assert uneven.rest(best.range.ratio() + 0.1) is None
    monkeypatch.setattr(outliers, "MOST", 0)
    assert uneven.rest(1000.0) is None


def test_the_parts_add_up_to_the_layer(encoder):
    plain = encoder.encoder.layer[-1]
    copied = copy.deepcopy(plain)
    channels = [CHANNEL, 0, 5]
    outliers.take_out(copied.intermediate.dense, copied.output.dense, channels)
    inner, outer = plain.intermediate, plain.output.dense
    apart = outliers.Apart(inner.dense, inner.intermediate_act_fn, outer, channels)
    layer = fused.FusedBertLayer(copied, fused.JoinedLinear, apart)
    rows = torch.randn(3, 9, encoder.config.hidden_size)
    with torch.inference_mode():
        want, got, less = (each(rows) for each in (plain, layer, copied))
    want, got, less = (x[0] if isinstance(x, tuple) else x for x in (want, got, less))
    assert torch.allclose(got, want, atol=1e-5)
    assert not torch.allclose(less, want, atol=1e-2)


def test_layers_without_biases():
    torch.manual_seed(0)
    inner, outer = nn.Linear(4, 6, bias=False), nn.Linear(6, 4, bias=False)
    apart = outliers.Apart(inner, nn.ReLU(), outer, [1, 4])
    rows = torch.randn(5, 4)
    whole = rows + outer(torch.relu(inner(rows)))
    outliers.take_out(inner, outer, [1, 4])
    assert torch.allclose(outer(torch.relu(inner(rows))) + apart(rows.clone()), whole, atol=1e-6)


def test_int8_with_an_outlying_channel(encoder, monkeypatch):
    try:
        int8.check_kernels()
    except BertCrfError as err:
        pytest.skip(str(err))
    ids, mask = probe_inputs(encoder.config.vocab_size, [2], [3], 64)[1]

    def lost(made):
        with torch.inference_mode():
            want, got = (each(ids, mask).last_hidden_state for each in (encoder, made))
        return float((got - want).norm() / want.norm())

    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    made = int8.int8_encoder(encoder, [2], [3], 64)
    layer = made.encoder.layer[-1]
    assert isinstance(layer.apart, outliers.Apart) and layer.inner.output is not None
    assert isinstance(layer.outer, int8.Int8Linear) and layer.outer.factors is None
    assert all(torch.equal(w, before[name]) for name, w in encoder.state_dict().items())
    monkeypatch.setattr(outliers, "MOST", 0)
    smoothed = int8.int8_encoder(encoder, [2], [3], 64)
    assert smoothed.encoder.layer[-1].apart is None
    assert lost(made) < 0.1
    # Without that, the channel would take all of the range, or the layer would stay in float32.
    assert lost(made) < lost(smoothed) or isinstance(
        smoothed.encoder.layer[-1].outer, int8.FloatLinear
    )
