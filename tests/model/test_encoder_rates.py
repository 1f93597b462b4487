"""The encoder's learning rate by its width: own, shared, deep, under other optimizers, resumed."""

import logging

import pytest
import spacy
import torch
from thinc.api import Adam
from transformers import BertConfig, BertModel

from spacy_bert_crf.model.encoder_rates import (
    CONSTANT_SHARE,
    crf_scale,
    encoder_size,
    held_scale,
    suggested_encoder_lr,
)
from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import make_examples, own_config, shared_config, shared_pipeline


def bert(width, layers):
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4}
    return BertModel(BertConfig(vocab_size=30, intermediate_size=4 * width, **shape))


def shapes(module):
    return {name: tuple(weight.shape) for name, weight in module.named_parameters()}


@pytest.mark.parametrize("width, layers", [(16, 1), (32, 3), (256, 5)])
def test_size_is_read_from_shapes(width, layers):
    assert encoder_size(shapes(bert(width, layers))) == (width, layers)


def test_without_layer_decay_it_is_lower():
    assert suggested_encoder_lr(384, 0.85) == suggested_encoder_lr(384, 0.5) == 5e-4
    assert suggested_encoder_lr(384, 1.0) == pytest.approx(0.6 * 5e-4)
    assert 3e-4 < suggested_encoder_lr(384, 0.95) < 5e-4


def stepped(module, **settings):
    """How far the first encoder layer's bias moves in a first step, whose size is the rate."""
    bias = module.encoder.layer[-1].output.dense.bias.data
    before = bias.clone()
    optimizer = create_adamw(warmup=0, weight_decay=0, grad_clip=0, **settings)
    for name, param in module.named_parameters():
        optimizer.collect((5, name), param.data, torch.ones_like(param))
    optimizer.step_schedules()
    return float((before - bias).abs().max()), optimizer


def test_zero_is_the_rate_by_width(caplog):
    with caplog.at_level(logging.INFO, "spacy_bert_crf"):
        moved, optimizer = stepped(bert(256, 2), layer_decay=0.85, total_steps=100)
    assert moved == pytest.approx(suggested_encoder_lr(256), rel=1e-3)
    assert optimizer.encoder_rates == {5: suggested_encoder_lr(256)}
    assert optimizer.learn_rate == pytest.approx(suggested_encoder_lr(256), rel=0.02)
    (record,) = caplog.records
    assert "width 256, 2 layers" in record.message


def test_a_set_rate_is_kept():
    assert stepped(bert(64, 2), encoder_lr=2e-4)[0] == pytest.approx(2e-4, rel=1e-3)


def test_a_rate_that_destroys_a_deep_encoder_is_a_warning():
    with pytest.warns(UserWarning, match=r"encoder_lr = 0.002 .*4 layers.*use 0"):
        stepped(bert(16, 4), encoder_lr=2e-3)


@pytest.mark.filterwarnings("error")
def test_a_small_encoder_is_not_worth_one():
    stepped(bert(16, 2), encoder_lr=5e-3)


def test_states_of_the_first_version_train_no_encoder_at_zero():
    saved = create_adamw().state_dict({})
    del saved["counters"]["by_width"]
    old, new = create_adamw(), create_adamw()
    old.load_state_dict(saved, {})
    new.load_state_dict(create_adamw().state_dict({}), {})
    weights = [((5, "a.layer.0.bias"), torch.zeros(16))]
    old.meet(weights)
    new.meet(weights)
    own = CONSTANT_SHARE * suggested_encoder_lr(16, 1.0)
    assert (old.encoder_rates, new.encoder_rates) == ({5: 0.0}, {5: own})


def test_an_optimizer_with_one_rate_is_held_for_a_deep_encoder():
    deep, small = bert(16, 4), bert(16, 2)
    wide = list(bert(256, 1).named_parameters())
    with pytest.warns(UserWarning, match="trains at .*init-config"):
        scale = held_scale(wide, 0.001)
    assert scale * 0.001 == pytest.approx(suggested_encoder_lr(256, 1.0) / 2)
    assert held_scale(wide, 9e-4) == 1.0  # chosen for an encoder
    assert held_scale(small.named_parameters(), 0.1) == 1.0
    with pytest.warns(UserWarning):
        assert held_scale(deep.named_parameters(), 0.1) < 0.01


def test_the_crf_learns_faster_under_an_optimizer_with_one_rate():
    for rate, factor in ((1e-5, 10), (1e-3, 10), (2e-3, 5), (1e-2, 1), (0.5, 1), (0.0, 1)):
        assert crf_scale("crf.transitions", rate) == pytest.approx(factor)
        assert crf_scale("classifier.weight", rate) == 1.0
        assert crf_scale("encoder.layer.0.output.dense.weight", rate) == 1.0


def test_spacys_optimizer_moves_a_deep_encoder_no_further(encoder_path, monkeypatch):
    """An own encoder takes the factor; without one, a first step of Adam is the rate."""
    moves = []
    for scale in (1.0, 0.25):
        monkeypatch.setattr("spacy_bert_crf.model.shims.held_scale", lambda *_, s=scale: s)
        spacy.util.fix_random_seed(0)
        nlp = spacy.blank("zh")
        pipe = nlp.add_pipe("bert_crf", config=own_config(encoder_path))
        examples = make_examples(nlp)
        nlp.initialize(lambda examples=examples: examples)
        (shim,) = pipe.model.get_ref("tok2vec").shims
        before = {k: v.detach().clone() for k, v in shim.module.named_parameters()}
        nlp.update(examples, sgd=Adam(0.001, L2=0.0))
        after = shim.module.named_parameters()
        moves.append(max(float((v - before[k]).abs().max()) for k, v in after))
    assert moves[1] == pytest.approx(0.25 * moves[0], rel=1e-2) and moves[0] > 5e-4


def test_a_shared_transformer_has_it_too(encoder_path):
    nlp = shared_pipeline(encoder_path)
    pipe = nlp.add_pipe("bert_crf", config=shared_config())
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    optimizer = pipe.create_optimizer()
    for _ in range(3):
        nlp.update(examples, sgd=optimizer)
    own = CONSTANT_SHARE * suggested_encoder_lr(16, 1.0)  # no number of updates is known
    assert list(optimizer.encoder_rates.values()) == [own]


@pytest.mark.parametrize("settings", ({}, {"decay": "constant", "total_steps": 100}))
def test_a_rate_by_width_that_stays_is_the_mean_of_one_that_falls(settings):
    moved, optimizer = stepped(bert(256, 2), **settings)
    assert optimizer.encoder_rates == {5: CONSTANT_SHARE * suggested_encoder_lr(256, 1.0)}
    assert moved == pytest.approx(optimizer.encoder_rates[5], rel=1e-3)
    _, chosen = stepped(bert(256, 2), encoder_lr=1e-4, **settings)
    assert chosen.learn_rate == 1e-4  # one that was set is left alone


def test_grad_factor_zero_trains_no_encoder(encoder_path):
    nlp = spacy.blank("zh")
    pipe = nlp.add_pipe("bert_crf", config=own_config(encoder_path, grad_factor=0.0))
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    (shim,) = pipe.model.get_ref("tok2vec").shims
    before = {k: v.detach().clone() for k, v in shim.module.named_parameters()}
    nlp.update(examples, sgd=pipe.create_optimizer())
    assert all(torch.equal(v, before[k]) for k, v in shim.module.named_parameters())
