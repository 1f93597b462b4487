"""CpuBert computes what transformers' encoder computes, without padding."""

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ErnieConfig,
    ErnieModel,
)

from spacy_bert_crf.encoder.cpu import fused
from spacy_bert_crf.encoder.cpu.bert import CpuBert, has_fused_layers
from spacy_bert_crf.encoder.cpu.fused import packed_encoder
from spacy_bert_crf.encoder.cpu.int8 import int8_encoder
from spacy_bert_crf.encoder.cpu.run import run_cpu
from spacy_bert_crf.model.layers import own_encoder_of
from support.berts import MODELS, SIZES, expected, plan_of
from support.toys import TEXTS, train_toy

#: Equal lengths, lengths that differ by one, and one that no other is near to.
NEAR = (30, 30, 29, 28, 28, 28, 27, 9, 8, 8, 3, 2, 2, 1)


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


@pytest.fixture(params=[True, False], ids=["AVX-512", "no AVX-512"])
def fast(request, model, monkeypatch):
    monkeypatch.setattr(fused, "HAS_AVX512", request.param)
    return cpu_bert(packed_encoder(model))


def cpu_bert(copied):
    assert has_fused_layers(copied)
    return CpuBert(copied)


@pytest.mark.parametrize("per_token", (1, 2))
@pytest.mark.parametrize("limit", (1, 150, 100_000))
def test_as_the_encoder_with_padding(model, fast, per_token, limit):
    plan = plan_of(model, per_token=per_token)
    found = run_cpu(fast, plan, limit)
    torch.testing.assert_close(found, expected(model, plan), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", (NEAR, NEAR[::-1], (1,), (98,)))
def test_lengths_that_are_near(model, fast, lengths):
    plan = plan_of(model, lengths)
    project = (torch.randn(7, 32), torch.randn(7))
    found = run_cpu(fast, plan, 200, project)
    assert found.shape == (sum(lengths), 7)
    torch.testing.assert_close(found, expected(model, plan, project), rtol=1e-4, atol=1e-5)


def test_the_id_that_pads_inside_of_a_text(model, fast):
    """A tokenizer gives it for a text that holds the padding token's name."""
    pad = model.config.pad_token_id
    plan = plan_of(model, (6, 12), ids=[7, pad, 9, 10, pad, 11, 12, 13, 14, 15, 16, 17])
    want = expected(model, plan)
    torch.testing.assert_close(run_cpu(fast, plan, 200), want, rtol=1e-4, atol=1e-5)


def test_8_bit_integers(model):
    """Without the rows of padding, ranges of inputs can only be narrower."""
    copied = int8_encoder(model, [2], [3], 100)
    plan = plan_of(model)
    want = expected(model, plan).numpy()
    found, padded = run_cpu(cpu_bert(copied), plan, 200).numpy(), expected(copied, plan).numpy()
    lost = np.abs(want - padded).mean()
    assert 0 < np.abs(want - found).mean() < 1.2 * lost < 0.2 * want.std()


def test_the_torch_defaults_of_a_host_program_change_nothing(model, fast, monkeypatch):
    plan = plan_of(model)
    want = run_cpu(fast, plan, 200)
    with torch.device("meta"):
        assert torch.equal(run_cpu(fast, plan, 200), want)
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.equal(run_cpu(fast, plan, 200), want)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("quantize", ("", "int8"))
def test_pipelines_predict_by_it(encoder_path, quantize):
    nlp = train_toy(encoder_path, updates=2, quantize=quantize)
    own = own_encoder_of(nlp.get_pipe("bert_crf").model)
    nlp(TEXTS[0][0])
    longest = own.longest if quantize else 0
    assert isinstance(own.fast.get(own.loaded, None, longest), CpuBert)
    # Texts without wordpieces have no pass.
    assert [len(doc.ents) for doc in nlp.pipe(["", " "])] == [0, 0]


def test_encoders_of_another_kind_are_left_alone():
    def can(model):
        return has_fused_layers(packed_encoder(model.eval()))

    sizes = {"vocab_size": 100, "dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64}
    assert not can(DistilBertModel(DistilBertConfig(**sizes)))
    assert not can(ErnieModel(ErnieConfig(**SIZES, use_task_id=True)))
    assert not can(BertModel(BertConfig(**SIZES, is_decoder=True)))
    assert not has_fused_layers(BertModel(BertConfig(**SIZES)))
    assert can(BertModel(BertConfig(**SIZES)))
