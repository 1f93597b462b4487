"""CudaBert computes what transformers' encoder computes. Its arithmetic runs on a CPU as well."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import varlen
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ErnieConfig,
    ErnieModel,
)

from spacy_bert_crf.encoder.cuda.bert import CudaBert, can_run
from spacy_bert_crf.encoder.cuda.run import run_cuda
from support.berts import MODELS, SIZES, expected, plan_of


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


@pytest.fixture
def plain_varlen(monkeypatch):
    """Attention over windows that stand one after the other, one window at a time."""

    def attend(query, key, value, borders, borders_of_keys, longest, longest_key):
        out = torch.empty_like(query)
        edges = borders.tolist()
        assert edges == borders_of_keys.tolist() and longest == longest_key
        assert longest == max(b - a for a, b in zip(edges[:-1], edges[1:], strict=True))
        for a, b in zip(edges[:-1], edges[1:], strict=True):
            parts = (rows[a:b].transpose(0, 1) for rows in (query, key, value))
            out[a:b] = F.scaled_dot_product_attention(*parts).transpose(0, 1)
        return out

    monkeypatch.setattr(varlen, "varlen_attn", attend)


@pytest.mark.parametrize("per_token", (1, 2))
@pytest.mark.parametrize("projected", (False, True))
def test_with_padding(model, per_token, projected):
    plan = plan_of(model, per_token=per_token)
    project = (torch.randn(7, 32), torch.randn(7)) if projected else None
    fast = CudaBert(model, torch.float32)
    assert not fast.is_unpadded
    found = run_cuda(fast, plan, 200, project)
    torch.testing.assert_close(found, expected(model, plan, project), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("per_token", (1, 2))
@pytest.mark.parametrize("limit", (1, 150, 100_000))
def test_without_padding(model, per_token, limit, plain_varlen):
    plan = plan_of(model, per_token=per_token)
    fast = CudaBert(model, torch.float32)
    fast.is_unpadded = True
    found = run_cuda(fast, plan, limit)
    torch.testing.assert_close(found, expected(model, plan), rtol=1e-4, atol=1e-5)


def test_the_id_that_pads_inside_of_a_text(model, plain_varlen):
    """A tokenizer gives it for a text that holds the padding token's name."""
    pad = model.config.pad_token_id
    plan = plan_of(model, (6, 12), ids=[7, pad, 9, 10, pad, 11, 12, 13, 14, 15, 16, 17])
    want = expected(model, plan)
    fast = CudaBert(model, torch.float32)
    torch.testing.assert_close(run_cuda(fast, plan, 200), want, rtol=1e-4, atol=1e-5)
    fast.is_unpadded = True
    torch.testing.assert_close(run_cuda(fast, plan, 200), want, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near(model, plain_varlen):
    plan = plan_of(model)
    fast = CudaBert(model, torch.bfloat16)
    fast.is_unpadded = True
    found, want = run_cuda(fast, plan, 200), expected(model, plan)
    assert found.dtype is torch.float32
    near = torch.cosine_similarity(found.flatten(), want.flatten(), dim=0)
    assert 0.999 < float(near) < 1.0


def test_encoders_of_another_kind_are_left_alone():
    sizes = {"vocab_size": 100, "dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64}
    assert not can_run(DistilBertModel(DistilBertConfig(**sizes)))
    relative = BertModel(BertConfig(**SIZES, position_embedding_type="relative_key"))
    # transformers 5 leaves relative positions out, and load_encoder refuses such an encoder.
    if hasattr(relative.encoder.layer[0].attention.self, "position_embedding_type"):
        assert not can_run(relative)
    assert not can_run(ErnieModel(ErnieConfig(**SIZES, use_task_id=True)))
    assert not can_run(BertModel(BertConfig(**SIZES, is_decoder=True)))
    assert can_run(BertModel(BertConfig(**SIZES)))
