"""Adversarial training: the step, what is learned from it, and that nothing else changes."""

import numpy as np
import pytest
import spacy
import torch
from torch import nn

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model.architectures import create_encoder
from spacy_bert_crf.model.gradients.adversarial import direction, learn_twice, moved
from spacy_bert_crf.model.layers import head_of, own_encoder_of
from support.toys import make_examples, own_config, train_toy


def test_gradients_are_those_of_both_places():
    weight, other = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.ones(2))
    earlier = torch.tensor([100.0, -100.0])
    weight.grad = earlier.clone()
    places = []

    def learn():
        places.append(weight.data.clone())
        loss = (weight**2 * other).sum()
        loss.backward()
        return loss.item()

    assert learn_twice(weight, 0.5, learn) == 25.0
    # The gradient is (6, 8), whose direction is (0.6, 0.8).
    first, second = torch.tensor([3.0, 4.0]), torch.tensor([3.3, 4.4])
    torch.testing.assert_close(torch.stack(places), torch.stack([first, second]))
    torch.testing.assert_close(weight.grad, earlier + 2 * first + 2 * second)
    torch.testing.assert_close(other.grad, first**2 + second**2)
    assert torch.equal(weight.data, first)


def test_no_gradient_no_step():
    assert torch.equal(direction(torch.zeros(3)), torch.zeros(3))
    weight, calls = nn.Parameter(torch.ones(2)), []
    learn_twice(weight, 1.0, lambda: calls.append(1))
    assert len(calls) == 1 and weight.grad is None


def test_the_parameter_is_restored_after_an_error():
    weight = nn.Parameter(torch.tensor([0.1, 0.2]))
    held = weight.data.data_ptr()
    with pytest.raises(RuntimeError), moved(weight, torch.ones(2)):
        raise RuntimeError
    assert weight.data.data_ptr() == held and torch.equal(weight.data, torch.tensor([0.1, 0.2]))


def gradients(encoder_path, eps, batch_pieces=0):
    """All gradients of one update without dropout, by the name of the parameter; and the loss."""
    nlp = train_toy(encoder_path, updates=3)
    pipe = nlp.get_pipe("bert_crf")
    own_encoder_of(pipe.model).cfg |= {
        "adversarial": eps,
        "batch_pieces": batch_pieces,
        "mixed_precision": False,
    }
    losses = pipe.update(make_examples(nlp))
    shims = own_encoder_of(pipe.model), head_of(pipe.model)
    found = {n: p.grad for shim in shims for n, p in shim.module.named_parameters()}
    return {n: g for n, g in found.items() if g is not None}, losses["bert_crf"]


def test_an_update_has_the_gradients_of_the_definition(encoder_path):
    plain, loss = gradients(encoder_path, 0.0)
    both, reported = gradients(encoder_path, 0.7)
    assert reported == loss
    name = "embeddings.word_embeddings.weight"
    nlp = train_toy(encoder_path, updates=3)
    pipe = nlp.get_pipe("bert_crf")
    own_encoder_of(pipe.model).cfg["mixed_precision"] = False
    weight = own_encoder_of(pipe.model).module.get_input_embeddings().weight
    weight.data += 0.7 * plain[name] / plain[name].norm()
    pipe.update(make_examples(nlp))
    shims = own_encoder_of(pipe.model), head_of(pipe.model)
    there = {n: p.grad for shim in shims for n, p in shim.module.named_parameters()}
    assert both.keys() == plain.keys()
    for key, grad in both.items():
        torch.testing.assert_close(grad, plain[key] + there[key], rtol=1e-4, atol=1e-5)
    assert not np.allclose(both[name], 2 * plain[name], rtol=1e-2)


def test_parts_of_a_batch_step_in_the_direction_of_the_whole(encoder_path):
    whole, _ = gradients(encoder_path, 0.7)
    parts, _ = gradients(encoder_path, 0.7, batch_pieces=20)
    for key, grad in whole.items():
        torch.testing.assert_close(parts[key], grad, rtol=1e-2, atol=1e-3)


def test_an_encoder_that_does_not_learn_makes_no_step(encoder_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path, grad_factor=0.0, adversarial=1.0))
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    pipe = nlp.get_pipe("bert_crf")
    assert np.isfinite(pipe.update(examples)["bert_crf"])
    assert all(p.grad is None for p in own_encoder_of(pipe.model).module.parameters())


@pytest.mark.parametrize("eps", [-1.0, float("inf"), float("nan")])
def test_a_step_out_of_range_is_named(eps):
    with pytest.raises(BertCrfError, match="adversarial"):
        create_encoder("", adversarial=eps)
