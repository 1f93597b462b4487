"""Exports from a pipeline on the device, and the way back."""

import importlib.util

import pytest
import spacy
import thinc.api

from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.import_model import import_model
from spacy_bert_crf.model.layers import own_encoder_of
from support.toys import TEXTS, entities

ALL_TEXTS = [text for text, _ in TEXTS]
FORMATS = {
    "bert4torch": "",
    "huggingface": "",
    "torchscript": "",
    "torch-int8": "",
    "onnx": "onnxruntime",
}


@pytest.fixture
def on_gpu(trained_path):
    return spacy.load(trained_path)


@pytest.mark.parametrize("name", FORMATS)
def test_export(on_gpu, tmp_path, name):
    if FORMATS[name] and importlib.util.find_spec(FORMATS[name]) is None:
        pytest.skip(f"{FORMATS[name]} is not installed")
    export_pipeline(on_gpu, tmp_path / "out", formats=[name])
    assert own_encoder_of(on_gpu.get_pipe("bert_crf").model).device.type == "cuda"
    assert any((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("name", ["bert4torch", "huggingface"])
def test_import(on_gpu, tmp_path, name):
    thinc.api.require_cpu()
    want = [entities(doc) for doc in on_gpu.pipe(ALL_TEXTS)]
    spacy.require_gpu()
    export_pipeline(on_gpu, tmp_path / "out", formats=[name])
    import_model(tmp_path / "out", tmp_path / "back")
    nlp = spacy.load(tmp_path / "back")
    assert own_encoder_of(nlp.get_pipe("bert_crf").model).device.type == "cuda"
    assert [entities(doc) for doc in nlp.pipe(ALL_TEXTS)] == want
