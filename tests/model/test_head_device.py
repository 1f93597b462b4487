"""The device of a head: a new one goes where its encoder is, an extended one stays."""

import threading

import pytest
import torch

from spacy_bert_crf import _devices
from spacy_bert_crf.model import layers, shims
from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import TEXTS, entities, make_examples

META = torch.device("meta")


@pytest.fixture
def elsewhere(monkeypatch):
    """The default device is another than that of the pipeline."""
    monkeypatch.setattr(shims, "default_device", lambda: META)


def test_an_extended_head_stays(trained, elsewhere):
    pipe = trained.get_pipe("bert_crf")
    pipe.add_label("NEW")
    assert layers.head_of(pipe.model).device == torch.device("cpu")
    trained("北京")


def test_an_extended_head_stays_in_another_thread(trained, monkeypatch):
    pipe = trained.get_pipe("bert_crf")
    thread = threading.Thread(target=lambda: pipe.add_label("NEW"))
    thread.start()
    thread.join()
    assert layers.head_of(pipe.model).device == layers.own_encoder_of(pipe.model).device


def test_a_new_head_goes_to_its_encoder(trained, elsewhere):
    model = trained.get_pipe("bert_crf").model
    layers.head_of(model)._model = None
    layers.build_head(model, 5)
    assert layers.head_of(model).device == torch.device("cpu")


def test_a_new_head_of_a_shared_encoder_goes_to_the_default(elsewhere):
    head = shims.HeadShim(None)
    head.build(4, 5)
    assert head.device == META


def test_a_pipeline_on_the_cpu_works_where_another_device_is_the_default(trained, monkeypatch):
    """As after spacy.load() on the CPU and then require_gpu()."""
    pipe, texts = trained.get_pipe("bert_crf"), [text for text, _ in TEXTS]
    want = [entities(doc) for doc in trained.pipe(texts)]
    monkeypatch.setattr(_devices, "get_torch_default_device", lambda: META)
    assert _devices.default_device() == META
    assert [entities(doc) for doc in trained.pipe(texts)] == want
    pipe.scores = True
    assert [entities(doc) for doc in trained.pipe(texts)] == want
    assert len(pipe.nbest([trained.make_doc(texts[0])], 2)[0]) == 2
    before = trained.update(make_examples(trained), sgd=create_adamw())["bert_crf"]
    assert 0 < trained.update(make_examples(trained), sgd=create_adamw())["bert_crf"] != before


def test_to_gpu_takes_the_current_gpu(trained, monkeypatch):
    """thinc hands over 0 for every GPU, and makes the one that it means the current one."""
    moved = []
    shim = layers.head_of(trained.get_pipe("bert_crf").model)
    monkeypatch.setattr(shim.module, "to", moved.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    shim.to_device("gpu", 0)
    shim.to_device("gpu", 1)
    shim.to_device("cpu", 0)
    assert moved == ["cuda:2", "cuda:1", "cpu"]
    assert _devices.default_device() == torch.device("cpu")
