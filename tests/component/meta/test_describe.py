"""What a training leaves in the meta.json of its pipeline."""

import json

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.util import load_config

from spacy_bert_crf.component.meta.describe import describe
from spacy_bert_crf.component.meta.keys import labels_of, named_sources, package_name, text_sources
from spacy_bert_crf.export.package.meta import gaps
from spacy_bert_crf.training.loop import train
from support.commands import cli
from support.paths import CONFIG
from support.toys import make_examples, train_toy, write_encoder

SOURCES = [{"name": "texts", "license": "CC0"}]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A training in a project, and its evaluation by the command."""
    folder = tmp_path_factory.mktemp("project")
    encoder = write_encoder(folder / "encoder", origin="org/toy@0123456", license="Apache-2.0")
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(folder / "docs.spacy")
    (folder / "sources.json").write_text(json.dumps(SOURCES), encoding="utf8")
    settings = {
        "paths.train": str(folder / "docs.spacy"),
        "paths.dev": str(folder / "docs.spacy"),
        "paths.sources": str(folder / "sources.json"),
        "components.bert_crf.model.tok2vec.name": str(encoder),
        "training.max_epochs": 2,
    }
    train(load_config(CONFIG, overrides=settings, interpolate=False), folder / "training")
    cli("evaluate", folder / "training" / "model-best", folder / "docs.spacy",
        "--history", folder / "training" / "history.json",
        "--output", folder / "training" / "metrics.json")  # fmt: skip
    return folder


def test_meta_is_complete_after_a_training(project):
    """All but what only the maker knows: author, licence."""
    meta = json.loads((project / "training" / "model-best" / "meta.json").read_text("utf8"))
    assert package_name(meta) == "zh_ner_bert_crf"
    labels = labels_of(meta)
    assert meta["description"] == f"Finds named entities ({', '.join(labels)}) in Chinese texts."
    encoder = {"name": "org/toy@0123456", "license": "Apache-2.0", "part": "encoder"}
    assert meta["sources"] == [*SOURCES, encoder]
    (sizes,) = meta["spacy_bert_crf"]["encoders"]
    assert (sizes["layers"], sizes["width"]) == (2, 16)
    assert meta["spacy_bert_crf"]["versions"]["spacy"] == spacy.__version__
    scores = meta["performance"]
    assert {"ents_p", "ents_r", "ents_f"} <= scores.keys()
    assert set(scores["ents_per_type"]) == set(labels)
    assert [line.split()[0] for line in gaps(meta)] == ["author", "license"]


def test_evaluate_leaves_the_pipeline_as_it_is_and_the_card_knows_both(project, tmp_path):
    """The step of a project that trains would else run again."""
    training = project / "training"
    same = (training / "model-last" / "meta.json").read_bytes()
    if (training / "history.json").read_text("utf8").count('"best": true') == 2:
        assert (training / "model-best" / "meta.json").read_bytes() == same
    cli("card", training / "model-best", "--metrics", training / "metrics.json",
        "--output", tmp_path / "README.md")  # fmt: skip
    card = (tmp_path / "README.md").read_text(encoding="utf8")
    assert "base_model: org/toy" in card and "- Training text: texts (licence: CC0)" in card
    assert "The training took" in card and "docs.spacy" in card


def test_exports_name_the_texts_apart_from_the_encoder(project, tmp_path):
    cli("export", project / "training" / "model-best", tmp_path / "export")
    info = json.loads((tmp_path / "export" / "best_model.json").read_text(encoding="utf8"))
    assert info["sources"] == SOURCES
    assert info["encoder"] == {"origin": "org/toy@0123456", "license": "Apache-2.0"}


def test_what_is_said_already_stays(encoder_path):
    nlp = train_toy(encoder_path, 0)
    nlp.meta |= {"name": "mine", "description": "Mine.", "sources": ["texts"]}
    describe(nlp, [])
    assert (nlp.meta["name"], nlp.meta["description"]) == ("mine", "Mine.")
    assert nlp.meta["sources"] == [{"name": "texts"}]
    describe(nlp, SOURCES)
    assert nlp.meta["sources"] == SOURCES


def test_sources_are_read_in_both_forms():
    meta = {"sources": ["a", {"name": "b", "part": "encoder"}]}
    assert named_sources(meta) == [{"name": "a"}, {"name": "b", "part": "encoder"}]
    assert text_sources(meta) == [{"name": "a"}] and named_sources({}) == []
