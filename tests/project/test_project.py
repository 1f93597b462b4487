"""The project, run as people run it, on a copy of the checkout and small settings."""

import functools
import http.server
import json
import os
import subprocess
import sys
import tarfile
import threading

import pytest
import srsly

from support.paths import ROOT
from support.projects import run


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
