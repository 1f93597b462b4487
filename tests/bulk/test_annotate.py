"""A corpus is annotated by processes of this machine: once, in order, and again where it ended."""

import json
import os
import re

import pytest

from spacy_bert_crf import _files
from spacy_bert_crf.bulk import annotate as bulk_annotate
from spacy_bert_crf.bulk.annotate import annotate, plan_of
from spacy_bert_crf.bulk.job import Settings
from spacy_bert_crf.bulk.sources.read import Fields
from spacy_bert_crf.bulk.verify import verify
from spacy_bert_crf.errors import BertCrfError
from support import bulk
from support.commands import cli

ROWS = bulk.records(500)
SETTINGS = Settings(Fields(id="key", keep=("year",)), shard_rows=60)


@pytest.fixture(scope="module")
def ruler(tmp_path_factory):
    return bulk.write_ruler(tmp_path_factory.mktemp("bulk") / "ruler")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    bulk.write_jsonl(folder / "a.jsonl", ROWS[:130])
    bulk.write_jsonl(folder / "b.jsonl.gz", ROWS[130:])
    return folder


@pytest.fixture(scope="module")
def whole(ruler, corpus, tmp_path_factory):
    """The output of an undisturbed run."""
    output = tmp_path_factory.mktemp("whole")
    annotate(ruler, [corpus], output, settings=SETTINGS, workers=2)
    return output


def test_every_document_is_there_once_and_in_order(whole):
    rows = bulk.read_output(whole)
    assert [row["id"] for row in rows] == [row["key"] for row in ROWS]
    assert [row["year"] for row in rows] == [str(row["year"]) for row in ROWS]
    for found, row in zip(rows, ROWS, strict=True):
        spans = [(e["start"], e["end"], e["label"]) for e in found["entities"]]
        at = row["text"].index("Berlin")
        assert spans == [(0, 5, "ORG"), (at, at + 6, "LOC")]
    assert sorted(os.listdir(whole)) == ["annotate.json", "data"]


def test_the_numbers_are_told(ruler, corpus, tmp_path):
    made = annotate(ruler, [corpus], tmp_path, settings=SETTINGS, workers=1)
    characters = sum(len(row["text"]) for row in ROWS)
    assert made.done == (9, 500, 1000, characters, 0) and made.before == (0, 0, 0, 0, 0)
    assert made.set_apart == [] and made.quarantine is None
    made = annotate(ruler, [corpus], tmp_path, settings=SETTINGS, workers=1)
    assert made.before == (9, 500, 1000, characters, 0) and made.done == (0, 0, 0, 0, 0)


def test_bytes_do_not_depend_on_the_number_of_workers(ruler, corpus, whole, tmp_path):
    annotate(ruler, [corpus], tmp_path, settings=SETTINGS, workers=1, pin=True)
    assert bulk.shard_bytes(tmp_path) == bulk.shard_bytes(whole)


def test_only_what_is_missing_is_done_again(ruler, corpus, whole, tmp_path):
    annotate(ruler, [corpus], tmp_path, settings=SETTINGS, workers=1)
    names = sorted(bulk.shard_bytes(tmp_path))
    (tmp_path / "data" / names[3]).unlink()
    damaged = tmp_path / "data" / names[-1]
    damaged.write_bytes(damaged.read_bytes()[:100])
    (tmp_path / "data" / f".{names[3]}.abcdefgh.tmp").write_bytes(b"left by a killed run")
    made = annotate(ruler, [corpus], tmp_path, settings=SETTINGS, workers=1)
    assert (made.before.shards, made.done.shards) == (7, 2)
    assert bulk.shard_bytes(tmp_path) == bulk.shard_bytes(whole)


def test_what_is_complete_needs_no_pipeline(ruler, corpus, tmp_path, monkeypatch):
    annotate(ruler, [corpus], tmp_path, settings=SETTINGS, workers=1)
    monkeypatch.setattr(bulk_annotate.Job, "load", lambda job: pytest.fail("it was loaded"))
    annotate(ruler, [corpus], tmp_path, settings=SETTINGS, workers=1)


