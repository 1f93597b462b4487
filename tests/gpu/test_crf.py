"""The CRF alone on a GPU, with its kernels: equal to the CPU."""

import pytest
import torch

from spacy_bert_crf.crf.linear_chain import LinearChainCRF

#: Sequences, steps, tags, scale of the emissions.
SHAPES = [
    (1, 1, 2, 1.0), (1, 50, 7, 3.0), (16, 33, 7, 3.0), (64, 128, 7, 10.0), (8, 40, 41, 3.0),
    (3, 20, 130, 3.0), (2, 5000, 5, 3.0), (16, 33, 9, 1e3),
]  # fmt: skip


def batch(shape):
    """A CRF whose legal tags follow a rule, emissions, mask and allowed tags on the CPU."""
    n_batch, n_steps, n_tags, scale = shape
    generator = torch.Generator().manual_seed(n_steps)
    crf = LinearChainCRF(n_tags)
    with torch.no_grad():
        for param in crf.parameters():
            param.copy_(torch.randn(param.shape, generator=generator))
    emissions = scale * torch.randn(n_batch, n_steps, n_tags, generator=generator)
    lengths = torch.randint(1, n_steps + 1, (n_batch,), generator=generator)
    lengths[0] = n_steps
    mask = torch.arange(n_steps) < lengths.unsqueeze(1)
    allowed = torch.rand(n_batch, n_steps, n_tags, generator=generator) < 0.3
    allowed |= torch.nn.functional.one_hot(
        torch.randint(n_tags, (n_batch, n_steps), generator=generator), n_tags
    ).bool()
    return crf, emissions, mask, allowed


def on_both(shape, job):
    """What a job returns on the CPU and on the GPU, on the CPU."""
    out = []
    for device in ("cpu", "cuda"):
        crf, *tensors = batch(shape)
        found = job(crf.to(device), *(tensor.to(device) for tensor in tensors))
        out.append([each.cpu() for each in found])
    return out


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("is_restricted", [False, True])
def test_viterbi(shape, is_restricted):
    def job(crf, emissions, mask, allowed):
        return crf.viterbi(emissions, mask, allowed if is_restricted else None)

    want, got = on_both(shape, job)
    torch.testing.assert_close(got[1], want[1], rtol=1e-5, atol=1e-4)
    # Only sums in another order can choose another path, of the same score.
    assert (got[0] == want[0]).all(1).float().mean() > 0.95


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("is_partial", [False, True])
def test_likelihood_and_gradients(shape, is_partial):
    def job(crf, emissions, mask, allowed):
        emissions.requires_grad_()
        gold = allowed if is_partial else allowed.to(torch.uint8).argmax(2)
        loss = crf(emissions, gold, mask)
        weights = crf.start_transitions, crf.end_transitions, crf.transitions
        return [loss.detach(), *torch.autograd.grad(loss.sum(), [emissions, *weights])]

    want, got = on_both(shape, job)
    scale = max(1.0, shape[3] / 10)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-3 * scale)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_marginals(shape):
    want, got = on_both(shape, lambda crf, e, mask, allowed: [crf.marginals(e, mask)])
    torch.testing.assert_close(got[0], want[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES[1:5], ids=str)
def test_scores_of_the_best_paths(shape):
    def job(crf, emissions, mask, allowed):
        return [crf.nbest(emissions, mask, 4)[1]]

    want, got = on_both(shape, job)
    torch.testing.assert_close(got[0], want[0], rtol=1e-5, atol=1e-4)
