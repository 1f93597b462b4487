"""An upload to a hub on this machine, and what a fresh process gets from there."""

import json
import os
import subprocess
import sys
from functools import partial

import pytest
import spacy
from huggingface_hub import constants

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.hub.push import check_repo_id, find_token, push_folder
from support.commands import cli
from support.hub import TOKEN, running_hub
from support.paths import ROOT
from support.toys import TEXTS, characters

NAME = "us/zh_names"
CODE = """
import json, sys, spacy
from huggingface_hub import snapshot_download
nlp = spacy.load(snapshot_download(sys.argv[1], revision=sys.argv[2]))
print(json.dumps([[[e.start_char, e.end_char, e.label_] for e in doc.ents]
                  for doc in nlp.pipe(json.loads(sys.argv[3]))]))
"""


@pytest.fixture
def hub():
    with running_hub() as hub:
        yield hub


@pytest.fixture(autouse=True)
def no_login(tmp_path, monkeypatch):
    """No token of the machine's own user is found."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture
def folder(tmp_path):
    """A small folder of a repository."""
    files = {"config.cfg": "[nlp]\n", "meta.json": "{}", "README.md": "---\nlicense: mit\n---\n"}
    files |= {"bert_crf/model": "w" * 2000, "bert_crf/cfg": "{}", "vocab/key2row": ""}
    for name, text in files.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf8")
    return tmp_path / "folder"


def downloaded(hub, revision, texts, cache):
    """The entities of the uploaded pipeline, in a process of its own."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", CODE, NAME, revision, json.dumps(texts)]
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=cache.parent)
    assert done.returncode == 0, done.stderr
    return [[tuple(span) for span in spans] for spans in json.loads(done.stdout)]


