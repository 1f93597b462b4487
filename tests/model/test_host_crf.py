"""The copy of a CRF on the host follows the CRF."""

import torch

from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from spacy_bert_crf.model.host_crf import crf_on

CPU = torch.device("cpu")


def test_a_crf_that_is_there_is_used_itself():
    crf = LinearChainCRF(3)
    assert crf_on(crf, CPU) is crf


def test_it_is_made_once_and_again_after_a_change(monkeypatch):
    crf = LinearChainCRF(3)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: self)  # no other device here
    elsewhere = torch.device("cuda")
    before = crf_on(crf, elsewhere)
    assert before is not crf and crf_on(crf, elsewhere) is before
    assert torch.equal(before.transitions, crf.transitions)
    with torch.no_grad():
        crf.transitions.add_(1)
    after = crf_on(crf, elsewhere)
    assert after is not before and torch.equal(after.transitions, crf.transitions)
    crf.set_legal([True, False, True])
    last = crf_on(crf, elsewhere)
    assert last is not after and last.legal_start.tolist() == [True, False, True]


def test_it_draws_no_random_numbers(monkeypatch):
    crf = LinearChainCRF(3)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: self)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    crf_on(crf, torch.device("cuda"))
    assert torch.equal(torch.get_rng_state(), state)
