"""Commands on a component that shares an encoder of the package."""

import json
import runpy

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.util import load_config

from spacy_bert_crf._provenance import META
from spacy_bert_crf.component.pipelines import docs_before
from spacy_bert_crf.export.package.about import About
from spacy_bert_crf.export.package.meta import complete_meta
from spacy_bert_crf.model.layers import encoder_of, own_encoder_of
from spacy_bert_crf.training.distillation.distill import distill
from support.commands import cli
from support.paths import CONFIG, ROOT
from support.sharing import TWO
from support.toys import TEXTS, characters, make_examples

READER = ROOT / "docs" / "read_best_model.py"


@pytest.fixture
def data(tmp_path):
    """The annotated texts, eight times."""
    docs = [eg.reference for eg in make_examples(spacy.blank("zh"))] * 8
    DocBin(docs=docs).to_disk(tmp_path / "docs.spacy")
    return tmp_path / "docs.spacy"


@pytest.fixture
def one_path(two_path, tmp_path):
    """The pipeline with one of its components."""
    nlp = spacy.load(two_path, exclude=["rest"])
    nlp.to_disk(tmp_path / "one")
    return tmp_path / "one"


def of_people():
    return [[span for span in spans if span[2] == "PER"] for _, spans in TEXTS]


def test_evaluate(two_path, data, tmp_path):
    cli("evaluate", two_path, data, "--output", tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf8"))["ents_f"] == 1.0


def test_probabilities_and_calibration(two_path, data, tmp_path):
    nlp = spacy.load(two_path)
    docs = docs_before(nlp, "people", [text for text, _ in TEXTS])
    assert all(doc.tensor.shape == (len(doc), 16) for doc in docs)
    read = nlp.get_pipe("people").read(docs)
    assert [[tuple(e)[:2] for e in one.entities] for one in read] == [
        [span[:2] for span in spans] for spans in of_people()
    ]
    out = tmp_path / "calibrated"
    cli("calibrate", two_path, data, "--component", "people", "--output", out)
    assert [characters(doc) for doc in spacy.load(out).pipe(t for t, _ in TEXTS)] == [
        spans for _, spans in TEXTS
    ]


def test_export_and_compare(two_path, data, tmp_path):
    words = ["--component", "people", "--to", "torchscript", "--to", "torch-int8"]
    printed = cli("export", two_path, tmp_path / "out", *words)
    assert "left out: bert_crf_encoder, rest" in printed
    reader = runpy.run_path(str(READER))
    loaded = reader["load"](tmp_path / "out")
    assert loaded[0]["context"] == "sentences" and loaded[0]["max_length"] == 512
    assert [reader["entities"](text, *loaded) for text, _ in TEXTS] == of_people()
    words = [two_path, data, tmp_path / "out", "--component", "people"]
    assert "torchscript" in cli("compare-exports", *words)


def test_the_encoder_of_a_package_comes_once(two_path):
    nlp = spacy.load(two_path)
    (only,) = complete_meta(nlp, About())[META]["encoders"]
    assert only["component"] == "people" and only["width"] == 16


def test_a_teacher_may_share_its_encoder(one_path, data, tmp_path):
    settings = {
        "paths.train": str(data), "paths.dev": str(data), "components.bert_crf.scheme": "BIO",
        "training.max_epochs": 1, "initialize.components.bert_crf.labels": ["PER"],
    }  # fmt: skip
    config = load_config(CONFIG, overrides=settings, interpolate=False)
    distill(one_path, config, tmp_path / "out", settings={"layers": 1})
    pipe = spacy.load(tmp_path / "out" / "model-last").get_pipe("bert_crf")
    assert own_encoder_of(pipe.model).module.config.num_hidden_layers == 1
    assert encoder_of(pipe.model) is own_encoder_of(pipe.model) and pipe.labels == ("PER",)


def test_two_components_are_two_for_the_commands(two_path, tmp_path):
    printed = cli("export", two_path, tmp_path / "out", code=1)
    assert "2 bert_crf components" in printed and all(name in printed for name in TWO)