def test_jobs_share_the_shards(ruler, corpus, whole, tmp_path):
    for job in range(3):
        made = annotate(ruler, [corpus], tmp_path, settings=SETTINGS, workers=1, shard=f"{job}/3")
        assert made.done.shards == 3
    assert bulk.shard_bytes(tmp_path) == bulk.shard_bytes(whole)


OTHER = {
    "another setting shard_rows: 60, and now 61": {"settings": Settings(SETTINGS.fields, 61)},
    "another setting output: 'parquet', and now 'jsonl'": {
        "settings": Settings(SETTINGS.fields, 60, output="jsonl")
    },
    "another setting fields.keep": {"settings": Settings(Fields(id="key"), 60)},
}


@pytest.mark.parametrize("difference", OTHER)
def test_another_setting_is_refused_or_redone(ruler, corpus, tmp_path, difference):
    annotate(ruler, [corpus], tmp_path, settings=SETTINGS, workers=1)
    before = bulk.shard_bytes(tmp_path)
    with pytest.raises(BertCrfError, match=f"{difference}.*--redo"):
        annotate(ruler, [corpus], tmp_path, workers=1, **OTHER[difference])
    assert bulk.shard_bytes(tmp_path) == before
    annotate(ruler, [corpus], tmp_path, workers=1, redo=True, **OTHER[difference])
    fresh = tmp_path / "fresh"
    annotate(ruler, [corpus], fresh, workers=1, **OTHER[difference])
    assert bulk.shard_bytes(tmp_path) == bulk.shard_bytes(fresh)


def test_another_pipeline_is_refused_or_redone(ruler, corpus, whole, tmp_path):
    other = bulk.write_ruler(tmp_path / "other", lang="de")
    output = tmp_path / "output"
    annotate(other, [corpus], output, settings=SETTINGS, workers=1)
    with pytest.raises(BertCrfError, match="made with another pipeline"):
        annotate(ruler, [corpus], output, settings=SETTINGS, workers=1)
    (output / "annotate.json").unlink()  # each shard knows its pipeline
    with pytest.raises(BertCrfError, match=r"000000-000000.parquet was made with another pipeline"):
        annotate(ruler, [corpus], output, settings=SETTINGS, workers=1)
    annotate(ruler, [corpus], output, settings=SETTINGS, workers=1, redo=True)
    assert bulk.shard_bytes(output) == bulk.shard_bytes(whole)


def test_changed_input_is_refused_or_redone(ruler, tmp_path):
    corpus, output = tmp_path / "corpus", tmp_path / "output"
    corpus.mkdir()
    file = bulk.write_jsonl(corpus / "a.jsonl", ROWS[:200])
    annotate(ruler, [corpus], output, settings=SETTINGS, workers=1)
    rows = [dict(row) for row in ROWS[:130]]
    rows[70]["text"] += " Berlin"
    bulk.write_jsonl(file, rows)
    with pytest.raises(BertCrfError, match="000000-000000.*made of other input.*a.jsonl:1"):
        annotate(ruler, [corpus], output, settings=SETTINGS, workers=1)
    annotate(ruler, [corpus], output, settings=SETTINGS, workers=1, redo=True)
    found = bulk.read_output(output)
    assert [row["id"] for row in found] == [row["key"] for row in rows]
    assert len(found[70]["entities"]) == 3


def test_a_file_that_was_changed_in_place_is_noticed(ruler, tmp_path):
    file = bulk.write_jsonl(tmp_path / "a.jsonl", ROWS[:200])
    output = tmp_path / "output"
    annotate(ruler, [file], output, settings=SETTINGS, workers=1)
    file.write_bytes(file.read_bytes().replace(b"number150", b"number159"))  # of the same size
    os.utime(file, (2**32, 2**32))
    with pytest.raises(BertCrfError, match="000000-000002.*made of other input"):
        annotate(ruler, [file], output, settings=SETTINGS, workers=1)


