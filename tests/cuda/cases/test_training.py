"""The training command on the device: the shipped config, kill and resume, what it refuses."""

import hashlib
import json

import pytest
import spacy
import thinc.api
from spacy.cli.train import train as spacy_train
from spacy.tokens import DocBin
from spacy.util import load_config

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.training.loop import train
from support.paths import CONFIG
from support.stopper import STOPPER
from support.toys import make_examples


@pytest.fixture
def corpus(tmp_path):
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "docs.spacy")
    return tmp_path / "docs.spacy"


@pytest.fixture
def run(encoder_path, corpus, tmp_path):
    """Train with the shipped config and some settings. RETURNS: the history."""

    def run_training(name, settings=(), use_gpu=0, **options):
        overrides = {
            "paths.train": str(corpus),
            "paths.dev": str(corpus),
            "components.bert_crf.model.tok2vec.name": str(encoder_path),
            "training.batcher.size": 3,
            "training.optimizer.encoder_lr": 5e-3,
            "training.optimizer.head_lr": 2e-2,
            "training.max_epochs": 2,
            **dict(settings),
        }
        config = load_config(CONFIG, overrides=overrides, interpolate=False)
        if stop_at := options.pop("stop_at", 0):
            logger = {"@loggers": STOPPER, "stop_at": stop_at}
            config["training"]["logger"] = logger
        return train(config, tmp_path / name, use_gpu=use_gpu, **options)

    return run_training


def weights(folder):
    """A checksum of the component in a folder."""
    thinc.api.require_cpu()
    data = spacy.load(folder).get_pipe("bert_crf").to_bytes(exclude=["vocab"])
    spacy.require_gpu()
    return hashlib.sha256(data).hexdigest()


def losses(history):
    return [epoch["loss"] for epoch in history["epochs"]]


def test_the_shipped_config(run, tmp_path):
    history = run("out")
    assert history["complete"] and (tmp_path / "out" / "model-best").is_dir()


def test_losses_equal_those_of_the_cpu(run):
    gpu, cpu = run("gpu"), run("cpu", use_gpu=-1)
    assert losses(gpu) == pytest.approx(losses(cpu), rel=0.05)
    assert [e["score"] for e in gpu["epochs"]][-1] == pytest.approx(cpu["epochs"][-1]["score"])


def test_weights_equal_those_of_spacy_train(run, encoder_path, corpus, tmp_path):
    constant = {"training.optimizer.decay": "constant"}
    run("ours", {**constant, "training.optimizer.warmup": 0.0})
    config = load_config(tmp_path / "ours" / "model-last" / "config.cfg")
    config["training"]["eval_frequency"] = 3  # the end of each epoch
    config.to_disk(tmp_path / "config.cfg")
    spacy_train(tmp_path / "config.cfg", tmp_path / "theirs", use_gpu=0)
    assert weights(tmp_path / "ours/model-last") == weights(tmp_path / "theirs/model-last")


def test_mixed_precision(run):
    name = "components.bert_crf.model.tok2vec.mixed_precision"
    assert run("out", {name: True})["complete"]


def test_int8_is_refused_before_the_first_update(run, tmp_path):
    with pytest.raises((BertCrfError, ValueError), match="int8"):
        run("out", {"components.bert_crf.quantize": "int8"}, stop_at=1)


def test_a_training_that_was_killed_ends_with_the_same_weights(run, tmp_path):
    run("whole")
    with pytest.raises(BertCrfError, match="SIGTERM after step 4"):
        run("parts", stop_at=4)
    history = run("parts", resume=True)
    assert history["complete"]
    assert weights(tmp_path / "parts/model-last") == weights(tmp_path / "whole/model-last")


def test_a_state_of_a_machine_with_more_gpus(run, tmp_path):
    with pytest.raises(BertCrfError, match="SIGTERM"):
        run("out", stop_at=4)
    path = tmp_path / "out" / "state" / "state.json"
    state = json.loads(path.read_text())
    kept = state["random"]["cuda"]
    one = kept[0] if kept and isinstance(kept[0], list) else kept
    state["random"]["cuda"] = [one] * 4
    path.write_text(json.dumps(state))
    assert run("out", resume=True)["complete"]
