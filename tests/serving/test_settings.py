"""Settings of a server: names of pipelines, hosts, cores, token."""

import pytest

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.serving.batcher import BatchLimits
from spacy_bert_crf.serving.server import named_pipelines, read_token
from spacy_bert_crf.serving.settings import RequestLimits, ServerSettings, usable_cores


def test_pipelines_have_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "training" / "news" / "model-best").mkdir(parents=True)
    (tmp_path / "a=b").mkdir()
    found = named_pipelines(["training/news/model-best", "zh=training/x", "y/z", "a=b"])
    assert list(found) == ["news", "zh", "z", "a=b"]
    assert [str(path) for path in found.values()] == [
        "training/news/model-best", "training/x", "y/z", "a=b",
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", [["a=x", "a=y"], ["=x"], ["a="]])
def test_names_must_be_there_and_differ(arguments):
    with pytest.raises(BertCrfError, match="NAME=PIPELINE"):
        named_pipelines(arguments)


def test_a_local_server_answers_to_its_own_names_only():
    assert "localhost" in ServerSettings().allowed_hosts
    assert ServerSettings(host="0.0.0.0").allowed_hosts == ()
    assert ServerSettings(hosts=("a.example",)).allowed_hosts == ("a.example",)


def test_settings_that_can_not_be_are_refused():
    with pytest.raises(BertCrfError, match="--max-texts 2"):
        ServerSettings(requests=RequestLimits(texts=3), batches=BatchLimits(queue_texts=2))
    with pytest.raises(BertCrfError, match="token must be printable"):
        ServerSettings(token="秘密")


def test_a_token_is_read_from_a_file(tmp_path):
    path = tmp_path / "token"
    with pytest.raises(BertCrfError, match="can't read the token"):
        read_token(path)
    path.write_text("\n", encoding="utf8")
    with pytest.raises(BertCrfError, match="is empty"):
        read_token(path)
    path.write_text("secret\n", encoding="utf8")
    assert read_token(path) == "secret"


def test_cores_of_a_container_are_counted(tmp_path, monkeypatch):
    import os

    cores = set(range(8))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores, raising=False)
    assert usable_cores(tmp_path) == 8
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path) == 8
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert usable_cores(tmp_path) == 2
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cores(tmp_path) == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == 3
