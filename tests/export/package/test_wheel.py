"""The wheel of a pipeline: what is in it, and that it loads by name."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest
from thinc.api import Config

from support.commands import cli
from support.paths import ROOT
from support.toys import TEXTS

pytest.importorskip("build")
ABOUT = """
name: toy
version: "1.2.3"
description: Names in a toy's texts
author: us
license: MIT
license_file: LICENSE
limits: [It is a toy.]
"""


@pytest.fixture(scope="module")
def made(trained_path, tmp_path_factory):
    """The folder of a toy, with the traces that work leaves, and what the command made of it."""
    folder = tmp_path_factory.mktemp("work")
    model = folder / "model-best"
    shutil.copytree(trained_path, model)
    (model / "state").mkdir()
    (model / "state" / "weights").write_bytes(b"of a training")
    (model / "notes.txt").write_text("mine", encoding="utf8")
    config = Config().from_disk(model / "config.cfg", interpolate=False)
    config["paths"] |= {"train": str(folder / "train.spacy"), "dev": r"C:\Users\me\dev.spacy"}
    config["components"]["bert_crf"]["model"]["tok2vec"]["name"] = str(folder / "encoder")
    config.to_disk(model / "config.cfg", interpolate=False)
    (folder / "LICENSE").write_text("Do as you please.", encoding="utf8")
    (folder / "package.yml").write_text(ABOUT, encoding="utf8")
    row = {"p": 1.0, "r": 1.0, "f": 1.0, "gold": 3}
    scores = {"ents_p": 1.0, "ents_r": 1.0, "ents_f": 1.0, "ents_per_type": {"PER": row}}
    (folder / "metrics.json").write_text(json.dumps(scores), encoding="utf8")
    output = cli(
        "package", model, folder / "packages", "--about", folder / "package.yml",
        "--metrics", folder / "metrics.json", "--card", folder / "card.md",
    )  # fmt: skip
    return folder, output


def test_the_wheel_has_the_pipeline_and_nothing_else(made):
    folder, output = made
    (wheel,) = (folder / "packages").iterdir()
    assert wheel.name == "zh_toy-1.2.3-py3-none-any.whl"
    assert str(wheel) in output and "no source of the training texts" in output
    data = "zh_toy/zh_toy-1.2.3/"
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    model = folder / "model-best"
    own = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    expected = (own - {"state/weights", "notes.txt"}) | {"README.md", "LICENSE", "LICENSES_SOURCES"}
    assert {name.removeprefix(data) for name in files if name.startswith(data)} == expected
    for name, content in files.items():
        assert str(folder).encode() not in content and b"Users" not in content, name
    config = Config().from_bytes(files[data + "config.cfg"])
    assert (config["paths"]["train"], config["paths"]["dev"]) == ("train.spacy", "dev.spacy")
    assert config["components"]["bert_crf"]["model"]["tok2vec"]["name"] == "encoder"
    card = (folder / "card.md").read_text(encoding="utf8")
    assert files[data + "README.md"].decode() == card and "- It is a toy." in card
    about = files["zh_toy-1.2.3.dist-info/METADATA"].decode()
    assert card.rstrip() in about and "Description-Content-Type: text/markdown" in about
    assert "Requires-Dist: spacy-bert-crf" in about and "Requires-Dist: spacy<" in about
    assert files["zh_toy-1.2.3.dist-info/licenses/LICENSE"] == b"Do as you please."


def test_it_loads_by_name_elsewhere(made, tmp_path):
    folder, _ = made
    (wheel,) = (folder / "packages").iterdir()
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "site"]
    subprocess.run([*pip, wheel], check=True)
    code = (
        "import json, spacy; nlp = spacy.load('zh_toy'); "
        f"print(json.dumps([[e.text for e in nlp({TEXTS[0][0]!r}).ents], nlp.meta]))"
    )
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    entities, meta = json.loads(done.stdout)
    assert entities == ["王小明", "北京", "清华大学"]
    assert meta["license"] == "MIT" and meta["performance"]["ents_per_type"]["PER"]["f"] == 1.0
    assert meta["spacy_bert_crf"]["card"]["limits"] == ["It is a toy."]


def test_a_missing_build_is_named(trained_path, tmp_path, monkeypatch):
    version = metadata.version

    def without(name):
        if name == "build":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    output = cli("package", trained_path, tmp_path / "packages", code=1)
    assert "pip install build" in output and not (tmp_path / "packages").exists()


def test_a_failing_build_says_why_and_leaves_nothing(trained_path, tmp_path, monkeypatch):
    from spacy_bert_crf.export.package import wheel

    monkeypatch.setattr(wheel, "_SETUP_CFG", "[metadata\n")
    output = cli("package", trained_path, tmp_path / "packages", "--name", "toy", code=1)
    assert "can't be built" in output and not (tmp_path / "packages").exists()


def test_options_replace_the_file_and_are_checked(trained_path, tmp_path):
    words = ["package", trained_path, tmp_path / "packages"]
    assert "'My Toy'" in cli(*words, "--name", "My Toy", code=1)
    assert "'first'" in cli(*words, "--version", "first", code=1)
    assert "none" in cli("package", tmp_path / "none", tmp_path, code=1)
