"""BERT's layer in training gives torch's results and gradients, with its own dropout."""

import copy
import pickle

import pytest
import torch
from torch import nn
from transformers import AutoModel, BertConfig

from spacy_bert_crf.encoder.cpu.fused import is_bert_layer
from spacy_bert_crf.encoder.cpu.updates.trained_layer import TrainedBertLayer
from spacy_bert_crf.encoder.cpu.updates.training import prefer_training
from spacy_bert_crf.encoder.passes import set_dropout
from support.berts import MODELS

SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48,
}  # fmt: skip


def bert(**settings):
    torch.manual_seed(0)
    model = AutoModel.from_config(BertConfig(**SIZES, **settings), add_pooling_layer=False)
    for param in model.parameters():  # biases are zeros in a new model
        param.data += 0.1 * torch.randn_like(param)
    return model.eval()


def fast_copy_of(model):
    fast = copy.deepcopy(model)
    for module in fast.modules():
        if is_bert_layer(module):
            prefer_training(module)
    return fast


@pytest.fixture
def calls(monkeypatch):
    """The calls of TrainedBertLayer."""
    found = []
    own = TrainedBertLayer.apply
    monkeypatch.setattr(
        TrainedBertLayer, "apply", lambda *args: found.append(args[0].dtype) or own(*args)
    )
    return found


def learned(model, mask=True, dtype=None, seed=0):
    """Hidden states and all gradients of one pass."""
    torch.manual_seed(1)
    ids = torch.randint(5, 60, (3, 11))
    on = torch.ones_like(ids)
    on[1, 7:] = 0
    factors = torch.randn(3, 11, 32)
    model.zero_grad()
    torch.manual_seed(seed)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        out = model(input_ids=ids, attention_mask=on if mask else None).last_hidden_state
    (out.float() * factors).sum().backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return out.detach(), grads


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
@pytest.mark.parametrize("mask", [True, False])
def test_values_and_gradients(activation, mask, calls):
    plain = bert(hidden_act=activation).train()
    set_dropout(plain, 0.0)
    want, wanted = learned(plain, mask)
    assert not calls
    got, found = learned(fast_copy_of(plain.eval()).train(), mask)
    assert len(calls) == 2
    assert torch.allclose(got, want, atol=1e-5)
    assert found.keys() == wanted.keys()
    for name, grad in wanted.items():
        assert torch.allclose(found[name], grad, atol=2e-4), name


def test_mixed_precision(calls):
    plain = bert().train()
    set_dropout(plain, 0.0)
    exact, exact_grads = learned(plain)
    want, wanted = learned(plain, dtype=torch.bfloat16)
    got, found = learned(fast_copy_of(plain.eval()).train(), dtype=torch.bfloat16)
    assert len(calls) == 2
    assert distance(got, exact) < 1.3 * distance(want, exact)
    for name, grad in exact_grads.items():
        if "key.bias" not in name:  # their gradient is 0, except for rounding
            assert distance(found[name], grad) < 2 * distance(wanted[name], grad) + 0.003, name
            assert found[name].dtype == torch.float32


def distance(got, want):
    return float((got - want).norm() / want.norm())


def test_a_boolean_mask():
    layer = bert().encoder.layer[0].train()
    set_dropout(layer, 0.0)
    rows, reads = torch.randn(2, 5, 32), torch.ones(2, 1, 1, 5, dtype=torch.bool)
    reads[1, ..., 3:] = False
    added = torch.zeros(2, 1, 5, 5).masked_fill_(~reads, torch.finfo(torch.float32).min)
    want = states_of(layer(rows, added))
    prefer_training(layer.eval())
    layer.train()
    assert torch.allclose(states_of(layer(rows, reads)), want, atol=1e-5)
    assert torch.allclose(states_of(layer(rows, added)), want, atol=1e-5)


def states_of(out):
    return out[0] if isinstance(out, tuple) else out


def test_gradcheck():
    layer = bert().encoder.layer[0]
    prefer_training(layer)
    layer.double().train()
    set_dropout(layer, 0.3)
    rows = torch.randn(2, 3, 32, dtype=torch.float64).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def run(rows, *params):
        torch.manual_seed(3)  # the same elements are dropped each time
        values = dict(zip(names, params, strict=True))
        # gradcheck changes values unnoticed. A new layer has cast none of them.
        return states_of(torch.func.functional_call(copy.deepcopy(layer), values, (rows,)))

    params = [param.detach().requires_grad_() for param in layer.parameters()]
    assert torch.autograd.gradcheck(run, (rows, *params), fast_mode=True)


