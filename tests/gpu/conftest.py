"""Tests of this folder run on a real GPU: `pytest -m cuda`. Elsewhere they are skipped."""

from pathlib import Path

import pytest
import spacy
import torch
from thinc.api import require_cpu

from spacy_bert_crf._devices import missing


def pytest_collection_modifyitems(items):
    lacks = missing(0)
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cuda)
            if lacks:
                item.add_marker(pytest.mark.skip(reason=lacks))


@pytest.fixture
def on_gpu():
    """thinc and torch are on the first GPU, with float32 products as exact as they can be."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    spacy.require_gpu(0)
    yield torch.device("cuda:0")
    require_cpu()
    torch.set_float32_matmul_precision(before)
