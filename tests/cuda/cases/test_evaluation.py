"""Evaluation, calibration and the search for errors: on the device as on the CPU."""

import pytest
import spacy
import thinc.api

from spacy_bert_crf.evaluation.calibrate import calibrate, store
from spacy_bert_crf.evaluation.evaluate import evaluate
from spacy_bert_crf.evaluation.suspects import find_errors
from spacy_bert_crf.model.layers import own_encoder_of
from support.toys import make_examples


def gold_docs(nlp):
    """The toy corpus, with one wrong entity."""
    docs = [example.reference for example in make_examples(nlp)]
    docs[0].ents = [docs[0].char_span(6, 8, "PER")]
    return docs


def on_both(folder, function):
    """What a function of a pipeline and docs gives on the CPU and on the device, in float32."""
    out = []
    for choose in (thinc.api.require_cpu, spacy.require_gpu):
        choose()
        nlp = spacy.load(folder)
        own_encoder_of(nlp.get_pipe("bert_crf").model).cfg["mixed_precision"] = False
        out.append(function(nlp, gold_docs(nlp)))
    return out


def test_evaluate(trained_path):
    cpu, gpu = on_both(trained_path, lambda nlp, docs: evaluate(nlp, docs, confusion=True))
    assert gpu.scores.to_dict() == cpu.scores.to_dict() and gpu.confusion == cpu.confusion
    assert gpu.reliability.ece == pytest.approx(cpu.reliability.ece, abs=1e-4)


def test_calibrate(trained_path, tmp_path):
    cpu, gpu = on_both(trained_path, calibrate)
    assert gpu.temperature == pytest.approx(cpu.temperature, rel=1e-2)
    store(gpu, trained_path, tmp_path / "out")
    nlp = spacy.load(tmp_path / "out")
    assert nlp.get_pipe("bert_crf").temperature == gpu.temperature


def test_find_errors(trained_path):
    cpu, gpu = on_both(trained_path, find_errors)
    for name in ("gold", "missing"):
        pairs = zip(getattr(gpu, name), getattr(cpu, name), strict=True)
        for one, other in pairs:
            assert (one.doc, one.start, one.label) == (other.doc, other.start, other.label)
            assert one.probability == pytest.approx(other.probability, abs=1e-4)
    assert gpu.gold
