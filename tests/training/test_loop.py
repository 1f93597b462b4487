"""The training command: equal to `spacy train`, best epoch, resume after kills, bad input."""

import hashlib
import json
import subprocess
import sys

import pytest
import spacy
from spacy.cli.train import train as spacy_train
from spacy.tokens import DocBin
from spacy.util import load_config, registry

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.training import loop
from spacy_bert_crf.training.loop import train
from support.commands import kill_once_saved
from support.paths import CONFIG
from support.stopper import STOPPER, UPDATES
from support.toys import TEXTS, entities, make_examples


@pytest.fixture
def settings(encoder_path, tmp_path):
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "docs.spacy")
    return {
        "paths.train": str(tmp_path / "docs.spacy"),
        "paths.dev": str(tmp_path / "docs.spacy"),
        "components.bert_crf.model.tok2vec.name": str(encoder_path),
        "training.batcher.size": 3,
        "training.optimizer.encoder_lr": 5e-3,
        "training.optimizer.head_lr": 2e-2,
        "training.max_epochs": 4,
    }


@registry.scorers("test_training.Scores.v1")
def create_scorer(values: list[float]):
    """A scorer that gives these values, one after the other."""
    left = iter(values)
    return lambda examples, **settings: {"ents_f": next(left)}


def made(settings, stop_at=None, scores=()):
    """The config; with a stopper as logger, or with scores that are fixed."""
    config = load_config(CONFIG, overrides=settings, interpolate=False)
    if stop_at is not None:
        config["training"]["logger"] = {"@loggers": STOPPER, "stop_at": stop_at}
    if scores:
        scorer = {"@scorers": "test_training.Scores.v1", "values": list(scores)}
        config["components"]["bert_crf"]["scorer"] = scorer
    return config


def run(settings, output, **options):
    return train(made(settings), output, **options)


def weights(path):
    return spacy.load(path).get_pipe("bert_crf").to_bytes(exclude=["vocab"])


@pytest.mark.parametrize("averaging", [0.0, 0.8])
def test_equals_spacy_train(settings, tmp_path, averaging):
    """After the same number of updates, with dropout and over several epochs."""
    settings["training.optimizer.averaging"] = averaging
    settings |= {"training.max_epochs": 0, "training.max_steps": 7}
    settings |= {"training.optimizer.total_steps": 8, "training.eval_frequency": 7}
    spacy_train(CONFIG, tmp_path / "spacy", overrides=settings)
    history = run(settings, tmp_path / "ours")
    assert history["steps"] == 8
    assert weights(tmp_path / "ours" / "model-last") == weights(tmp_path / "spacy" / "model-last")


def test_keeps_the_best_epoch(settings, tmp_path, capsys):
    history = train(made(settings, scores=[0.2, 0.6, 0.6, 0.1]), tmp_path / "out")
    assert history["best_epoch"] == 2 and history["complete"]
    assert [row["best"] for row in history["epochs"]] == [True, True, False, False]
    assert [row["step"] for row in history["epochs"]] == [3, 6, 9, 12]
    meta = json.loads((tmp_path / "out" / "model-best" / "meta.json").read_text("utf8"))
    assert meta["performance"]["ents_f"] == 0.6
    assert weights(tmp_path / "out" / "model-best") != weights(tmp_path / "out" / "model-last")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "history.json", "model-best", "model-last",
    ]  # fmt: skip
    text = capsys.readouterr().out
    assert "12 updates" in text and "best" in text and "ents_f" in text


@pytest.mark.parametrize("stop_at, averaging", [(1, 0), (3, 0.9), (5, 0.9), (10, 0)])
def test_resumes_to_the_same_weights(settings, tmp_path, caplog, stop_at, averaging):
    settings["training.optimizer.averaging"] = averaging
    run(settings, tmp_path / "whole")
    with pytest.raises(BertCrfError, match=f"SIGTERM after step {stop_at}.*--resume"):
        train(made(settings, stop_at), tmp_path / "parts")
    # What other work draws from the random states in between must not matter.
    spacy.util.fix_random_seed(123)
    caplog.set_level("INFO", logger="spacy_bert_crf")
    history = train(made(settings, stop_at=0), tmp_path / "parts", resume=True)
    assert f"step {stop_at}" in caplog.text
    assert len(UPDATES) == 12 - stop_at and history["steps"] == 12
    for which in ("model-last", "model-best"):
        assert weights(tmp_path / "parts" / which) == weights(tmp_path / "whole" / which)
    assert not (tmp_path / "parts" / "state").exists()


def test_resumes_after_a_kill(settings, tmp_path):
    run(settings, tmp_path / "whole")
    out = tmp_path / "killed"
    options = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "spacy", "bert-crf", "train", str(CONFIG), str(out)]
    command += ["--save-minutes", "0", *options]
    kill_once_saved(command, out)
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=True)
    assert "resuming at epoch" in done.stdout
    for which in ("model-last", "model-best"):
        assert weights(out / which) == weights(tmp_path / "whole" / which)
    assert not [p.name for p in out.iterdir() if p.name.startswith(".")]


