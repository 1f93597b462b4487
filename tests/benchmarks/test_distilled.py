"""The table of students and their teacher, on a toy."""

import json
import sys

import pytest
import spacy
from spacy.tokens import DocBin

from benchmarks.accuracy import distilled
from support.paths import CONFIG
from support.toys import make_examples


@pytest.mark.nightly
def test_it_trains_and_measures_each_once(trained_path, encoder_path, tmp_path, monkeypatch):
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "docs.spacy")
    words = ["--teacher", trained_path, "--config", CONFIG, "--dev", tmp_path / "docs.spacy"]
    words += [
        "--layers",
        1,
        "--inner-widths",
        0,
        8,
        "--encoder",
        encoder_path,
        "--repeats",
        1,
        "--threads",
        1,
    ]
    words += ["--set", f"paths.train={tmp_path / 'docs.spacy'}", "--set", "training.max_epochs=1"]
    words += ["--set", "components.bert_crf.scheme=BIO"]
    words += ["--work", tmp_path / "work", "--output", tmp_path / "table"]
    monkeypatch.setattr(sys, "argv", ["distilled", *map(str, words), "--ways", "gold"])
    assert distilled.main() == 0
    rows = json.loads((tmp_path / "table.json").read_text(encoding="utf8"))["rows"]
    assert [(row["way"], row["layers"], row["inner_width"]) for row in rows] == [
        ("teacher", 0, 0), ("gold", 1, 0), ("gold", 1, 8),
    ]  # fmt: skip
    assert rows[1]["parameters"] > rows[2]["parameters"]
    assert rows[0]["f"]["float32"] == 1.0 and rows[0]["parameters"] > rows[1]["parameters"]
    for row in rows:
        assert set(row["speed"]) == {"float32, 1", "float32, 2", "int8, 1", "int8, 2"}
        assert min(row["speed"].values()) > 0
    text = (tmp_path / "table.md").read_text(encoding="utf8")
    assert "| the teacher | all | all |" in text
    assert "| the teacher's layers, gold only | 1 | 8 |" in text
    # What is there is not trained again.
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], "distilled", "gold"])
    trained = []
    train = distilled.train
    monkeypatch.setattr(distilled, "train", lambda *job: trained.append(job[1]) or train(*job))
    assert distilled.main() == 0 and trained == ["distilled", "distilled"]


def test_f1_without_speed_is_that_with_speed(trained_path, tmp_path):
    examples = make_examples(spacy.blank("zh"))
    DocBin(docs=[eg.reference for eg in examples]).to_disk(tmp_path / "docs.spacy")
    job = (trained_path, tmp_path / "docs.spacy", 4)
    alone = distilled.measure(*job, 0, -1)
    timed = distilled.measure(*job, 1, -1)
    assert alone["f"] == timed["f"] and set(alone["f"]) == {"float32", "int8"}
    assert alone["parameters"] == timed["parameters"] > 0
    assert not alone["speed"] and len(timed["speed"]) == 4
