"""Training, resume, export and evaluation with a real GPU."""

import json

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import DocBin
from spacy.util import load_config
from thinc.api import require_cpu

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.open import open_export
from spacy_bert_crf.model.layers import own_encoder_of
from spacy_bert_crf.training import state
from spacy_bert_crf.training.loop import train
from support.paths import CONFIG
from support.toys import make_examples

ENCODER = "components.bert_crf.model.tok2vec"


@pytest.fixture
def config(encoder_path, tmp_path):
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)] * 4).to_disk(tmp_path / "docs.spacy")
    path = str(tmp_path / "docs.spacy")
    values = {
        "paths.train": path, "paths.dev": path, "training.max_epochs": 3,
        f"{ENCODER}.name": str(encoder_path), "training.optimizer.encoder_lr": 5e-3,
    }  # fmt: skip
    return lambda **more: load_config(CONFIG, overrides={**values, **more}, interpolate=False)


def test_a_training_and_its_resume(config, on_gpu, tmp_path, monkeypatch):
    whole = train(config(), tmp_path / "whole", use_gpu=0)
    assert whole["complete"] and (tmp_path / "whole" / "model-best").is_dir()
    save = state.save_state

    class Killed(BaseException):
        pass

    def save_and_stop(*args, **kwargs):
        save(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(state, "save_state", save_and_stop)
    with pytest.raises(Killed):
        train(config(), tmp_path / "parts", use_gpu=0)
    monkeypatch.setattr(state, "save_state", save)
    saved = json.loads((tmp_path / "parts" / "state" / "state.json").read_text(encoding="utf8"))
    assert saved["random"]["cuda"]  # it was on the GPU
    parts = train(config(), tmp_path / "parts", use_gpu=0, resume=True)
    assert parts["complete"]
    for a, b in zip(whole["epochs"], parts["epochs"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.05)


def test_a_gpu_that_is_not_there(config, on_gpu, tmp_path):
    with pytest.raises(BertCrfError, match="gpu_id 99"):
        train(config(), tmp_path / "out", use_gpu=99)
    assert not (tmp_path / "out").exists()


def test_int8_is_refused_before_the_first_update(config, on_gpu, tmp_path):
    with pytest.raises(BertCrfError, match="int8"):
        train(config(**{"components.bert_crf.quantize": "int8"}), tmp_path / "out", use_gpu=0)


def test_exports_are_those_of_the_cpu(trained_path, on_gpu, tmp_path):
    ids, exported = np.arange(1, 17)[None], []
    for choose in (require_cpu, spacy.require_gpu):
        choose()
        folder = tmp_path / choose.__name__
        nlp = spacy.load(trained_path)
        export_pipeline(nlp, folder, formats=["torchscript"])
        weights = torch.load(folder / "best_model.pt", weights_only=True)
        assert weights and all(tensor.device.type == "cpu" for tensor in weights.values())
        emissions = open_export(folder / "torchscript").open_emissions()
        exported.append((weights, emissions(ids, np.ones_like(ids))))
    (here, want), (there, found) = exported
    assert own_encoder_of(nlp.get_pipe("bert_crf").model).device == on_gpu
    assert here.keys() == there.keys()
    assert all(torch.equal(there[name], tensor) for name, tensor in here.items())
    np.testing.assert_allclose(found, want, atol=1e-6)
