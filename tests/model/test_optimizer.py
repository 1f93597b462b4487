"""The grouped optimizer: rates, decay, clipping, schedule, and the two kinds of loops."""

import math

import numpy as np
import pytest
import spacy
import torch
from thinc.api import Adam

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model import layers
from spacy_bert_crf.model.encoder_rates import suggested_encoder_lr
from spacy_bert_crf.model.optimizer import GroupedAdamW, create_adamw
from spacy_bert_crf.model.parameter_groups import decays, group_of
from support.toys import make_examples, own_config, shared_config, transformer_config


def named(n, value=1.0):
    return torch.full((n,), value), torch.full((n,), 0.5)


def test_groups_by_name():
    assert group_of("crf.transitions") == "crf"
    assert group_of("classifier.weight") == group_of("W") == "head"
    assert group_of("encoder.layer.0.output.dense.weight") == "encoder"
    assert decays("encoder.layer.0.output.dense.weight") and decays("W")
    for name in (
        "classifier.bias", "b", "encoder.layer.0.output.LayerNorm.weight", "crf.transitions",
        "crf.start_transitions", "layers.0.norm.weight",
    ):  # fmt: skip
        assert not decays(name), name


def test_each_group_moves_at_its_own_rate():
    optimizer = create_adamw(0.1, 0.01, 0.5, weight_decay=0, warmup=0, decay="constant")
    weights = {}
    for i, name in enumerate(("a.weight", "classifier.weight", "crf.transitions")):
        weights[name], grad = named(3)
        optimizer.collect((i, name), weights[name], grad)
    optimizer.step_schedules()
    for name, rate in zip(weights, (0.1, 0.01, 0.5), strict=True):
        # The first step of Adam is the rate itself.
        torch.testing.assert_close(weights[name], torch.full((3,), 1 - rate), atol=1e-5, rtol=0)


def test_lower_layers_move_less():
    rates = {
        "encoder.layer.11.output.dense.weight": 0.08, "encoder.layer.10.output.dense.bias": 0.04,
        "encoder.layer.9.attention.self.query.weight": 0.02,
        "embeddings.word_embeddings.weight": 0.08 * 0.5**12, "classifier.weight": 0.01,
    }  # fmt: skip
    optimizer = create_adamw(
        0.08, 0.01, 0.5, weight_decay=0, warmup=0, decay="constant", layer_decay=0.5, grad_clip=0
    )
    weights = {}
    for name in rates:
        weights[name], grad = named(3)
        optimizer.collect((0, name), weights[name], grad)
    optimizer.step_schedules()
    for name, rate in rates.items():
        torch.testing.assert_close(weights[name], torch.full((3,), 1 - rate), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1.5, -1.0, math.nan])
def test_a_layer_decay_out_of_range_is_named(value):
    with pytest.raises(BertCrfError, match="layer_decay"):
        create_adamw(layer_decay=value)


def test_weight_decay_spares_what_it_should():
    optimizer = create_adamw(0.1, 0.1, 0.1, weight_decay=0.5, warmup=0, decay="constant")
    plain, bias = torch.ones(2), torch.ones(2)
    optimizer.collect((0, "a.weight"), plain, torch.zeros(2))
    optimizer.collect((0, "a.bias"), bias, torch.zeros(2))
    optimizer.step_schedules()
    torch.testing.assert_close(plain, torch.full((2,), 0.95))
    torch.testing.assert_close(bias, torch.ones(2))


def test_equals_torch_adamw_with_clipping():
    torch.manual_seed(0)
    ours = [torch.randn(4, 3), torch.randn(5)]
    theirs = [torch.nn.Parameter(w.clone()) for w in ours]
    optimizer = create_adamw(1e-2, weight_decay=0.1, warmup=0, decay="constant", grad_clip=0.7)
    want = torch.optim.AdamW(
        [{"params": theirs[:1], "weight_decay": 0.1}, {"params": theirs[1:], "weight_decay": 0}],
        lr=1e-2,
    )
    for _ in range(5):
        grads = [torch.randn_like(w) for w in ours]
        for param, grad in zip(theirs, grads, strict=True):
            param.grad = grad.clone()
        norm = torch.nn.utils.clip_grad_norm_(theirs, 0.7)
        want.step()
        optimizer.collect((0, "x.weight"), ours[0], grads[0].clone())
        optimizer.collect((0, "x.bias"), ours[1], grads[1].clone())
        optimizer.step_schedules()
        assert optimizer.clipper.last_norm == pytest.approx(norm.item(), rel=1e-5)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.data)


