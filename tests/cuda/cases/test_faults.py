"""Trainings on the device, and what a resumed one takes over; rows without extra copies.

Runs in the process that has the pretend device.
"""

import json
import signal

import pytest
import spacy
import torch
from spacy.tokens import DocBin
from spacy.util import load_config, registry

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model.layers import own_encoder_of
from spacy_bert_crf.model.shared.rows import join_rows, split_rows
from spacy_bert_crf.training import state
from spacy_bert_crf.training.loop import train
from support.paths import CONFIG
from support.toys import make_examples

pretend = pytest.importorskip("tests.cuda.pretend", reason="the pretend device is not here")
ENCODER = "components.bert_crf.model.tok2vec"
#: Scales that grow after each update.
SCALES = {"init_scale": 256.0, "growth_interval": 1}


@registry.loggers("test_faults.Stop.v1")
def create_stop():
    """A logger that stops the training after its first update."""
    return lambda nlp, *files: (lambda info: signal.raise_signal(signal.SIGTERM), lambda: None)


@pytest.fixture
def settings(encoder_path, tmp_path):
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "docs.spacy")
    path = str(tmp_path / "docs.spacy")
    names = {"paths.train": path, "paths.dev": path, "training.batcher.size": 3}
    return names | {f"{ENCODER}.name": str(encoder_path), "training.max_epochs": 1}


def run(settings, output, *, stops=False, **options):
    config = load_config(CONFIG, overrides=settings, interpolate=False)
    if stops:
        config["training"]["logger"] = {"@loggers": "test_faults.Stop.v1"}
    return train(config, output, use_gpu=0, **options)


def weights(path):
    return spacy.load(path).get_pipe("bert_crf").to_bytes(exclude=["vocab"])


def test_a_training_with_the_shipped_config_is_resumed_to_the_same_weights(settings, tmp_path):
    assert run(settings, tmp_path / "whole")["complete"]
    with pytest.raises(BertCrfError, match="Go on with --resume"):
        run(settings, tmp_path / "parts", stops=True)
    assert run(settings, tmp_path / "parts", resume=True)["complete"]
    assert weights(tmp_path / "whole" / "model-last") == weights(tmp_path / "parts" / "model-last")


def test_a_state_of_four_gpus_is_resumed_on_one(settings, tmp_path):
    with pytest.raises(BertCrfError, match="Go on with --resume"):
        run(settings, tmp_path / "out", stops=True)
    path = tmp_path / "out" / "state" / "state.json"
    data = json.loads(path.read_text("utf8"))
    assert len(data["random"]["cuda"]) == 1
    data["random"]["cuda"] *= 4
    path.write_text(json.dumps(data), "utf8")
    assert run(settings, tmp_path / "out", resume=True)["complete"]


def test_the_scale_of_float16_gradients_is_resumed(settings, tmp_path):
    from tests.cuda.pretend import torch_cuda

    torch_cuda.use_card(torch_cuda.T4)
    settings |= {f"{ENCODER}.mixed_precision": True, f"{ENCODER}.grad_scaler_config": SCALES}
    with pytest.raises(BertCrfError, match="Go on with --resume"):
        run(settings, tmp_path / "out", stops=True)
    data = json.loads((tmp_path / "out" / "state" / "state.json").read_text("utf8"))
    (saved,) = (each for each in data["grad_scalers"].values() if each)
    assert saved == {"scale": 512.0, "growth_tracker": 0}  # it grew after the first update
    config = load_config(CONFIG, overrides=settings, interpolate=False)
    nlp = state.load_nlp(tmp_path / "out", config)
    optimizer = registry.optimizers.get("spacy_bert_crf.AdamW.v1")()
    state.restore_state(tmp_path / "out", data, nlp, optimizer)
    scaler = own_encoder_of(nlp.get_pipe("bert_crf").model).grad_scaler
    assert scaler.state() == saved
    assert run(settings, tmp_path / "out", resume=True)["complete"]


def test_8_bit_integers_are_refused_before_the_first_update(settings, tmp_path):
    settings |= {"components.bert_crf.quantize": "int8"}
    with pytest.raises(BertCrfError, match="this training is on cuda:0"):
        run(settings, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_second_gpu_is_refused(settings, tmp_path):
    config = load_config(CONFIG, overrides=settings, interpolate=False)
    with pytest.raises(BertCrfError, match="used: there is one GPU, with the number 0"):
        train(config, tmp_path / "out", use_gpu=1)


def test_rows_are_joined_without_a_copy():
    rows = torch.ones(5, 4, device="cuda")
    parts = split_rows(rows, [2, 0, 3])
    pretend.LOG.reset()
    joined = join_rows(parts, rows.device)
    assert not any(pretend.LOG.counts().values()), pretend.LOG.counts()
    joined.add_(1)
    assert rows.cpu().eq(2).all()
    assert join_rows(list(parts), rows.device).cpu().eq(2).all()
    assert join_rows([part.get() for part in parts], rows.device).is_cuda
    assert not pretend.LOG.cupy["concatenate"]