def test_dropout(calls):
    """The mean over many updates is that without dropout, to the first order."""
    layer = bert().encoder.layer[0]
    prefer_training(layer)
    layer.train()
    attention = layer.attention
    rows = torch.randn(1, 6, 32)
    with torch.no_grad():
        for part in (attention.output.dense, layer.output.dense):
            part.weight *= 0.01
            part.bias *= 0.01
    set_dropout(layer, 0.0)
    want = states_of(layer(rows)).detach()
    for rate in (0.1, 0.5):
        set_dropout(layer, rate)
        torch.manual_seed(0)
        runs = torch.stack([states_of(layer(rows)).detach() for _ in range(400)])
        assert distance(runs[0], runs[1]) > 1e-4
        assert distance(runs.mean(0), want) < 0.15 * distance(runs[0], want)
    set_dropout(layer, 1.0)
    assert bool(states_of(layer(rows)).isfinite().all())


def test_reproducible_and_without_grad_at_frozen_parts():
    model = fast_copy_of(bert()).train()
    first, grads = learned(model, seed=5)
    again, more = learned(model, seed=5)
    assert torch.equal(first, again)
    assert all(torch.equal(grads[name], more[name]) for name in grads)
    other, _ = learned(model, seed=6)
    assert not torch.equal(first, other)
    model.embeddings.requires_grad_(False)
    model.encoder.layer[0].requires_grad_(False)
    model.encoder.layer[1].output.dense.weight.requires_grad_(False)
    _, fewer = learned(model, seed=5)
    assert {name for name in grads if "layer.1" in name} - fewer.keys() == {
        "encoder.layer.1.output.dense.weight"
    }
    assert all(torch.equal(grads[name], fewer[name]) for name in fewer)


def test_changed_weights_count(calls):
    """Passes of one update share the cast weights; an optimizer's step is seen all the same."""
    model = fast_copy_of(bert()).train()
    set_dropout(model, 0.0)
    held = learned(model, dtype=torch.bfloat16)
    with torch.no_grad():
        model.encoder.layer[0].output.dense.weight.mul_(2)
    changed = learned(model, dtype=torch.bfloat16)
    assert not torch.equal(held[0], changed[0])
    fresh = fast_copy_of(bert()).train()
    set_dropout(fresh, 0.0)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(learned(fresh, dtype=torch.bfloat16)[0], changed[0])


def test_left_to_the_own_class(calls):
    rows = torch.randn(1, 4, 32)
    layer = bert().encoder.layer[0]
    prefer_training(layer)
    layer(rows)  # evaluation
    layer.train()
    with torch.no_grad():
        layer(rows)
    handle = layer.output.dense.register_forward_hook(lambda *args: None)
    layer(rows)
    handle.remove()
    layer.output.dense.__class__ = type("Other", (nn.Linear,), {})
    layer(rows)
    assert not calls
    layer.output.dense.__class__ = nn.Linear
    layer(rows)
    assert len(calls) == 1
    eager = bert(attn_implementation="eager")
    assert not any(map(is_bert_layer, eager.modules()))


def test_copies_and_pickles():
    layer = bert().encoder.layer[0]
    prefer_training(layer)
    prefer_training(layer)  # once more changes nothing
    layer.train()
    set_dropout(layer, 0.0)
    rows = torch.randn(1, 4, 32)
    want = states_of(layer(rows))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(other).__name__ == "BertLayer" and other.output is not layer.output
        assert torch.equal(states_of(other(rows)), want)


@pytest.mark.parametrize("kind", ["roberta", "electra", "ernie"])
def test_relatives(kind, calls):
    torch.manual_seed(0)
    model = MODELS[kind]().train()
    set_dropout(model, 0.0)
    want, wanted = learned(model)
    assert not calls
    got, found = learned(fast_copy_of(model.eval()).train())
    assert len(calls) == 3 and torch.allclose(got, want, atol=1e-5)
    assert found.keys() == wanted.keys()
    for name, grad in wanted.items():
        assert torch.allclose(found[name], grad, atol=2e-4), name
