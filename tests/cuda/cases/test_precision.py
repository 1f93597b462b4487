"""bfloat16 and float16 on the device, the loss scaler, and updates in parts."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import spacy
import torch
from thinc.api import Adam

from spacy_bert_crf.model.layers import head_of, own_encoder_of, predict_emissions
from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import (
    TEXTS,
    entities,
    load_pipeline,
    make_examples,
    own_config,
    randomise_head,
)
from tests.cuda.pretend import torch_cuda

ALL_TEXTS = [text for text, _ in TEXTS]


def encoder_of(nlp):
    return own_encoder_of(nlp.get_pipe("bert_crf").model)


def mixed_pipeline(encoder_path):
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path, mixed_precision=True))
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    return nlp, examples


def fit(nlp, examples, updates=30):
    optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    for _ in range(updates):
        nlp.update(examples, sgd=optimizer)
    return optimizer


@pytest.fixture
def t4():
    """A card without bfloat16."""
    torch_cuda.use_card(torch_cuda.T4)
    yield
    torch_cuda.use_card(torch_cuda.A100)


#: What each setting computes in on a card with bfloat16, and on one without it.
PRODUCTS = [
    (torch_cuda.A100, "auto", torch.bfloat16),
    (torch_cuda.A100, True, torch.bfloat16),
    (torch_cuda.A100, False, None),
    (torch_cuda.T4, "auto", None),
    (torch_cuda.T4, True, torch.float16),
    (torch_cuda.T4, False, None),
]


def scale_of(nlp):
    """The factor on the gradients of the encoder."""
    return encoder_of(nlp).grad_scaler.state().get("scale", 1.0)


@pytest.mark.parametrize("card, setting, dtype", PRODUCTS)
def test_products(trained_path, card, setting, dtype):
    torch_cuda.use_card(card)
    exact, nlp = load_pipeline(trained_path), load_pipeline(trained_path, setting)
    own, computed = encoder_of(nlp), []
    assert own.autocast(is_train=False) is own.autocast(is_train=True) is dtype
    assert [entities(doc) for doc in nlp.pipe(ALL_TEXTS)] == [
        entities(doc) for doc in exact.pipe(ALL_TEXTS)
    ]
    for each in (exact, nlp):
        # The gradients of a trained head are nearly 0. What 16 bits leave out is large beside them.
        torch.manual_seed(0)
        randomise_head(each, std=0.02)
        docs = [each.make_doc(text) for text in ALL_TEXTS]
        rows = predict_emissions(each.get_pipe("bert_crf").model, docs).rows.cpu()
        each.update(make_examples(each), sgd=False)
        computed.append((rows, gradients(each) / scale_of(each)))
    for want, found in zip(*computed, strict=True):
        error = ((found - want).norm() / want.norm()).item()
        if dtype is None:
            assert error == 0
        else:  # 16 bits are seen, and no more than that
            assert 0.1 < error / torch.finfo(dtype).eps < 4
    assert own.grad_scaler.is_on is (dtype is torch.float16)


def test_auto_is_the_default():
    pipe = spacy.blank("zh").add_pipe("bert_crf")
    assert own_encoder_of(pipe.model).cfg["mixed_precision"] == "auto"


def check_learned(nlp, examples, tmp_path):
    want = [entities(example.reference) for example in examples]
    assert [entities(doc) for doc in nlp.pipe(ALL_TEXTS)] == want
    nlp.to_disk(tmp_path / "p")
    for again in (spacy.load(tmp_path / "p"), pickle.loads(pickle.dumps(nlp))):
        assert [entities(doc) for doc in again.pipe(ALL_TEXTS)] == want
    weights = encoder_of(nlp).module.parameters()
    assert {weight.dtype for weight in weights} == {torch.float32}


def test_bfloat16(encoder_path, tmp_path):
    nlp, examples = mixed_pipeline(encoder_path)
    assert encoder_of(nlp).autocast() is torch.bfloat16
    fit(nlp, examples)
    check_learned(nlp, examples, tmp_path)


def test_float16(encoder_path, tmp_path, t4):
    nlp, examples = mixed_pipeline(encoder_path)
    assert encoder_of(nlp).autocast() is torch.float16
    fit(nlp, examples)
    check_learned(nlp, examples, tmp_path)


def parameters(nlp):
    return [p.detach().clone() for p in encoder_of(nlp).module.parameters()]


def test_an_overflow_in_float16_leaves_the_encoder_as_it_was(encoder_path, t4):
    nlp, examples = mixed_pipeline(encoder_path)
    optimizer = fit(nlp, examples, updates=2)
    before = parameters(nlp)
    nlp.update(examples, sgd=False)
    next(encoder_of(nlp).module.parameters()).grad.mul_(float("inf"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nlp.get_pipe("bert_crf").finish_update(optimizer)
    for old, new in zip(before, encoder_of(nlp).module.parameters(), strict=True):
        assert torch.equal(old.cpu(), new.detach().cpu())
    fit(nlp, examples, updates=1)  # and it goes on
    assert all(torch.isfinite(p).all().item() for p in parameters(nlp))


def test_gradients_of_the_head_that_are_not_finite(trained_path):
    nlp = spacy.load(trained_path)
    optimizer = create_adamw(warmup=0)
    nlp.update(make_examples(nlp), sgd=False)
    head = head_of(nlp.get_pipe("bert_crf").model).module
    head.classifier.weight.grad.mul_(float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nlp.get_pipe("bert_crf").finish_update(optimizer)
    weights = [*head.parameters(), *parameters(nlp)]
    assert all(torch.isfinite(weight).all().item() for weight in weights)


def gradients(nlp):
    found = [p.grad for p in encoder_of(nlp).module.parameters() if p.grad is not None]
    return torch.cat([grad.flatten().cpu() for grad in found])


def test_an_update_in_parts_equals_one_in_one_part(trained_path):
    one, parts = load_pipeline(trained_path), load_pipeline(trained_path)
    encoder_of(parts).cfg["batch_pieces"] = 32
    losses = [nlp.update(make_examples(nlp), sgd=False)["bert_crf"] for nlp in (one, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    np.testing.assert_allclose(gradients(one), gradients(parts), atol=1e-5)


def test_adam_of_thinc_with_averages(trained_path):
    nlp = spacy.load(trained_path)
    before = copy.deepcopy(parameters(nlp))
    optimizer = Adam(0.001, use_averages=True)
    for _ in range(2):
        nlp.update(make_examples(nlp), sgd=optimizer)
        optimizer.step_schedules()
    assert not torch.equal(before[0].cpu(), parameters(nlp)[0].cpu())
    with nlp.use_params(optimizer.averages):
        assert len(list(nlp.pipe(ALL_TEXTS))) == len(ALL_TEXTS)
