"""Ray and Spark give what the processes of one machine give. Skipped where they are missing."""

import os
import pickle
import shutil
import sys
from dataclasses import replace

import pytest

from spacy_bert_crf.bulk.annotate import annotate, plan_of
from spacy_bert_crf.bulk.job import Settings
from spacy_bert_crf.bulk.shards import Share
from spacy_bert_crf.bulk.sources.read import Fields
from spacy_bert_crf.errors import BertCrfError
from support import bulk
from support.paths import ROOT

SETTINGS = Settings(Fields(id="key", keep=("year",)), shard_rows=60)
#: For the processes that Ray and Spark start. They also need what leads to Ray and Spark: a worker
#: of Ray that can't import Ray ends without a word, and Ray waits for it for ever.
PATH = os.pathsep.join(
    [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    return bulk.write_ruler(tmp_path_factory.mktemp("faulty") / "ruler", "toy_faults")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two files, in which one text kills its process and one raises an error."""
    folder, rows = tmp_path_factory.mktemp("corpus"), bulk.records(400)
    rows[33]["text"] += f" {bulk.RAISES}"
    bulk.write_jsonl(folder / "a.jsonl", rows[:100])
    rows[250]["text"] += f" {bulk.KILLS}"
    bulk.write_jsonl(folder / "b.jsonl.gz", rows[100:])
    return folder


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """Two files in which a text raises an error, and none ends its worker, which takes long."""
    folder, rows = tmp_path_factory.mktemp("calm"), bulk.records(400)
    rows[33]["text"] += f" {bulk.RAISES}"
    bulk.write_jsonl(folder / "a.jsonl", rows[:100])
    bulk.write_jsonl(folder / "b.jsonl.gz", rows[100:])
    return folder


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of this machine. It sends no statistics of its use."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray starts its workers with a niceness of 15: beside other work they would hardly run.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    ray.init(
        num_cpus=3, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": PATH}},
    )  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.mark.ray
def test_ray_writes_the_same_bytes(cluster, faulty, calm, tmp_path):
    options = {"settings": SETTINGS, "workers": 2, "code": bulk.CODE}
    annotate(faulty, [calm], tmp_path / "local", **options)
    made = annotate(faulty, [calm], tmp_path / "ray", engine="ray", **options)
    assert bulk.shard_bytes(tmp_path / "ray") == bulk.shard_bytes(tmp_path / "local")
    assert (made.done.documents, made.done.shards) == (399, 7)
    assert set(bulk.quarantine(tmp_path / "ray")) == {"d33"}
    assert bulk.quarantine(tmp_path / "ray") == bulk.quarantine(tmp_path / "local")
    for path in sorted((tmp_path / "ray" / "data").iterdir())[2:4]:
        path.unlink()
    made = annotate(faulty, [calm], tmp_path / "ray", engine="ray", **options)
    assert (made.before.shards, made.done.shards) == (5, 2)
    assert bulk.shard_bytes(tmp_path / "ray") == bulk.shard_bytes(tmp_path / "local")


@pytest.mark.ray
def test_an_error_in_an_actor_is_one_message(cluster, faulty, corpus, tmp_path):
    broken = shutil.copytree(faulty, tmp_path / "broken")
    (broken / "config.cfg").write_text("[nlp]\n")
    with pytest.raises(BertCrfError, match="can't load the pipeline .*broken"):
        annotate(
            broken, [corpus], tmp_path / "out", settings=SETTINGS, workers=1, engine="ray",
            code=bulk.CODE,
        )  # fmt: skip


def test_what_ray_runs_writes_the_same_bytes(faulty, corpus, tmp_path):
    """The task that reads and the actor that annotates, without Ray."""
    from spacy_bert_crf.bulk.engines import ray as engine
    from spacy_bert_crf.bulk.engines.pool import Limits

    options = {"settings": SETTINGS, "workers": 1, "code": bulk.CODE}
    made = annotate(faulty, [corpus], tmp_path / "local", **options)
    done = tmp_path / "ray" / "data" / "000000-000002.parquet"
    done.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "local" / "data" / done.name, done)
    shutil.copy(tmp_path / "local" / "annotate.json", tmp_path / "ray")
    job, parts = plan_of(faulty, [corpus], tmp_path / "ray", SETTINGS, bulk.CODE)
    packed = {"part": [pickle.dumps(part) for part in parts]}
    items = [item["item"][0] for item in engine._read(packed, job, Share(), False)]
    actor, finished = engine._Actor(job, Limits()), []
    with actor.pool:
        for item in items:
            finished += map(pickle.loads, actor({"item": [item]})["finished"])
        written = job.path("000000-000003").stat().st_mtime_ns
        again = pickle.loads(
            actor({"item": [items[3]]})["finished"][0]
        )  # of an actor that was lost
        assert again == finished[3] and job.path("000000-000003").stat().st_mtime_ns == written
    assert [is_new for is_new, _ in finished] == [True, True, False, True, True, True, True]
    assert sum(counts.documents for _, (_, counts, _, _) in finished) == made.done.documents
    apart = [each for _, (_, _, found, _) in finished for each in found]
    assert apart == made.set_apart and len(apart) == 2
    assert bulk.shard_bytes(tmp_path / "ray") == bulk.shard_bytes(tmp_path / "local")


def test_errors_of_tasks_and_actors_come_as_messages(faulty, tmp_path):
    from spacy_bert_crf.bulk.engines import ray as engine
    from spacy_bert_crf.bulk.engines.pool import Limits

    corpus, output = bulk.write_jsonl(tmp_path / "a.jsonl", bulk.records(100)), tmp_path / "out"
    annotate(faulty, [corpus], output, settings=SETTINGS, workers=1, code=bulk.CODE)
    job, parts = plan_of(faulty, [corpus], output, SETTINGS, bulk.CODE)
    job.path("000000-000001").unlink()
    bulk.write_jsonl(corpus, bulk.records(100, 5))
    packed = {"part": [pickle.dumps(part) for part in parts]}
    *_, last = engine._read(packed, job, Share(), False)
    assert "was made of other input" in pickle.loads(last["item"][0])
    broken = shutil.copytree(faulty, tmp_path / "broken")
    (broken / "config.cfg").write_text("[nlp]\n")
    new = replace(job, pipeline=str(broken), output=tmp_path / "new")
    first, *_ = engine._read(packed, new, Share(), False)
    actor = engine._Actor(new, Limits())
    with actor.pool:
        assert actor(last)["finished"] == last["item"]
        [answer] = actor(first)["finished"]
    assert "can't load the pipeline" in pickle.loads(answer)


def test_without_ray_the_message_says_what_to_install(faulty, corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BertCrfError, match=r'pip install "spacy-bert-crf\[ray\]"'):
        annotate(faulty, [corpus], tmp_path, settings=SETTINGS, engine="ray", code=bulk.CODE)


@pytest.fixture(scope="module")
def spark():
    """Spark in this process (local mode)."""
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    session = (
        sql.SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", False)
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.executorEnv.PYTHONPATH", PATH)
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", 50)
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.mark.spark
def test_spark_finds_the_same_entities(spark, faulty, corpus, tmp_path):
    from spacy_bert_crf import annotate_frame

    rows = bulk.records(200)
    rows[33]["text"] += f" {bulk.RAISES}"
    rows[34]["text"] = None
    bulk.write_jsonl(tmp_path / "a.jsonl", rows)
    output = tmp_path / "local"
    annotate(faulty, [tmp_path / "a.jsonl"], output, settings=SETTINGS, workers=1, code=bulk.CODE)
    frame = spark.createDataFrame(rows, "key string, text string, year int").repartition(3)
    done = annotate_frame(frame, faulty, keep=["key", "year"], code=bulk.CODE)
    assert done.columns == ["key", "year", "entities", "error"]
    found = {row["key"]: row for row in done.collect()}
    assert len(found) == 200
    local = {row["id"]: row for row in bulk.read_output(output)}
    for row in rows:
        ours, theirs = found[row["key"]], local.get(row["key"])
        assert ours["year"] == row["year"]
        if theirs is None:
            assert ours["entities"] is None and ours["error"]
        else:
            assert [entity.asDict() for entity in ours["entities"]] == theirs["entities"]
            assert ours["error"] is None
    assert found["d33"]["error"] == "ValueError: raised as requested"
    assert found["d34"]["error"] == "it has no text"


@pytest.mark.spark
def test_a_wrong_column_is_an_error(spark, faulty):
    from spacy_bert_crf import annotate_frame

    frame = spark.createDataFrame([("a", "b")], "key string, entities string")
    with pytest.raises(BertCrfError, match="no column 'text', only key, entities"):
        annotate_frame(frame, faulty)
    with pytest.raises(BertCrfError, match="has a column 'entities': rename it"):
        annotate_frame(frame, faulty, text_field="key")


def test_batches_of_pandas_are_annotated(faulty):
    """The function of `mapInPandas`, without Spark."""
    pandas = pytest.importorskip("pandas")
    from spacy_bert_crf.bulk.engines.spark import annotate_batches

    texts = ["in Berlin", None, "", f"Apple {bulk.RAISES}"]
    frame = pandas.DataFrame({"text": texts, "n": range(4)}, index=[5, 6, 7, 8])
    [found] = annotate_batches(iter([frame]), str(faulty), keep=["n"], code=bulk.CODE)
    assert list(found.columns) == ["n", "entities", "error"]
    assert found["entities"].tolist()[0] == [
        {"start": 3, "end": 9, "label": "LOC", "text": "Berlin"}
    ]
    assert found["entities"].tolist()[2] == []
    assert found["error"].tolist() == [
        None, "it has no text", None, "ValueError: raised as requested",
    ]  # fmt: skip
