"""A sourced component learns labels that are new in the training corpus."""

import shutil

import numpy as np
import pytest
import spacy
from spacy.cli.train import train as spacy_train
from spacy.tokens import DocBin
from spacy.training import Example
from spacy.util import load_config, registry

from spacy_bert_crf.annotation.coverage.covers import set_covers
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model import layers
from spacy_bert_crf.training.loop import train
from spacy_bert_crf.training.new_labels import create_learn_new_labels, learn_new_labels
from support.commands import cli
from support.paths import CONFIG
from support.toys import TEXTS, entities, make_examples, train_toy

#: The toys with a further label.
MORE = [
    *TEXTS,
    ("1998年他在北京开会。", [(0, 5, "DATE"), (7, 9, "LOC")]),
    ("1998年没有出现。", [(0, 5, "DATE")]),
]


@pytest.fixture
def source(encoder_path, tmp_path):
    """Config of a training that goes on with a trained pipeline, and a corpus with DATE."""
    train_toy(encoder_path).to_disk(tmp_path / "source")
    nlp = spacy.blank("zh")
    docs = [example.reference for example in make_examples(nlp, MORE)]
    DocBin(docs=docs).to_disk(tmp_path / "docs.spacy")
    config = load_config(CONFIG, interpolate=False)
    config["components"] = {"bert_crf": {"source": str(tmp_path / "source")}}
    config["paths"] |= dict.fromkeys(("train", "dev"), str(tmp_path / "docs.spacy"))
    config["initialize"]["components"] = {}
    config["training"]["batcher"]["size"] = 10
    config["training"]["optimizer"] |= {"encoder_lr": 1e-2, "head_lr": 5e-2, "crf_lr": 5e-2}
    config["training"] |= {"max_epochs": 40, "dropout": 0.0}
    config["training"]["logger"] = {"@loggers": "spacy.ConsoleLogger.v1"}
    return config


def head(nlp):
    return layers.head_of(nlp.get_pipe("bert_crf").model).module


def test_train_learns_them_and_keeps_the_old_ones(source, tmp_path):
    source.to_disk(tmp_path / "train.cfg")
    text = cli("train", tmp_path / "train.cfg", tmp_path / "out")
    assert "[bert_crf] learns new labels: DATE. It keeps the weights of LOC, ORG, PER." in text
    nlp = spacy.load(tmp_path / "out" / "model-best")
    assert nlp.get_pipe("bert_crf").labels == ("LOC", "ORG", "PER", "DATE")
    assert entities(nlp(MORE[-1][0])) == [(0, 5, "DATE")]
    assert entities(nlp(TEXTS[0][0])) == entities(spacy.load(tmp_path / "source")(TEXTS[0][0]))


def test_old_rows_and_transitions_stay(source, tmp_path):
    """With learning rates of 0, all that is new is the tags after the old ones."""
    rates = {"encoder_lr": 1e-30, "head_lr": 0.0, "crf_lr": 0.0}
    source["training"]["optimizer"] |= rates
    source["training"]["max_epochs"] = 1
    train(source, tmp_path / "out", keep_state=False)
    old, new = head(spacy.load(tmp_path / "source")), head(spacy.load(tmp_path / "out/model-last"))
    k = old.crf.n_tags
    assert new.crf.n_tags == k + 2
    for before, after in (
        (old.classifier.weight, new.classifier.weight[:k]),
        (old.crf.weights().transitions, new.crf.weights().transitions[:k, :k]),
    ):
        np.testing.assert_array_equal(before.detach().numpy(), after.detach().numpy())


def test_a_frozen_component_and_known_labels_are_left_alone(source, tmp_path):
    source["training"]["max_epochs"] = 1
    source["training"]["frozen_components"] = ["bert_crf"]
    with pytest.warns(UserWarning, match="DATE"):  # of the dev corpus
        train(source, tmp_path / "out", keep_state=False)
    assert "DATE" not in spacy.load(tmp_path / "out" / "model-last").get_pipe("bert_crf").labels


