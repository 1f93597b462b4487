"""Activations that are computed twice: the same gradients, with less memory."""

from contextlib import nullcontext

import pytest
import torch

from spacy_bert_crf.encoder.hf import load_encoder
from spacy_bert_crf.encoder.passes import set_dropout
from spacy_bert_crf.model.shared.bounded import Bounded


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_the_encoder_itself(encoder_path, dtype, dropout):
    model = load_encoder(str(encoder_path), {}, {}).model
    set_dropout(model, dropout)
    ids = torch.randint(5, 40, (3, 2, 7), generator=torch.Generator().manual_seed(0))
    grads, kept_bytes = [], []
    for kept in (1000, 14, 0):
        sizes = []

        def pack(tensor, sizes=sizes):
            sizes.append(tensor.nbytes)
            return tensor

        torch.manual_seed(0)
        model.train()
        forward = Bounded(model, kept, nullcontext)
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast("cpu", dtype=dtype, enabled=dtype is not None),
        ):
            states = [
                forward(input_ids=one, attention_mask=None).last_hidden_state.float() for one in ids
            ]
        model.eval()
        kept_bytes.append(sum(sizes))
        torch.cat(states).pow(3).sum().backward()
        assert not model.training
        grads.append({name: p.grad for name, p in model.named_parameters()})
        model.zero_grad()
    for other in grads[1:]:
        for name, grad in grads[0].items():
            torch.testing.assert_close(other[name], grad, rtol=1e-5, atol=1e-5)
    # Of three passes all, one and none.
    assert kept_bytes[1] < 0.5 * kept_bytes[0] and kept_bytes[2] < 0.3 * kept_bytes[1]