def test_schedule_rises_falls_and_never_is_zero():
    optimizer = create_adamw(1.0, warmup=0.1, total_steps=100)
    factors = [optimizer.factor(i) for i in range(120)]
    assert factors[0] > 0 and min(factors) > 0
    assert max(factors) == pytest.approx(1.0, abs=0.02)
    assert factors.index(max(factors)) in range(9, 12)
    assert factors[:10] == sorted(factors[:10]) and factors[11:] == sorted(factors[11:])[::-1]
    assert factors[99] == pytest.approx(1 / 90)
    assert create_adamw(warmup=0, decay="constant").factor(10**6) == 1.0
    blind = create_adamw(warmup=0.1)
    assert blind.factor(0) > 0 and blind.factor(50) == 1.0


def test_a_gradient_that_is_not_finite_makes_no_step():
    optimizer = create_adamw(0.1, warmup=0)
    weight = torch.ones(2)
    optimizer.collect((0, "a.weight"), weight, torch.tensor([1.0, math.nan]))
    with pytest.warns(UserWarning, match="not finite"):
        optimizer.step_schedules()
    assert weight.tolist() == [1, 1] and optimizer.clipper.skipped == 1


@pytest.mark.parametrize(
    "setting", [{"weight_decay": -1}, {"decay": "cosine"}, {"grad_clip": math.nan}]
)
def test_bad_settings_are_refused(setting):
    with pytest.raises(BertCrfError, match=next(iter(setting))):
        create_adamw(**setting)


def test_suggested_rate_falls_with_width():
    assert suggested_encoder_lr(384) == 5e-4
    assert suggested_encoder_lr(768) == 8e-5
    assert suggested_encoder_lr(16) == 1e-3
    assert suggested_encoder_lr(1024) < 8e-5


def params_of(nlp):
    out = {}
    for name, pipe in nlp.pipeline:
        for i, node in enumerate(pipe.model.walk()):
            for shim in node.shims:
                module = shim._model
                module = getattr(module, "transformer", module)
                for key, param in module.named_parameters():
                    out[f"{name}.{i}.{key}"] = param.detach().clone()
            for key in node.param_names:
                if node.has_param(key):
                    out[f"{name}.{i}.{key}"] = torch.tensor(np.array(node.get_param(key)))
    return out


def largest_moves(nlp, loop):
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    before = params_of(nlp)
    optimizer = create_adamw(1e-3, 1e-2, 1e-1, weight_decay=0, warmup=0, decay="constant")
    loop(nlp, examples, optimizer)
    after = params_of(nlp)
    moves = {"crf": 0.0, "head": 0.0, "encoder": 0.0}
    for key, value in before.items():
        parts = key.split(".", 2)[2]
        moves[group_of(parts)] = max(
            moves[group_of(parts)], (after[key] - value).abs().max().item()
        )
    return moves


def spacy_loop(nlp, examples, optimizer):
    nlp.update(examples, sgd=False)
    for _, pipe in nlp.pipeline:
        pipe.finish_update(optimizer)
    optimizer.step_schedules()


def own_loop(nlp, examples, optimizer):
    nlp.update(examples, sgd=optimizer)


@pytest.mark.parametrize("loop", [spacy_loop, own_loop])
def test_the_component_moves_at_three_rates(encoder_path, loop):
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    moves = largest_moves(nlp, loop)
    assert moves["encoder"] == pytest.approx(1e-3, rel=0.05)
    assert moves["head"] == pytest.approx(1e-2, rel=0.05)
    assert moves["crf"] == pytest.approx(1e-1, rel=0.05)


