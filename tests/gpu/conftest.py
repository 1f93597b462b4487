"""Tests of this folder run on the first GPU. Without one they are skipped.

`pytest -m cuda` runs them, and nothing else.
"""

from pathlib import Path

import pytest
import spacy
import torch
from thinc.api import require_cpu

from spacy_bert_crf._devices import missing
from support.toys import TEXTS, entities

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    lacks = missing(0)
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cuda)
            if lacks:
                item.add_marker(pytest.mark.skip(reason=lacks))


@pytest.fixture(autouse=True)
def on_gpu():
    """thinc and torch are on the first GPU; on the CPU again after the test."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    spacy.require_gpu(0)
    yield torch.device("cuda:0")
    torch.set_float32_matmul_precision(precision)
    require_cpu()


@pytest.fixture
def load(trained_path):
    """A function that loads the trained toy to the current device."""

    def load_with(mixed_precision=False, **settings):
        tok2vec = {"mixed_precision": mixed_precision}
        component = {**settings, "model": {"tok2vec": tok2vec}}
        return spacy.load(trained_path, config={"components": {"bert_crf": component}})

    return load_with


@pytest.fixture
def on_cpu(load):
    """The trained toy on the CPU, in float32."""
    require_cpu()
    nlp = load()
    spacy.require_gpu(0)
    return nlp


@pytest.fixture
def gold():
    """Entities of each toy text, by tokens of one character except for words of Latin letters."""
    docs = []
    for text, spans in TEXTS:
        doc = spacy.blank("zh").make_doc(text)
        doc.ents = [doc.char_span(*span[:2], label=span[2]) for span in spans]
        docs.append(entities(doc))
    return docs