def test_a_fresh_process_gets_the_same_pipeline(hub, trained_path, tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n", encoding="utf8")
    words = ["push", trained_path, NAME, "--endpoint", hub.url, "--no-wheel", "--private"]
    output = cli(*words, "--token-file", tmp_path / "token", "--branch", "v1")
    assert f"{hub.url}/{NAME}: new, commit " in output and TOKEN not in output
    assert "license is empty" in output
    assert hub.repos[NAME]["private"] is True and hub.commits(NAME) == 1
    assert hub.lfs, "no large file went by LFS"
    assert list(hub.files(NAME, "main")[1]) == [".gitattributes"]
    texts = [text for text, _ in TEXTS]
    expected = [characters(doc) for doc in spacy.load(trained_path).pipe(texts)]
    assert any(expected) and downloaded(hub, "v1", texts, tmp_path / "cache") == expected


def test_a_second_upload_replaces_the_first(hub, folder):
    push = partial(push_folder, folder, NAME, token=TOKEN, endpoint=hub.url)
    first = push()
    assert first.is_new and first.files == 6 and not first.removed
    (folder / "bert_crf" / "cfg").rename(folder / "bert_crf" / "other")
    again = push(message="Anew")
    assert not again.is_new and again.removed == ["bert_crf/cfg"]
    _, files = hub.files(NAME)
    assert set(files) == {
        ".gitattributes", "README.md", "config.cfg", "meta.json", "vocab/key2row",
        "bert_crf/model", "bert_crf/other",
    }  # fmt: skip
    assert files["bert_crf/model"] == b"w" * 2000 and hub.commits(NAME) == 2
    assert push().commit == again.commit, "nothing changed, so there is no new commit"


def test_wheels_of_before_go_and_files_of_others_stay(hub, folder):
    old = {"config.cfg": b"", "meta.json": b"", "zh-0.1-py3-none-any.whl": b"", "notes.md": b"mine"}
    hub.make(NAME, old)
    assert push_folder(folder, NAME, token=TOKEN, endpoint=hub.url).removed == [
        "zh-0.1-py3-none-any.whl"
    ]
    assert hub.files(NAME)[1]["notes.md"] == b"mine"


def test_a_repository_of_something_else_is_left_alone(hub, folder):
    hub.make(NAME, {"pytorch_model.bin": b"", "config.json": b""})
    push = partial(push_folder, folder, NAME, token=TOKEN, endpoint=hub.url)
    with pytest.raises(BertCrfError, match=r"no spaCy pipeline but config\.json and 1 other"):
        push()
    assert hub.commits(NAME) == 0
    push(force=True)
    assert "pytorch_model.bin" in hub.files(NAME)[1]


@pytest.mark.parametrize(
    ("pattern", "status", "message", "said"),
    [
        ("create", 403, "no rights here", r"make the repository .*\(403: no rights here\)"),
        ("create", 500, "broken", r"\(500: broken\): try again later"),
        ("validate-yaml", 400, "bad card", r"refuses the files"),
        ("preupload", 401, "who are you", r"\(401: .*\): check the token"),
        ("PUT /lfs", 403, "", r"refuses the files for .* \(403: .*No commit was made"),
        ("PUT /lfs", 413, "", r"too large for it.* largest is bert_crf/model"),
        ("POST .*/commit/", 412, "changed", r"\(412: changed\): somebody else"),
        ("GET .*/tree/", 404, "none", r"list the files"),
    ],
)
def test_refusals_are_told_with_their_status(hub, folder, pattern, status, message, said):
    hub.refusals.append((pattern, status, message))
    with pytest.raises(BertCrfError, match=said) as caught:
        push_folder(folder, NAME, token=TOKEN, endpoint=hub.url)
    assert hub.url in str(caught.value) and "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value) and "signature" not in str(caught.value)
    assert NAME not in hub.repos or hub.commits(NAME) == 0


def test_a_wrong_token_and_an_owner_of_others(hub, folder):
    with pytest.raises(BertCrfError, match=r"\(401: .*check the token"):
        push_folder(folder, NAME, token="hf_wrong", endpoint=hub.url)
    with pytest.raises(BertCrfError, match=r"\(403: .*repository of your own"):
        push_folder(folder, "others/names", token=TOKEN, endpoint=hub.url)


def test_files_that_did_not_arrive_are_noticed(hub, folder, monkeypatch):
    commit = type(hub).commit

    def without_weights(self, name, branch, files):
        return commit(self, name, branch, {k: v for k, v in files.items() if k[-5:] != "model"})

    monkeypatch.setattr(type(hub), "commit", without_weights)
    with pytest.raises(BertCrfError, match="bert_crf/model in us/zh_names is missing"):
        push_folder(folder, NAME, token=TOKEN, endpoint=hub.url)


def test_a_hub_that_is_not_there(folder):
    with pytest.raises(BertCrfError, match=r"http://127\.0\.0\.1:9 can't be asked .*--endpoint"):
        push_folder(folder, NAME, token=TOKEN, endpoint="http://127.0.0.1:9")


def test_xet_is_as_it_was_afterwards(hub, folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    push_folder(folder, NAME, token=TOKEN, endpoint=hub.url)
    assert constants.HF_HUB_DISABLE_XET is False
    assert not any("xet" in call for call in hub.calls)


def test_tokens(tmp_path, monkeypatch, hub, trained_path):
    output = cli("push", trained_path, NAME, "--endpoint", hub.url, code=1)
    assert "HF_TOKEN" in output and not hub.calls
    file = tmp_path / "token"
    with pytest.raises(BertCrfError, match="can't read the token"):
        find_token(file)
    file.write_text("\n", encoding="utf8")
    with pytest.raises(BertCrfError, match="has no token"):
        find_token(file)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert find_token() == TOKEN


@pytest.mark.parametrize("name", ["names", "a/b/c", "us/-x", "us/a b", ""])
def test_names_of_repositories_are_checked(name):
    with pytest.raises(BertCrfError, match="OWNER/NAME"):
        check_repo_id(name)
