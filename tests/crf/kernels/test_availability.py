"""Where the kernels are used, and what is done where Triton does not work."""

import importlib.machinery

import pytest
import torch

from spacy_bert_crf.crf.kernels import availability
from spacy_bert_crf.crf.kernels.availability import has_kernels, padded, use_kernels, warps


@pytest.fixture
def fresh():
    availability._works.cache_clear()
    yield
    availability._works.cache_clear()


def test_none_on_the_cpu():
    assert not has_kernels(torch.device("cpu"))


def test_none_without_triton(monkeypatch, fresh):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not has_kernels(torch.device("cuda"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels work here")
def test_a_triton_that_does_not_work_is_named_once(monkeypatch, fresh, recwarn):
    spec = importlib.machinery.ModuleSpec("triton", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    with pytest.warns(UserWarning, match="Triton kernels of the CRF can't be used on cuda:1"):
        assert not has_kernels(torch.device("cuda", 1))
    recwarn.clear()
    assert not has_kernels(torch.device("cuda", 1))
    assert not recwarn.list


def test_batches_that_the_kernels_compute(monkeypatch):
    monkeypatch.setattr(availability, "has_kernels", lambda device: True)
    assert use_kernels(torch.zeros(2, 3, 1))
    assert use_kernels(torch.zeros(2, 3, availability.MAX_TAGS))
    assert not use_kernels(torch.zeros(2, 3, availability.MAX_TAGS + 1))
    assert not use_kernels(torch.zeros(0, 3, 7))
    monkeypatch.setattr(availability, "has_kernels", lambda device: False)
    assert not use_kernels(torch.zeros(2, 3, 7))


def test_sizes_are_those_that_triton_takes():
    for n_tags in range(1, availability.MAX_TAGS + 1):
        size, threads = padded(n_tags), 32 * warps(n_tags)
        assert size >= n_tags and size & (size - 1) == 0
        assert threads <= 1024 and threads & (threads - 1) == 0
