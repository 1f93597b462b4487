"""CpuLinear is a linear layer, and an encoder has no other."""

import torch
from torch import nn

from spacy_bert_crf.encoder.cpu.linear import CpuLinear
from spacy_bert_crf.encoder.cpu.updates.training import prefer_cpu
from spacy_bert_crf.encoder.hf import load_encoder, pack, unpack, weights_of
from support.toys import own_config


def test_results_and_gradients():
    torch.manual_seed(0)
    plain, rows = nn.Linear(16, 8), torch.randn(3, 5, 16)
    fast = nn.Linear(16, 8)
    fast.load_state_dict(plain.state_dict())
    weights = fast.weight
    prefer_cpu(nn.Sequential(fast))
    assert type(fast) is CpuLinear and fast.weight is weights
    found = []
    for linear in (plain, fast):
        x = rows.clone().requires_grad_()
        out = linear(x)
        out.square().sum().backward()
        found.append([out, x.grad, linear.weight.grad, linear.bias.grad])
    for want, got in zip(*found, strict=True):
        assert torch.allclose(got, want, atol=1e-4)


def test_gradcheck():
    fast = nn.Linear(4, 3).double()
    prefer_cpu(fast)
    assert torch.autograd.gradcheck(fast, torch.randn(2, 4, dtype=torch.float64).requires_grad_())


def test_without_a_bias_and_on_other_devices():
    bare = nn.Linear(4, 3, bias=False)
    want = bare(torch.ones(2, 4))
    prefer_cpu(bare)
    assert torch.equal(bare(torch.ones(2, 4)), want)
    meta = nn.Linear(4, 3, device="meta")
    prefer_cpu(meta)
    assert meta(torch.ones(2, 4, device="meta")).shape == (2, 3)


def test_all_of_an_encoder(encoder_path):
    loaded = load_encoder(own_config(encoder_path)["model"]["tok2vec"]["name"], {}, {})
    for model in (loaded.model, unpack(pack(loaded), weights_of(loaded)).model):
        kinds = {type(m) for m in model.modules() if isinstance(m, nn.Linear)}
        assert kinds == {CpuLinear}