def test_a_shared_transformer_moves_at_the_encoders_rate(encoder_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("transformer", config=transformer_config(encoder_path))
    nlp.add_pipe("bert_crf", config=shared_config())
    moves = largest_moves(nlp, spacy_loop)
    assert moves["encoder"] == pytest.approx(1e-3, rel=0.05)
    assert moves["crf"] == pytest.approx(1e-1, rel=0.05)


def test_both_loops_give_the_same_weights(encoder_path):
    results = []
    for loop in (spacy_loop, own_loop):
        spacy.util.fix_random_seed(0)
        nlp = spacy.blank("zh")
        nlp.add_pipe("bert_crf", config=own_config(encoder_path))
        examples = make_examples(nlp)
        nlp.initialize(lambda examples=examples: examples)
        optimizer = create_adamw(total_steps=6, warmup=2)
        rates = []
        for _ in range(6):
            loop(nlp, examples, optimizer)
            rates.append(optimizer.n_updates)
        results.append(params_of(nlp))
    for key, value in results[0].items():
        assert torch.equal(value, results[1][key]), key


def test_averages_are_used_for_evaluation_and_given_back(encoder_path, tmp_path):
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    optimizer = create_adamw(1e-2, warmup=3, total_steps=14, averaging=0.9)
    key, want = "bert_crf.2.classifier.weight", None
    for update in range(12):
        spacy_loop(nlp, examples, optimizer)
        weight = params_of(nlp)[key]
        share = min(1.0, 0.1 / min(1.0, optimizer.factor(update) / 0.3))
        want = weight if want is None else want + share * (weight - want)
    before = params_of(nlp)
    with nlp.use_params(optimizer.averages):
        torch.testing.assert_close(params_of(nlp)[key], want)
        nlp.to_disk(tmp_path / "p")
    assert not torch.allclose(before[key], want)
    assert all(torch.equal(value, before[name]) for name, value in params_of(nlp).items())
    torch.testing.assert_close(params_of(spacy.load(tmp_path / "p"))[key], want)
    with pytest.raises(BertCrfError, match="averaging"):
        create_adamw(averaging=1.0)


def test_other_optimizers_work_too(encoder_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    before = params_of(nlp)
    optimizer = Adam(0.01, use_averages=False)
    losses = [nlp.update(examples, sgd=optimizer)["bert_crf"] for _ in range(10)]
    assert losses[-1] < losses[0]
    assert any(not torch.equal(v, params_of(nlp)[k]) for k, v in before.items())
    head = layers.head_of(nlp.get_pipe("bert_crf").model)
    assert all(p.grad is None for p in head.module.parameters())


def test_other_optimizers_keep_the_memory_of_a_parameter(encoder_path):
    """Each update in a new tensor left the old ones behind: 45 MB an update at width 384."""
    nlp = spacy.blank("zh")
    pipe = nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    module = layers.own_encoder_of(pipe.model).module
    before = {name: (p.data_ptr(), p.data.clone()) for name, p in module.named_parameters()}
    nlp.update(examples, sgd=Adam(1e-4))
    moved = 0
    for name, param in module.named_parameters():
        assert param.data_ptr() == before[name][0]
        moved += not torch.equal(param.data, before[name][1])
    assert moved > 10


def test_layers_of_thinc_get_their_gradient_cleared():
    from thinc.api import Linear

    layer = Linear(2, 3).initialize()
    optimizer = create_adamw(0.1, 0.1, warmup=0)
    x, seen = np.ones((4, 3), dtype="f"), []
    for _ in range(3):
        _, backprop = layer.begin_update(x)
        backprop(np.ones((4, 2), dtype="f"))
        seen.append(layer.get_grad("b").copy())
        before = layer.get_param("W").copy()
        layer.finish_update(optimizer)
        optimizer.step_schedules()
        assert not layer.get_grad("b").any()
        assert (layer.get_param("W") < before).all()
    assert all((grad == seen[0]).all() for grad in seen)


def test_arrays_are_stepped_in_place_whatever_the_current_device(monkeypatch):
    """Another thread's current device may be another than that of the arrays."""
    monkeypatch.setattr("thinc.util.get_torch_default_device", lambda: torch.device("meta"))
    optimizer = create_adamw(warmup=0, weight_decay=0, decay="constant", head_lr=0.1)
    weights, gradient = np.ones(3, np.float32), np.ones(3, np.float32)
    assert optimizer((1, "W"), weights, gradient)[0] is weights
    optimizer.step_schedules()
    assert np.allclose(weights, 0.9) and not gradient.any()


def test_averages_of_thincs_own_optimizers(encoder_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    optimizer = Adam(0.01)  # keeps averages
    spacy_loop(nlp, examples, optimizer)
    before = params_of(nlp)
    with nlp.use_params(optimizer.averages):
        assert nlp(examples[0].text).has_annotation("ENT_IOB")
    assert all(torch.equal(value, params_of(nlp)[name]) for name, value in before.items())


def test_state_survives_the_round_trip():
    one = create_adamw(0.1, warmup=0, total_steps=9)
    weight, grad = named(3)
    one.collect((5, "a.weight"), weight, grad.clone())
    one.step_schedules()
    saved = one.state_dict({5: "pipe/0"})
    other = create_adamw(0.1, warmup=0, total_steps=9)
    assert isinstance(other, GroupedAdamW)
    other.load_state_dict(saved, {"pipe/0": 77})
    copy = weight.clone()
    for optimizer, key, w in ((one, 5, weight), (other, 77, copy)):
        optimizer.collect((key, "a.weight"), w, grad.clone())
        optimizer.step_schedules()
    assert torch.equal(weight, copy) and one.learn_rate == other.learn_rate
    with pytest.raises(BertCrfError, match="has layer"):
        create_adamw().load_state_dict(saved, {})
