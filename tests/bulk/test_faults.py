"""Texts that kill or stall a worker are found and set apart, and nothing else is lost."""

import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reliability.interrupts import annotation
from spacy_bert_crf.bulk.annotate import annotate
from spacy_bert_crf.bulk.engines.case import Case, Outcome
from spacy_bert_crf.bulk.job import Settings
from spacy_bert_crf.bulk.rows import Row
from spacy_bert_crf.bulk.shards import Shard
from spacy_bert_crf.bulk.sources.read import Fields
from spacy_bert_crf.errors import BertCrfError
from support import bulk

SETTINGS = Settings(Fields(id="key"), shard_rows=60)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """A pipeline with a component that hangs, dies and takes memory where a text requests it."""
    return bulk.write_ruler(tmp_path_factory.mktemp("faulty") / "ruler", "toy_faults")


def run(pipeline, corpus, output, **options):
    return annotate(
        pipeline, [corpus], output, settings=SETTINGS, workers=2, code=bulk.CODE, **options
    )


def test_bad_texts_are_set_apart_with_the_reason(faulty, tmp_path):
    rows = bulk.records(200)
    bad = {"d20": bulk.KILLS, "d70": bulk.HANGS, "d130": bulk.GROWS, "d131": bulk.RAISES}
    for row in rows:
        row["text"] += " " + bad.get(row["key"], "")
    rows[150]["text"] = "Apple " + "x " * 449_997  # 900,000 characters
    rows[151]["text"], rows[152]["text"] = "", "🍏🍎👩‍👩‍👧"
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    bulk.write_jsonl(corpus / "a.jsonl", rows)
    with (corpus / "a.jsonl").open("ab") as file:
        file.write(b'{"key": "\xff"}\n')
    cut = bulk.write_jsonl(corpus / "b.jsonl.gz", bulk.records(10, 900)).read_bytes()
    (corpus / "b.jsonl.gz").write_bytes(cut[:-20])
    pq.write_table(pa.table({"key": ["p1"], "body": ["in Berlin"]}), corpus / "c.parquet")
    output = tmp_path / "output"
    made = run(faulty, corpus, output, memory_limit=1200 * 2**20, time_limit=3)
    reasons = bulk.quarantine(output)
    assert {"a.jsonl:201", "b.jsonl.gz", "c.parquet"} | set(bad) == set(reasons)
    assert reasons["d20"] == "its process ended with status 7"
    assert reasons["d70"] == "it took longer than 3 seconds"
    assert "MiB of memory, and the limit is 1,200 MiB" in reasons["d130"]
    assert reasons["d131"] == "ValueError: raised as requested"
    assert "UTF-8" in reasons["a.jsonl:201"] and "Truncated" in reasons["b.jsonl.gz"]
    assert "no column 'text'" in reasons["c.parquet"]
    found = bulk.read_output(output)
    wanted = [row["key"] for row in rows if row["key"] not in bad]
    assert [row["id"] for row in found][: len(wanted)] == wanted
    assert [each.id for each in made.set_apart] == list(reasons)
    by_id = {row["id"]: row["entities"] for row in found}
    assert by_id["d150"] == [{"start": 0, "end": 5, "label": "ORG", "text": "Apple"}]
    assert by_id["d151"] == by_id["d152"] == []


def drive(case, is_deadly):
    """Run the tasks of a case. RETURNS how many rows were read in all."""
    tasks, read = case.tasks(), 0
    task = next(tasks)
    while True:
        order = task.indices
        if order is None:
            order = [n for n in range(len(task.shard.rows)) if n not in task.excluded]
        death, done = "", 0
        for done, index in enumerate(order):  # noqa: B007
            read += 1
            if is_deadly(index, task):
                death = "it died"
                break
        else:
            done = len(order)
        try:
            task = tasks.send(Outcome(done, death))
        except StopIteration:
            return read


def shard_of(count):
    # All of one length, so that they are read in their order.
    return Shard(0, 0, "", [Row(f"{n}", f"text {n:04d}", "", {}) for n in range(count)])


@pytest.mark.parametrize("guilty", [set(), {0}, {999}, {3, 4, 500}, set(range(0, 1000, 200))])
def test_every_deadly_text_is_found(guilty):
    case = Case(shard_of(1000))
    read = drive(case, lambda index, task: index in guilty)
    assert set(case.excluded) == guilty
    assert read <= 1000 * (2 + 2 * len(guilty))


def test_a_worker_that_is_killed_once_is_not_blamed_on_a_text():
    case, deaths = Case(shard_of(100)), iter([5, 17, 3])
    countdown = [next(deaths)]

    def killed(index, task):
        countdown[0] -= 1
        if countdown[0] == 0:
            countdown[0] = next(deaths, 10**9)
            return True
        return False

    drive(case, killed)
    assert case.excluded == {}


def test_texts_that_kill_only_together_are_read_one_by_one():
    case = Case(shard_of(100))
    drive(case, lambda index, task: index == 50 and task.indices is None and not task.one_by_one)
    assert case.excluded == {}


def test_a_shard_that_kills_without_a_guilty_text_is_an_error():
    with pytest.raises(BertCrfError, match="again and again, and no single text is to blame"):
        drive(Case(shard_of(100)), lambda index, task: index == 50 and task.indices is None)


def test_a_pipeline_that_kills_every_worker_is_an_error(faulty, tmp_path, monkeypatch):
    from spacy_bert_crf.bulk.engines import local

    monkeypatch.setattr(local, "_loaded", lambda nlp: os._exit(3))
    bulk.write_jsonl(tmp_path / "a.jsonl", bulk.records(10))
    with pytest.raises(BertCrfError, match="can't be started: its process ended with status 3"):
        run(faulty, tmp_path / "a.jsonl", tmp_path / "output")


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
def test_kills_lose_and_double_nothing(tmp_path):
    annotation.prepare(tmp_path, 1500)
    made = annotation.kill_again_and_again(tmp_path, 4, seed=22)
    assert made["bad"] == []
    assert made["kills"] >= 3 and made["parents"] and made["starts"] > made["parents"]