@pytest.mark.parametrize("output", ["parquet", "jsonl", "spacy"])
@pytest.mark.parametrize("per_entity", [False, True])
def test_verify_finds_what_is_wrong(ruler, corpus, tmp_path, output, per_entity):
    if output == "spacy" and per_entity:
        pytest.skip("no row for each entity")
    settings = Settings(SETTINGS.fields, 100, output=output, per_entity=per_entity)
    annotate(ruler, [corpus], tmp_path, settings=settings, workers=1)
    plan = plan_of(ruler, [corpus], tmp_path, settings)
    found = verify(*plan)
    assert not found.problems
    assert (found.rows, found.counts.documents, found.counts.shards) == (500, 500, 5)
    first, second, third, fourth, fifth = sorted((tmp_path / "data").iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-40])
    third.write_bytes(fourth.read_bytes())
    fifth.with_name(fifth.name.replace("000004", "000005")).write_bytes(fifth.read_bytes())
    found = verify(*plan)
    assert len(found.problems) == 4
    for problem, (path, what) in zip(
        found.problems,
        [(first, "missing"), (second, "damaged"), (third, "other input"), (fifth, "")],
        strict=True,
    ):
        assert path.name.replace("000004", "000005") in problem and what in problem


def test_a_full_disk_ends_the_run_and_the_next_goes_on(ruler, corpus, whole, tmp_path, monkeypatch):
    sync = _files._sync

    def full(path):
        if "000005" in path.name:
            raise OSError(28, "No space left on device", str(path))
        sync(path)

    monkeypatch.setattr(_files, "_sync", full)
    with pytest.raises(BertCrfError, match="000005.parquet: No space left on device"):
        annotate(ruler, [corpus], tmp_path, settings=SETTINGS, workers=2)
    done = bulk.shard_bytes(tmp_path)
    assert 0 < len(done) < 9 and not [name for name in done if name.startswith(".")]
    monkeypatch.undo()
    annotate(ruler, [corpus], tmp_path, settings=SETTINGS, workers=2)
    assert bulk.shard_bytes(tmp_path) == bulk.shard_bytes(whole)


def test_the_command_says_what_it_did(ruler, corpus, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b'{"key": "good", "text": "Apple"}\n{"key": "bad"\n')
    output = tmp_path / "output"
    words = ["annotate", ruler, corpus, bad, output, "--id-field", "key", "-w", 1]
    text = cli(*words)
    assert "501 documents, 1,001 entities" in text and "1 set apart" in text
    [line] = (output / "quarantine.jsonl").read_text(encoding="utf8").splitlines()
    assert json.loads(line)["where"].endswith("bad.jsonl:2")
    text = cli(*words, "--strict", code=1)
    assert "501 documents were done before" in text and "0 documents" in text
    text = cli(*words, "--verify")
    assert "502 rows in SRC; 501 documents and 1 set apart" in text
    assert "every row is there once" in text
    next((output / "data").iterdir()).unlink()
    assert "missing" in cli(*words, "--verify", code=1)
    assert "use --redo" in cli(*words, "--to", "jsonl", code=1)


WRONG = {
    "there is no pipeline nothing": ["nothing", "corpus", "out"],
    "there is no .*missing": ["ruler", "missing", "out"],
    "'tables' is not known": ["ruler", "corpus", "out", "--rows", "tables"],
    "'xml' is not known": ["ruler", "corpus", "out", "--to", "xml"],
    "--rows entities is not known of spacy": [
        *("ruler", "corpus", "out", "--to", "spacy", "--rows", "entities"),
    ],
    "--shard-rows is 0": ["ruler", "corpus", "out", "--shard-rows", 0],
    "--shard '5/2' is not I/N": ["ruler", "corpus", "out", "--shard", "5/2"],
    "--memory-limit 'much' is no size": ["ruler", "corpus", "out", "--memory-limit", "much"],
    "'mpi' is not known": ["ruler", "corpus", "out", "--engine", "mpi"],
    "--keep entities": ["ruler", "corpus", "out", "--keep", "entities"],
    "need a component bert_crf": ["ruler", "corpus", "out", "--scores"],
    "out is a file": ["ruler", "corpus", "file/out"],
    "there is no .*annotate.json": ["ruler", "corpus", "out", "--verify"],
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_one_message(ruler, corpus, tmp_path, message):
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "out").write_text("a file")
    places = {"ruler": ruler, "corpus": corpus, "nothing": "nothing"}
    words = [
        places.get(word, tmp_path / word if number < 3 else word)
        for number, word in enumerate(WRONG[message])
    ]
    assert re.search(message, cli("annotate", *words, code=1))
