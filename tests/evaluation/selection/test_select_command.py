"""`bert-crf select`: kinds of input, what it prints and writes, and bad input."""

import json

import pytest
import spacy
from spacy.tokens import DocBin

from support.commands import cli
from support.toys import TEXTS

KNOWN = [text for text, _ in TEXTS]


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join([*KNOWN, "", KNOWN[0]]) + "\n", encoding="utf8")
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


def test_texts_of_a_file_are_chosen(trained_path, texts, tmp_path):
    out = tmp_path / "tasks.jsonl"
    said = cli("select", trained_path, texts, "-n", 3, "--output", out)
    assert f"wrote {out}" in said and "equal to another text" in said
    found = lines(out)
    assert len(found) == 3
    for record in found:
        number = int(record["where"].removeprefix("texts.txt:"))
        assert record["text"] == KNOWN[number - 1] and record["predicted"] is True
    again = tmp_path / "again.jsonl"
    cli("select", trained_path, texts, "-n", 3, "--output", again)
    assert again.read_bytes() == out.read_bytes()


def test_what_was_given_out_or_annotated_is_excluded(trained_path, texts, tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.jsonl"
    cli("select", trained_path, texts, "-n", 3, "--to", "label-studio", "--output", first)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"text": KNOWN[3], "label": []}) + "\n", encoding="utf8")
    words = ["--exclude", first, "--exclude", corpus, "--near", 1]
    cli("select", trained_path, texts, "-n", 50, *words, "--output", second)
    tasks = json.loads(first.read_text(encoding="utf8"))
    given = {task["data"]["text"] for task in tasks}
    assert {record["text"] for record in lines(second)} == set(KNOWN) - given - {KNOWN[3]}


def test_json_lines_and_docs_are_read(trained_path, tmp_path):
    rows = [{"key": f"k{i}", "body": text} for i, text in enumerate(KNOWN)]
    source = tmp_path / "rows.jsonl"
    written = [json.dumps(row, ensure_ascii=False) for row in rows]
    source.write_text("\n".join([*written, "{", '{"key": "x"}']), encoding="utf8")
    out = tmp_path / "tasks.jsonl"
    words = ["--text-field", "body", "--id-field", "key", "--characters", 40]
    said = cli("select", trained_path, source, *words, "--to", "doccano", "-o", out)
    found = lines(out)
    assert 0 < sum(len(record["text"]) for record in found) <= 40
    assert all(record["text"] == KNOWN[int(record["where"][1:])] for record in found)
    assert said.count("not read: ") == 2 and "rows.jsonl:9" in said

    docs = tmp_path / "docs.spacy"
    DocBin(docs=[spacy.blank("zh")(text) for text in KNOWN]).to_disk(docs)
    cli("select", trained_path, docs, "-n", 2, "--to", "prodigy", "-o", out)
    assert [record["meta"]["where"][:11] for record in lines(out)] == ["docs.spacy:"] * 2


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--to", "paper"], "--to can't be 'paper'"),
        (["--by", "luck"], "--by can't be 'luck'"),
        (["-n", 0], "--number must be at least 1"),
        (["--exclude", "missing.jsonl"], "missing.jsonl"),
        (["--component", "other"], "no bert_crf component 'other'"),
        (["--id-field", "key"], "lines without fields"),
    ],
)
def test_bad_settings_end_with_one_message(trained_path, texts, tmp_path, words, match):
    out = tmp_path / "tasks.jsonl"
    said = cli("select", trained_path, texts, "--output", out, *words, code=1)
    assert match in said and said.startswith("✘") and not out.exists()


def test_missing_texts_and_pipelines_are_named(trained_path, texts, tmp_path):
    out = tmp_path / "tasks.jsonl"
    assert "no.txt" in cli("select", trained_path, tmp_path / "no.txt", "-o", out, code=1)
    assert "no-pipeline" in cli("select", tmp_path / "no-pipeline", texts, "-o", out, code=1)
    assert not out.exists()
