"""bfloat16 on CPUs that multiply matrices in it. Those that don't are told that they do."""

import pytest
import spacy
import torch

from spacy_bert_crf.encoder import precision
from spacy_bert_crf.encoder.cpu.linear import has_bfloat16_products
from spacy_bert_crf.model.layers import own_encoder_of
from support.toys import make_examples, own_config


def pipeline(encoder_path, mixed):
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path, mixed_precision=mixed))
    nlp.initialize(lambda: make_examples(nlp))
    return nlp


def gradients(nlp, weights=None):
    pipe = nlp.get_pipe("bert_crf")
    module = own_encoder_of(pipe.model).module
    if weights is not None:
        pipe.model.from_bytes(weights)
        module = own_encoder_of(pipe.model).module
    pipe.update(make_examples(nlp), drop=0.0)
    return {name: param.grad.flatten() for name, param in module.named_parameters()}


def test_updates_in_bfloat16_have_nearly_the_same_gradients(encoder_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16_products", lambda: True)
    plain = pipeline(encoder_path, False)
    weights = plain.get_pipe("bert_crf").model.to_bytes()
    want = gradients(plain)
    mixed = pipeline(encoder_path, True)
    own = own_encoder_of(mixed.get_pipe("bert_crf").model)
    assert own.autocast() is torch.bfloat16
    found = gradients(mixed, weights)
    assert found.keys() == want.keys()
    joined, other = (torch.cat([g[name] for name in want]) for g in (want, found))
    assert other.dtype is torch.float32
    assert float(torch.cosine_similarity(joined, other, dim=0)) > 0.99
    assert not torch.equal(joined, other)  # it was another arithmetic


def test_without_such_products_nothing_changes(encoder_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16_products", lambda: False)
    own = own_encoder_of(pipeline(encoder_path, True).get_pipe("bert_crf").model)
    assert own.autocast() is None


def test_predictions_in_bfloat16_are_near(encoder_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16_products", lambda: True)
    nlp = pipeline(encoder_path, True)
    own = own_encoder_of(nlp.get_pipe("bert_crf").model)
    doc = nlp.make_doc("王小明昨天在北京参观了清华大学。")
    near = own.predict_vectors([doc])
    own.cfg["mixed_precision"] = False
    exact = own.predict_vectors([doc])
    assert near.dtype is torch.float32
    torch.testing.assert_close(near, exact, rtol=0.1, atol=0.1)


def test_int8_is_not_mixed_with_it(encoder_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16_products", lambda: True)
    nlp = pipeline(encoder_path, True)
    own = own_encoder_of(nlp.get_pipe("bert_crf").model)
    doc = nlp.make_doc("中国银行在广州开会。")
    own.quantize = "int8"
    mixed = own.predict_vectors([doc])
    own.cfg["mixed_precision"] = False
    own.quantize = "int8"
    torch.testing.assert_close(own.predict_vectors([doc]), mixed, rtol=0, atol=0)


@pytest.mark.parametrize("instructions", ["amx_tile", "avx512_bf16"])
def test_the_processor_is_asked(monkeypatch, instructions):
    for name in ("amx_tile", "avx512_bf16"):
        has_it = name == instructions
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda has_it=has_it: has_it)
    assert has_bfloat16_products()
    monkeypatch.delattr(torch.cpu, f"_is_{instructions}_supported")  # an older torch
    assert not has_bfloat16_products()
