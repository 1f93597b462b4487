"""How often the host waits for a real GPU."""

import warnings

import pytest
import spacy
import torch

from spacy_bert_crf.crf.kernels.availability import has_kernels
from spacy_bert_crf.model.layers import own_encoder_of
from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import TEXTS, make_examples

#: Waits of an update: its loss is read. Without Triton, the CRF's scan is checked once.
UPDATE_WAITS = 1


@pytest.fixture
def waits():
    """Counts the waits within a function; an event that is waited for is none."""

    def count(run):
        run()  # kernels and copies of weights are made
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found = [f"{w.filename}:{w.lineno}" for w in seen if "synchronizing" in str(w.message)]
        return [place for place in found if "torch/cuda/__init__.py" not in place]

    return count


@pytest.mark.parametrize("mixed", (False, "auto"))
@pytest.mark.parametrize("scores", (False, True))
def test_a_predicted_batch_waits_for_its_tags_only(trained_path, on_gpu, waits, mixed, scores):
    nlp = spacy.load(trained_path)
    pipe = nlp.get_pipe("bert_crf")
    own_encoder_of(pipe.model).cfg["mixed_precision"] = mixed
    pipe.settings.scores = scores
    docs = [nlp.make_doc(text) for text, _ in TEXTS] * 30
    assert waits(lambda: pipe.predict(docs)) == []


def test_an_update_waits_for_its_loss(trained_path, on_gpu, waits):
    nlp, optimizer = spacy.load(trained_path), create_adamw(warmup=0)
    found = waits(lambda: nlp.update(make_examples(nlp), sgd=optimizer, drop=0.1))
    assert len(found) <= UPDATE_WAITS + (not has_kernels(on_gpu)), found