def test_a_kill_between_the_end_and_the_removal_of_the_state(settings, tmp_path, monkeypatch):
    """The history says complete, the state is still there, whole or in part."""
    whole = run(settings, tmp_path / "whole")
    out = tmp_path / "out"

    def die(path):
        raise SystemExit("killed")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(loop, "remove_folder", die)
        run(settings, out, save_minutes=0)
    assert (out / "state" / "state.json").is_file()
    history = run(settings, out, resume=True)
    assert history["complete"] and history["steps"] == whole["steps"]
    assert weights(out / "model-last") == weights(tmp_path / "whole" / "model-last")
    assert sorted(p.name for p in out.iterdir()) == ["history.json", "model-best", "model-last"]


def test_what_a_pipeline_was_made_of_is_recorded(settings, tmp_path):
    from spacy_bert_crf._provenance import versions
    from spacy_bert_crf.export.folder import export_pipeline

    settings["training.max_epochs"] = 1
    told = {}
    for name, more in {"a": {}, "again": {}, "seed": {"system.seed": 7}}.items():
        history = run({**settings, **more}, tmp_path / name)
        nlp = spacy.load(tmp_path / name / "model-best")
        export_pipeline(nlp, tmp_path / "export" / name)
        path = tmp_path / "export" / name / "best_model.json"
        told[name] = json.loads(path.read_text(encoding="utf8"))
        for key in ("config_sha256", "data_sha256"):
            assert told[name][key] == history[key]
    hashes = told["a"]["data_sha256"]
    docs = hashlib.sha256((tmp_path / "docs.spacy").read_bytes()).hexdigest()
    assert hashes["corpora.train.path"] == hashes["corpora.dev.path"] == docs
    assert {"examples", "components.bert_crf.model.tok2vec.name"} <= hashes.keys()
    assert told["a"]["seed"] == 0 and told["seed"]["seed"] == 7
    assert told["a"]["training_versions"] == versions()
    for key in ("config_sha256", "data_sha256", "weights_sha256"):
        assert told["a"][key] == told["again"][key]
    assert told["a"]["config_sha256"] != told["seed"]["config_sha256"]


@pytest.mark.nightly
def test_the_same_seed_gives_the_same_file_in_two_processes(settings, tmp_path):
    files = []
    for name in "ab":
        options = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "spacy", "bert-crf"]
        out, export = tmp_path / name, tmp_path / f"export-{name}"
        subprocess.run([*command, "train", str(CONFIG), str(out), *options], check=True)
        subprocess.run([*command, "export", str(out / "model-best"), str(export)], check=True)
        history = json.loads((out / "history.json").read_text(encoding="utf8"))
        scores = [(row["loss"], row["score"]) for row in history["epochs"]]
        files.append((scores, (export / "best_model.pt").read_bytes()))
    assert files[0] == files[1]


@pytest.mark.parametrize("which", ["paths.train", "paths.dev"])
def test_a_damaged_corpus_is_named(settings, tmp_path, which):
    path = tmp_path / "bad.spacy"
    path.write_bytes((tmp_path / "docs.spacy").read_bytes()[:-9])
    with pytest.raises(BertCrfError, match="bad.spacy is no readable DocBin"):
        run({**settings, which: str(path)}, tmp_path / "out")


def test_a_finished_training_is_not_repeated(settings, tmp_path, caplog):
    caplog.set_level("INFO", logger="spacy_bert_crf")
    settings["training.max_epochs"] = 1
    first = run(settings, tmp_path / "out")
    before = weights(tmp_path / "out" / "model-best")
    again = run(settings, tmp_path / "out", resume=True)
    assert again["seconds"] == first["seconds"]
    assert "complete" in caplog.text
    assert weights(tmp_path / "out" / "model-best") == before
    changed = run({**settings, "system.seed": 7}, tmp_path / "out", resume=True)
    assert changed["seed"] == 7


def test_a_state_that_does_not_fit_is_refused(settings, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(BertCrfError, match="SIGTERM after step 1"):
        train(made(settings, stop_at=1), out)
    with pytest.raises(BertCrfError, match=r"training.dropout = 0.1, the config has 0.3"):
        run({**settings, "training.dropout": 0.3}, out, resume=True)
    other = tmp_path / "other.spacy"
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp, TEXTS[:4])]).to_disk(other)
    with pytest.raises(BertCrfError, match="other training data"):
        run({**settings, "paths.train": str(other)}, out, resume=True)
    (out / "state" / "state.json").write_text("{", encoding="utf8")
    with pytest.raises(BertCrfError, match="state.json is damaged"):
        run(settings, out, resume=True)
    (out / "state" / "optimizer.safetensors").write_bytes(b"no")
    (out / "state" / "pipeline" / "bert_crf" / "model").write_bytes(b"no")
    with pytest.raises(BertCrfError, match="pipeline is damaged"):
        run(settings, out, resume=True)


