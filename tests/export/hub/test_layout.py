"""The folder of a repository, for the hub and for ModelScope, written by the command."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import spacy
import yaml

from spacy_bert_crf.annotation.docbin import DocBinWriter
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.hub.card_data import check_card
from support.commands import cli
from support.hub import card_errors
from support.toys import TEXTS, entities, make_examples, randomise_head

ABOUT = "name: toy\nversion: '1.2.3'\nauthor: us\nlicense: MIT\nlicense_file: LICENSE\n"


@pytest.fixture(scope="module")
def work(trained_path, tmp_path_factory):
    """A folder with a pipeline, its export, annotated docs, and what its maker says."""
    folder = tmp_path_factory.mktemp("work")
    nlp = spacy.load(trained_path)
    shutil.copytree(trained_path, folder / "model-best")
    export_pipeline(nlp, folder / "export")
    docs = DocBinWriter()
    for example in make_examples(nlp):
        docs.add(example.reference)
    (folder / "test.spacy").write_bytes(docs.to_bytes())
    (folder / "LICENSE").write_text("Do as you please.", encoding="utf8")
    (folder / "package.yml").write_text(ABOUT, encoding="utf8")
    epoch = {"epoch": 1, "loss": 1.0, "score": 0.5, "seconds": 3.0}
    history = {"epochs": [epoch], "best_epoch": 1, "seconds": 90.0, "seed": 0}
    (folder / "history.json").write_text(json.dumps(history), encoding="utf8")
    return folder


@pytest.fixture(scope="module")
def written(work):
    """What `push --dry-run` wrote and printed, with wheel and export."""
    pytest.importorskip("build")
    output = cli(
        "push", work / "model-best", "us/zh_toy", "--about", work / "package.yml",
        "--data", work / "test.spacy", "--export", work / "export", "--dry-run", work / "hub",
    )  # fmt: skip
    return work / "hub", output


def test_the_folder_is_complete_and_loads(written, trained_path):
    folder, output = written
    assert "Nothing was uploaded" in output
    names = {path.name for path in folder.iterdir()}
    assert {
        ".gitattributes", "README.md", "calibration.svg", "meta.json", "config.cfg", "bert_crf",
        "tokenizer", "vocab", "LICENSE", "LICENSES_SOURCES", "export",
        "zh_toy-1.2.3-py3-none-any.whl",
    } == names  # fmt: skip
    assert (folder / "export" / "best_model.pt").is_file()
    nlp, text = spacy.load(folder), TEXTS[0][0]
    assert entities(nlp(text)) == entities(spacy.load(trained_path)(text)) != []
    assert nlp.meta["name"] == "toy" and nlp.meta["performance"]["ents_per_type"]["PER"]["f"] == 1.0


def test_git_keeps_large_files_apart(written):
    """Weights, wheel and strings go by LFS; what a person reads does not."""
    folder, _ = written
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    names = ["bert_crf/model", "export/best_model.pt", "zh_toy-1.2.3-py3-none-any.whl"]
    names += ["vocab/strings.json", "README.md", "meta.json"]
    subprocess.run(["git", "init", "-q", folder], check=True)
    words = ["git", "-C", folder, "check-attr", "filter", "--", *names]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    shutil.rmtree(folder / ".git")
    found = dict(line.split(": filter: ") for line in done.stdout.splitlines())
    assert [name for name in names if found[name] == "lfs"] == names[:4]


def test_the_card_has_metadata_figures_and_ways_to_use_it(written):
    folder, _ = written
    card = (folder / "README.md").read_text(encoding="utf8")
    data = check_card(card)
    assert not card_errors(card) and data["license"] == "mit" and data["language"] == ["zh"]
    (result,) = data["model-index"][0]["results"]
    assert result["dataset"]["name"] == "test.spacy" and len(result["metrics"]) == 3 + 3 * 3
    for text in (
        "| PER | 100.00 | 100.00 | 100.00 | ", "![Share of right entities", "| missed | 0 |",
        "The training took 90 seconds.", 'spacy.load(snapshot_download("us/zh_toy"))',
        'torch.load("export/best_model.pt"', "`zh_toy-1.2.3-py3-none-any.whl` is the same",
    ):  # fmt: skip
        assert text in card, text
    assert (folder / "calibration.svg").read_text(encoding="utf8").startswith("<svg")


def test_the_layout_of_modelscope(work):
    words = ["push", work / "model-best", "us/zh_toy", "--about", work / "package.yml"]
    folder = work / "scope"
    output = cli(*words, "--no-wheel", "--to", "modelscope", folder)
    assert "Nothing was uploaded" in output and spacy.load(folder).meta["lang"] == "zh"
    configuration = json.loads((folder / "configuration.json").read_text(encoding="utf8"))
    assert configuration == {"framework": "pytorch", "task": "named-entity-recognition"}
    _, front, body = (folder / "README.md").read_text(encoding="utf8").split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["tasks"] == ["named-entity-recognition"] and data["license"] == "MIT License"
    assert data["frameworks"] == ["pytorch"] and data["backbone"] == ["bert"]
    assert body.startswith("\n# zh_toy\n") and "from modelscope import snapshot_download" in body
    assert "takes modelscope" in cli(*words, "--to", "elsewhere", folder, code=1)


def test_exports_of_other_weights_are_refused(work, tmp_path):
    nlp = spacy.load(work / "model-best")
    randomise_head(nlp)
    export_pipeline(nlp, tmp_path / "export")
    words = ["push", work / "model-best", "us/toy", "--no-wheel", "--dry-run", tmp_path / "hub"]
    assert "other weights" in cli(*words, "--export", tmp_path / "export", code=1)
    assert "no best_model.json" in cli(*words, "--export", work / "model-best", code=1)
    assert not (tmp_path / "hub").exists()


def test_a_folder_with_other_files_is_not_replaced(work, tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf8")
    words = ["push", work / "model-best", "us/toy", "--no-wheel", "--dry-run", tmp_path]
    assert "name a new one" in cli(*words, code=1)
    assert os.listdir(tmp_path) == ["mine.txt"]


# The card alone


def test_the_command_writes_a_card_and_a_picture(work, tmp_path):
    cli("evaluate", work / "model-best", work / "test.spacy", "--intervals",
        "--output", tmp_path / "metrics.json")  # fmt: skip
    words = ["card", work / "model-best", "--output", tmp_path / "card" / "README.md"]
    output = cli(*words, "--metrics", tmp_path / "metrics.json")
    card = (tmp_path / "card" / "README.md").read_text(encoding="utf8")
    assert (tmp_path / "card" / "calibration.svg").is_file() and "calibration.svg" in output
    assert "95 % interval" in card and f'spacy.load("{(work / "model-best").as_posix()}")' in card
    assert "license is empty" in output and "license" not in check_card(card)
    # What the docs measure is not mixed with what was read.
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf8"))
    metrics |= {"ents_f": 0.123, "data": "other.spacy", "seconds": 30.0}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf8")
    cli(*words, "--metrics", tmp_path / "metrics.json", "--data", work / "test.spacy",
        "--repo", "us/toy")  # fmt: skip
    card = (tmp_path / "card" / "README.md").read_text(encoding="utf8")
    assert "other.spacy" not in card and "12.30" not in card and "took 30 seconds" in card
    assert 'snapshot_download("us/toy")' in card


def test_a_card_of_nothing_but_the_pipeline(work, tmp_path):
    output = cli("card", work / "model-best", "--output", tmp_path / "README.md")
    card = (tmp_path / "README.md").read_text(encoding="utf8")
    assert "give --metrics or --data" in output
    assert "## Calibration" not in card and "## Errors" not in card
    assert not (tmp_path / "calibration.svg").exists()


def test_other_files_are_not_replaced_by_a_card(work, tmp_path):
    file = tmp_path / "README.md"
    file.write_text("# Mine\n", encoding="utf8")
    words = ["card", work / "model-best", "--output"]
    assert "--force" in cli(*words, file, code=1) and file.read_text(encoding="utf8") == "# Mine\n"
    assert "must be an .md file" in cli(*words, tmp_path / "card.txt", code=1)
    cli(*words, file, "--force")
    assert "library_name: spacy" in file.read_text(encoding="utf8")
    cli(*words, file)


def test_a_reliability_of_something_else_is_named(work, tmp_path):
    metrics = {"reliability": {"bins": [{"low": 0}], "entities": 3, "ece": 0.1}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf8")
    words = ["card", work / "model-best", "--metrics", tmp_path / "metrics.json"]
    assert "no 'high'" in cli(*words, "--output", tmp_path / "card.md", code=1)


def test_the_command_contacts_nobody(work):
    """A dry run needs no token, and opens no connection."""
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('a connection')\n"
        "socket.socket.connect = refuse\n"
        "from spacy_bert_crf.cli import cli\n"
        "cli(sys.argv[1:])\n"
    )
    words = ["push", "model-best", "us/toy", "--no-wheel", "--dry-run", "quiet"]
    env = {k: v for k, v in os.environ.items() if k != "HF_TOKEN"}
    root = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=work, capture_output=True, text=True,
        env={**env, "PYTHONPATH": root, "HF_HOME": str(work / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (work / "quiet" / "README.md").is_file()
