"""Callbacks, frozen and annotating components: `train` does with them what `spacy train` does."""

import pytest
import spacy
from spacy.cli.train import train as spacy_train
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.util import load_config, registry

from spacy_bert_crf.training.loop import train
from support.paths import CONFIG
from support.toys import TEXTS, make_examples, own_config

CALLS = []


@registry.callbacks("test_as_spacy.BeforeUpdate.v1")
def create_before_update():
    return lambda nlp, info: CALLS.append(("update", dict(info), nlp.pipe_names))


@registry.callbacks("test_as_spacy.BeforeToDisk.v1")
def create_before_to_disk():
    def before_to_disk(nlp):
        CALLS.append(("disk", nlp.pipe_names))
        nlp.meta["marked"] = True
        return nlp

    return before_to_disk


@Language.component("test_as_spacy_marker")
def marker(doc):
    """Starts a sentence at every other token, which the encoder reads one by one."""
    CALLS.append(("annotate", len(doc)))
    for token in doc:
        token.is_sent_start = token.i % 2 == 0
    return doc


@pytest.fixture
def made(encoder_path, tmp_path):
    """Config of two epochs: an annotating marker, a frozen bert_crf that is sourced, a new one."""
    nlp = spacy.blank("zh", config={"nlp": {"tokenizer": {"segmenter": "char"}}})
    nlp.add_pipe("bert_crf", "old", config=own_config(encoder_path))
    examples = make_examples(nlp, TEXTS)
    nlp.initialize(lambda: examples)
    nlp.to_disk(tmp_path / "source")
    data = tmp_path / "docs.spacy"
    DocBin(docs=[example.reference for example in examples]).to_disk(data)
    config = load_config(
        CONFIG,
        overrides={
            "paths.train": str(data),
            "paths.dev": str(data),
            "components.bert_crf.model.tok2vec.name": str(encoder_path),
            "components.bert_crf.model.tok2vec.max_length": 8,
            "components.bert_crf.model.tok2vec.overlap": 2,
            "training.batcher.size": 3,
            "training.max_epochs": 0,
            "training.max_steps": 5,
            "training.eval_frequency": 5,
            "training.optimizer.total_steps": 6,
        },
        interpolate=False,
    )
    config["nlp"]["pipeline"] = ["test_as_spacy_marker", "old", "bert_crf"]
    config["components"]["test_as_spacy_marker"] = {"factory": "test_as_spacy_marker"}
    config["components"]["old"] = {"source": str(tmp_path / "source")}
    config["training"] |= {
        "frozen_components": ["old"],
        "annotating_components": ["test_as_spacy_marker"],
        "before_update": {"@callbacks": "test_as_spacy.BeforeUpdate.v1"},
        "before_to_disk": {"@callbacks": "test_as_spacy.BeforeToDisk.v1"},
    }
    config.to_disk(tmp_path / "train.cfg")
    return config


def weights(path, name):
    return spacy.load(path).get_pipe(name).to_bytes(exclude=["vocab"])


def test_equal_to_spacy_train(made, tmp_path):
    CALLS.clear()
    spacy_train(tmp_path / "train.cfg", tmp_path / "spacy")
    theirs = [call for call in CALLS if call[0] == "update"]
    n_annotated = sum(call[0] == "annotate" for call in CALLS)
    CALLS.clear()
    train(made, tmp_path / "ours", keep_state=False)
    assert [call for call in CALLS if call[0] == "update"] == theirs
    assert [info["step"] for _, info, _ in theirs] == list(range(6))
    # Evaluations come at other times: one more of dev, at the end of the first epoch.
    assert n_annotated > 0 and sum(call[0] == "annotate" for call in CALLS) >= n_annotated
    ours, spacys = tmp_path / "ours" / "model-last", tmp_path / "spacy" / "model-last"
    assert weights(ours, "bert_crf") == weights(spacys, "bert_crf")
    assert weights(ours, "old") == weights(spacys, "old") == weights(tmp_path / "source", "old")
    for folder in (ours, spacys):
        assert spacy.load(folder).meta["marked"] is True


def test_annotation_reaches_the_update(made, tmp_path):
    """Without the annotating component, the encoder reads other windows and learns otherwise."""
    train(made, tmp_path / "with", keep_state=False)
    made["training"]["annotating_components"] = []
    train(made, tmp_path / "without", keep_state=False)
    with_it, without = (tmp_path / name / "model-last" for name in ("with", "without"))
    assert weights(with_it, "bert_crf") != weights(without, "bert_crf")