def test_another_encoder_in_the_same_place_is_another_training(settings, tmp_path, caplog):
    import shutil

    caplog.set_level("INFO", logger="spacy_bert_crf")

    encoder = tmp_path / "encoder"
    shutil.copytree(settings["components.bert_crf.model.tok2vec.name"], encoder)
    settings |= {"components.bert_crf.model.tok2vec.name": str(encoder), "training.max_epochs": 1}
    run(settings, tmp_path / "out")
    run(settings, tmp_path / "out", resume=True)
    assert "is complete" in caplog.text
    caplog.clear()
    weights_file = encoder / "model.safetensors"
    data = bytearray(weights_file.read_bytes())
    data[-4:] = b"\0\0\0\0"
    weights_file.write_bytes(bytes(data))
    run(settings, tmp_path / "out", resume=True)
    assert "is complete" not in caplog.text


@pytest.mark.parametrize("missing", ["paths.train", "paths.dev"])
def test_a_missing_corpus_is_named_before_the_first_epoch(settings, tmp_path, missing):
    with pytest.raises(BertCrfError, match="can't begin.*nowhere"):
        run({**settings, missing: str(tmp_path / "nowhere.spacy")}, tmp_path / "out")


def test_a_dev_corpus_without_annotation_is_refused(settings, tmp_path):
    path = tmp_path / "plain.spacy"
    DocBin(docs=[spacy.blank("zh")("没有")]).to_disk(path)
    with pytest.raises(BertCrfError, match="no doc of the dev corpus has entity annotation"):
        run({**settings, "paths.dev": str(path)}, tmp_path / "out")


def growing(settings):
    settings |= {
        "training.batcher.@batchers": "spacy.batch_by_sequence.v1",
        "training.batcher.size": {
            "@schedules": "compounding.v1", "start": 1, "stop": 4, "compound": 1.2,
        },
    }  # fmt: skip
    config = load_config(CONFIG, interpolate=False)
    for key in ("buffer", "max_padded"):
        config["training"]["batcher"].pop(key)
    config = config.merge({"training": {"batcher": {
        "@batchers": settings.pop("training.batcher.@batchers"),
        "size": settings.pop("training.batcher.size"),
    }}})  # fmt: skip
    return config.from_str(config.to_str(), overrides=settings, interpolate=False)


def test_batchers_that_grow_their_batches(settings, tmp_path):
    """Counting does not disturb them, and a resumed training draws the same batches."""
    config = growing(settings)
    whole = train(config.copy(), tmp_path / "whole")
    # Of one example a batch there were 32 updates, of four 8.
    assert 8 < whole["steps"] < 32 and whole["epochs"][0]["step"] > whole["steps"] / 4
    stopper = {"@loggers": STOPPER, "stop_at": 9}
    parts = config.copy()
    parts["training"]["logger"] = stopper
    with pytest.raises(BertCrfError, match="SIGTERM after step 9"):
        train(parts, tmp_path / "parts")
    assert train(config.copy(), tmp_path / "parts", resume=True)["steps"] == whole["steps"]
    assert weights(tmp_path / "parts" / "model-last") == weights(tmp_path / "whole" / "model-last")


def test_beside_a_component_that_counts_in_numpy(settings, tmp_path):
    config = load_config(CONFIG, overrides=settings, interpolate=False)
    config["nlp"]["pipeline"] = ["bert_crf", "ner"]
    config["components"]["ner"] = {"factory": "ner"}
    config["training"]["max_epochs"] = 1
    assert train(config, tmp_path / "out")["epochs"][0]["losses"]["ner"] > 0


def test_the_pipeline_of_a_training_finds_entities(settings, tmp_path):
    settings |= {"training.max_epochs": 60, "training.dropout": 0.0}
    settings["training.optimizer.decay"] = "constant"
    run(settings, tmp_path / "out")
    nlp = spacy.load(tmp_path / "out" / "model-best")
    want = [entities(eg.reference) for eg in make_examples(nlp)]
    assert [entities(doc) for doc in nlp.pipe(text for text, _ in TEXTS)] == want


def test_a_gpu_that_is_not_there_is_named(settings, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(BertCrfError, match="gpu_id 0 can't be used"):
        run(settings, tmp_path / "out", use_gpu=0)
    assert not (tmp_path / "out").exists()


def test_patience_ends_it(settings, tmp_path):
    settings |= {"training.patience": 4, "training.max_epochs": 0}
    history = train(made(settings, scores=[0.5] * 9), tmp_path / "out")
    assert history["best_epoch"] == 1 and 7 <= history["steps"] <= 9
