"""The packed encoder against the one it is made from."""

import copy

import pytest
import torch
from transformers import AutoModel, BertConfig, DistilBertConfig, MPNetConfig

from spacy_bert_crf.encoder.cpu import fused
from spacy_bert_crf.encoder.cpu.fused import (
    FusedBertLayer,
    JoinedLinear,
    PackedLinear,
    packed_encoder,
    round_size,
    weights_stamp,
)
from spacy_bert_crf.model.layers import own_encoder_of
from support.toys import TEXTS, entities

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}


def make(activation="gelu", kind=BertConfig, **settings):
    torch.manual_seed(0)
    if kind is DistilBertConfig:
        settings["activation"] = activation
    else:
        settings = {**SIZES, "intermediate_size": 64, "hidden_act": activation, **settings}
    return AutoModel.from_config(kind(initializer_range=0.2, **settings)).eval()


@pytest.fixture(params=[True, False], ids=["AVX-512", "no AVX-512"])
def avx512(request, monkeypatch):
    monkeypatch.setattr(fused, "HAS_AVX512", request.param)
    return request.param


def run(model, mask):
    ids = torch.randint(1, 50, (3, 11), generator=torch.Generator().manual_seed(1))
    given = None
    if mask:
        given = (torch.arange(11) < torch.tensor([[11], [7], [1]])).long()
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=given).last_hidden_state
    return hidden if given is None else hidden * given.unsqueeze(2)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
def test_computes_the_same(activation, mask, avx512):
    model = make(activation)
    before = run(model, mask)
    packed = packed_encoder(model)
    assert [type(layer) for layer in packed.encoder.layer] == [FusedBertLayer] * 3
    assert type(packed.encoder.layer[0].outer) is (PackedLinear if avx512 else JoinedLinear)
    torch.testing.assert_close(run(packed, mask), before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run(model, mask), before, rtol=0, atol=0)
    assert not any(isinstance(layer, FusedBertLayer) for layer in model.modules())


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_distilbert_computes_the_same(activation, mask, avx512):
    sizes = {"vocab_size": 50, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    model = make(kind=DistilBertConfig, activation=activation, **sizes)
    before = run(model, mask)
    packed = packed_encoder(model)
    assert [type(layer) for layer in packed.transformer.layer] == [FusedBertLayer] * 2
    torch.testing.assert_close(run(packed, mask), before, rtol=1e-4, atol=1e-5)


def test_without_avx512_single_products_share_their_weights(monkeypatch):
    monkeypatch.setattr(fused, "HAS_AVX512", False)
    model = make()
    weight = model.encoder.layer[0].output.dense.weight
    assert packed_encoder(model).encoder.layer[0].outer.weight is weight


def test_few_sizes_for_all_passes():
    """oneDNN keeps code for each."""
    sizes = [round_size(n) for n in range(1, 1025)]
    assert all(n <= size < n + 16 for n, size in enumerate(sizes, 1))
    assert len(set(sizes)) < 80 and round_size(4000) == 4032


def test_the_embeddings_are_shared():
    model = make()
    packed = packed_encoder(model)
    rows = packed.embeddings.word_embeddings.weight
    assert rows.data_ptr() == model.embeddings.word_embeddings.weight.data_ptr()


def test_other_encoders_stay_what_they_are(monkeypatch):
    monkeypatch.setattr(fused, "HAS_AVX512", True)
    other = make(kind=MPNetConfig)
    assert packed_encoder(other) is other
    model = make()

    def missing(*args):
        raise NotImplementedError

    monkeypatch.setattr(fused, "PackedLinear", missing)
    assert packed_encoder(model) is model


def test_the_stamp_tells_of_changed_weights():
    model = make()
    stamps = [weights_stamp(model), weights_stamp(model)]
    weight = model.encoder.layer[0].output.dense.weight
    with torch.no_grad():
        weight.mul_(2)
    stamps.append(weights_stamp(model))
    weight.data = weight.data.clone()
    stamps.append(weights_stamp(model))
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    stamps.append(weights_stamp(model))
    assert stamps[0] == stamps[1] and len(set(stamps)) == 4


def test_predictions_follow_weights_that_are_changed_in_place(trained):
    text = TEXTS[0][0]
    want = entities(trained(text))
    own = own_encoder_of(trained.get_pipe("bert_crf").model)
    weight = own.module.encoder.layer[0].output.dense.weight
    rows = own.predict_vectors([trained.make_doc(text)]).clone()
    with torch.no_grad():
        weight.neg_()
    other = own.predict_vectors([trained.make_doc(text)])
    assert (other - rows).abs().max() > 0.01
    with torch.no_grad():
        weight.neg_()
    torch.testing.assert_close(own.predict_vectors([trained.make_doc(text)]), rows)
    assert entities(trained(text)) == want and want
