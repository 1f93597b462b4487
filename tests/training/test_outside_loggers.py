"""What loggers of other libraries write, read back: loss and scores of every epoch."""

import json
import struct
import sys

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.util import load_config

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.training.loop import train
from support.paths import CONFIG
from support.toys import TEXTS, make_examples


@pytest.fixture
def config(encoder_path, tmp_path, monkeypatch):
    """Two epochs of three updates, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    docs = [example.reference for example in make_examples(spacy.blank("zh"), TEXTS)]
    DocBin(docs=docs).to_disk("docs.spacy")
    settings = {
        "paths.train": "docs.spacy",
        "paths.dev": "docs.spacy",
        "components.bert_crf.model.tok2vec.name": str(encoder_path),
        "training.batcher.size": 3,
        "training.max_epochs": 2,
        "training.optimizer.encoder_lr": 5e-3,
    }
    return load_config(CONFIG, overrides=settings, interpolate=False)


def test_tensorboard(config, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config["training"]["logger"] = {
        "@loggers": "spacy_bert_crf.TensorBoardLogger.v1",
        "log_dir": "runs/first",
    }
    rows = train(config, tmp_path / "out")["epochs"]
    events = EventAccumulator(str(tmp_path / "runs" / "first")).Reload()

    def of(name):
        return [(event.step, event.value) for event in events.Scalars(name)]

    for name, key in (("score", "score"), ("scores/ents_f", "ents_f"), ("scores/ents_p", "ents_p")):
        want = [(row["step"], pytest.approx(row[key], abs=1e-6)) for row in rows]
        assert of(name) == want
    losses = [row["losses"]["bert_crf"] for row in rows]
    assert [value for _, value in of("loss/bert_crf")] == pytest.approx(losses, rel=1e-5)
    assert "scores/ents_per_type/LOC/f" in events.Tags()["scalars"]


def test_mlflow(config, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    where = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
    config["training"]["logger"] = {"@loggers": "spacy.MLflowLogger.v2", "run_name": "toy"}
    rows = train(config, tmp_path / "out")["epochs"]
    client = mlflow.MlflowClient(where)
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert run.info.run_name == "toy" and run.info.status == "FINISHED"

    def of(name):
        found = client.get_metric_history(run.info.run_id, name)
        return [metric.value for metric in sorted(found, key=lambda m: m.timestamp)]

    assert of("score") == pytest.approx([row["score"] for row in rows])
    assert of("ents_f") == pytest.approx([row["ents_f"] for row in rows])
    assert of("loss_bert_crf") == pytest.approx([row["losses"]["bert_crf"] for row in rows])


def wandb_records(path):
    """The records of a .wandb file. It has the layout of LevelDB's log, after a head of 7 bytes."""
    block, record = 1 << 15, b""
    data = path.read_bytes()
    at = 7
    while at + 7 <= len(data):
        if block - at % block < 7:  # the rest of a block is too short for a head
            at += block - at % block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield record
            record = b""


def test_wandb_offline(config, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    config["training"]["logger"] = {"@loggers": "spacy.WandbLogger.v5", "project_name": "toy"}
    rows = train(config, tmp_path / "out")["epochs"]
    (path,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    written = {}
    for data in wandb_records(path):
        for item in Record.FromString(data).history.item:
            name = item.key or "/".join(item.nested_key)
            written.setdefault(name, []).append(json.loads(item.value_json))
    assert written["score"] == pytest.approx([row["score"] for row in rows])
    assert written["ents_f"] == pytest.approx([row["ents_f"] for row in rows])
    losses = [row["losses"]["bert_crf"] for row in rows]
    assert written["loss_bert_crf"] == pytest.approx(losses)


@pytest.mark.parametrize(
    "logger, library",
    [
        ("spacy.WandbLogger.v5", "wandb"),
        ("spacy.MLflowLogger.v2", "mlflow"),
        ("spacy.ClearMLLogger.v2", "clearml"),
        ("spacy_bert_crf.TensorBoardLogger.v1", "tensorboard"),
    ],
)
def test_a_missing_library_is_named_before_anything_is_read(
    config, tmp_path, monkeypatch, logger, library
):
    for name in [n for n in sys.modules if n.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    config["paths"]["train"] = "nowhere.spacy"
    config["training"]["logger"] = {"@loggers": logger}
    if logger != "spacy_bert_crf.TensorBoardLogger.v1":
        config["training"]["logger"]["project_name"] = "toy"
    if library == "mlflow":
        del config["training"]["logger"]["project_name"]
    if library == "clearml":
        config["training"]["logger"]["task_name"] = "toy"
    with pytest.raises(BertCrfError, match=rf"{logger} can't be used.*{library}"):
        train(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