def test_several_components_that_could_learn_them_are_named(source, tmp_path):
    shutil.copytree(tmp_path / "source", tmp_path / "second")
    path = str(tmp_path / "second")
    source["components"]["second"] = {"source": path, "component": "bert_crf"}
    source["nlp"]["pipeline"] = ["bert_crf", "second"]
    source["training"]["max_epochs"] = 1
    with pytest.warns(UserWarning, match=r"new labels \(DATE\).*bert_crf, second"):
        train(source, tmp_path / "out", keep_state=False)


def test_spacy_train_learns_them_by_a_callback(source, tmp_path):
    name = "spacy_bert_crf.learn_new_labels.v1"
    assert registry.callbacks.get(name) is create_learn_new_labels
    source["initialize"]["after_init"] = {"@callbacks": name}
    source["training"] |= {"max_epochs": 0, "max_steps": 2, "eval_frequency": 1}
    source.to_disk(tmp_path / "train.cfg")
    spacy_train(tmp_path / "train.cfg", tmp_path / "out")
    labels = spacy.load(tmp_path / "out" / "model-last").get_pipe("bert_crf").labels
    assert labels == ("LOC", "ORG", "PER", "DATE")


@pytest.fixture
def only_dates(source, tmp_path):
    """The config, with a corpus in which only dates are annotated."""
    nlp = spacy.blank("zh")
    data = [(text, [span for span in spans if span[2] == "DATE"]) for text, spans in MORE]
    docs = [example.reference for example in make_examples(nlp, data)]
    for doc in docs:
        set_covers(doc, ["DATE"])
    DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / "docs.spacy")
    return source


def test_the_former_model_stands_in_for_labels_that_texts_do_not_cover(only_dates, tmp_path):
    only_dates["training"]["max_epochs"] = 60
    only_dates.to_disk(tmp_path / "train.cfg")
    text = cli("train", tmp_path / "train.cfg", tmp_path / "out")
    assert "[bert_crf] keeps its former model, which stands in" in text
    assert "(self_distillation = 0.5)" in text
    nlp = spacy.load(tmp_path / "out" / "model-last")
    assert nlp.get_pipe("bert_crf").former is None  # it is not saved
    assert entities(nlp(MORE[-1][0])) == [(0, 5, "DATE")]
    assert nlp.get_pipe("bert_crf").labels == ("LOC", "ORG", "PER", "DATE")
    kept = sum(entities(nlp(text))[: len(spans)] == spans for text, spans in TEXTS)
    assert kept >= len(TEXTS) - 2


def test_a_resumed_training_takes_the_former_model_from_the_source(only_dates, tmp_path):
    nlp = spacy.load(tmp_path / "source")
    nlp.get_pipe("bert_crf").add_label("DATE")
    nlp.config["training"] = only_dates.interpolate()["training"]
    docs = DocBin().from_disk(tmp_path / "docs.spacy").get_docs(nlp.vocab)
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in docs]
    learn_new_labels(nlp, only_dates, lambda nlp: examples, is_resumed=True)
    former = nlp.get_pipe("bert_crf").former
    assert former.labels == ("LOC", "ORG", "PER") and len(former.tags.tags) == 7
    only_dates["components"]["bert_crf"]["source"] = "no_such_pipeline"
    with pytest.raises(BertCrfError, match="can't load the pipeline no_such_pipeline"):
        learn_new_labels(nlp, only_dates, lambda nlp: examples, is_resumed=True)


def test_spacy_train_sets_the_weight_by_the_callback(only_dates, tmp_path):
    only_dates["initialize"]["after_init"] = {
        "@callbacks": "spacy_bert_crf.learn_new_labels.v1", "self_distillation": 0.25,
    }  # fmt: skip
    only_dates["training"]["max_epochs"] = 1
    text = train_text(only_dates, tmp_path)
    assert "(self_distillation = 0.25)" in text


def train_text(config, tmp_path):
    config.to_disk(tmp_path / "train.cfg")
    return cli("train", tmp_path / "train.cfg", tmp_path / "out")
