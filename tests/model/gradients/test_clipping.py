"""Clipping is that of torch, and leaves out what is not finite."""

import pytest
import torch

from spacy_bert_crf.model.gradients.clipping import Clipper


def grads(seed=0):
    torch.manual_seed(seed)
    return [torch.randn(3, 4), torch.randn(5), torch.randn(())]


@pytest.mark.parametrize("largest", (0.0, 0.5, 1e6))
def test_it_is_that_of_torch(largest):
    found, want = grads(), [torch.nn.Parameter(grad) for grad in grads()]
    for param in want:
        param.grad = param.detach().clone()
    norm = torch.nn.utils.clip_grad_norm_(want, largest or 1e9)
    clipper = Clipper()
    assert clipper.clip(found, largest, 0) == (True, None)
    assert clipper.last_norm == pytest.approx(float(norm), rel=1e-6)
    for mine, param in zip(found, want, strict=True):
        torch.testing.assert_close(mine, param.grad)


@pytest.mark.parametrize("bad", (torch.nan, torch.inf, -torch.inf))
def test_a_gradient_that_is_not_finite(bad):
    clipper, found = Clipper(skipped=2), grads()
    found[1][0] = bad
    with pytest.warns(UserWarning, match="gradient of update 7 is not finite"):
        assert clipper.clip(found, 1.0, 7) == (False, None)
    assert (clipper.last_norm, clipper.skipped) == (torch.inf, 3)
    assert clipper.clip(grads(), 1.0, 8).is_step
    assert clipper.last_norm < 100 and clipper.skipped == 3
