"""The benchmark of silver annotation, on a toy."""

import json
import sys

import pytest
import spacy
from spacy.tokens import DocBin

from benchmarks.accuracy import silver
from support.toys import TEXTS, make_examples


@pytest.mark.nightly
def test_it_trains_on_gold_on_silver_and_on_each_source(encoder_path, tmp_path, monkeypatch):
    docs = [example.reference for example in make_examples(spacy.blank("zh"))]
    DocBin(docs=docs).to_disk(tmp_path / "docs.spacy")
    for name, label in (("a", "ORG"), ("b", "LOC")):  # each lacks one label
        records = [
            {"text": text, "entities": [span for span in spans if span[2] != label],
             "covers": ["LOC", "ORG", "PER"]}
            for text, spans in TEXTS
        ]  # fmt: skip
        lines = [json.dumps(record) + "\n" for record in records]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf8")
    words = ["--encoder", encoder_path, "--train", tmp_path / "docs.spacy"]
    words += ["--dev", tmp_path / "docs.spacy", "--epochs", 1, "--threads", 1]
    words += [
        "--source",
        f"file:{tmp_path / 'a.jsonl'}",
        "--source",
        f"file:{tmp_path / 'b.jsonl'}",
    ]
    words += ["--only", silver.SILVER, "--output", tmp_path / "table"]
    monkeypatch.setattr(sys, "argv", ["silver", *map(str, words)])
    assert silver.main() == 0
    found = json.loads((tmp_path / "table.json").read_text(encoding="utf8"))
    made = found["variants"][silver.SILVER]
    people = sum(span[2] == "PER" for _, spans in TEXTS for span in spans)
    total = sum(len(spans) for _, spans in TEXTS)
    assert made["entities"] == people and made["precision"] == 1.0
    assert made["recall"] == people / total and made["unknown"] > 0
    assert len(found["sides"][silver.SILVER]) == 1
    assert "silver, unknown" in (tmp_path / "table.md").read_text(encoding="utf8")
