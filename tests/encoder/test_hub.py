"""Encoders by their name on the model hub, out of its local cache, and what is recorded of them."""

import json
import os
import shutil
import subprocess
import sys

import pytest

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
_CODE = """
import json, sys
from spacy_bert_crf.encoder.hf import load_encoder, pack
from spacy_bert_crf.errors import BertCrfError
try:
    encoder = load_encoder(sys.argv[1], {}, {})
except BertCrfError as err:
    sys.exit(str(err))
config = json.loads(pack(encoder)["config"])
print(json.dumps([config.get("origin"), encoder.model.config.layer_norm_eps]))
"""


@pytest.fixture(scope="module")
def cache(encoder_path, tmp_path_factory):
    """A cache with two revisions of one encoder. They differ in one number of their config."""
    home = tmp_path_factory.mktemp("home")
    model = home / "hub" / "models--someone--some-bert"
    for (revision, commit), eps in zip(COMMITS.items(), (1e-5, 1e-6), strict=True):
        folder = model / "snapshots" / commit
        shutil.copytree(encoder_path, folder)
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf8")) | {"layer_norm_eps": eps}
        path.write_text(json.dumps(config), encoding="utf8")
        (model / "refs").mkdir(exist_ok=True)
        (model / "refs" / revision).write_text(commit)
    return home


def load(cache, name):
    """Load an encoder in a process of its own: the library reads HF_HOME when it is imported."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", _CODE, name], capture_output=True, text=True, check=False,
        env=env | {"HF_HOME": str(cache), "HF_ENDPOINT": "http://127.0.0.1:9"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "revision", "eps"),
    [
        ("someone/some-bert", "main", 1e-5),
        ("someone/some-bert@v1", "v1", 1e-6),
        (f"someone/some-bert@{COMMITS['v1']}", "v1", 1e-6),
    ],
)
def test_a_name_with_a_revision(cache, name, revision, eps):
    done = load(cache, name)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == [f"someone/some-bert@{COMMITS[revision]}", eps]


def test_what_is_not_in_the_cache_is_not_fetched(cache):
    done = load(cache, "someone/some-bert@v2")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "neither a folder nor in the local cache" in done.stderr
    assert "set allow_download = true" in done.stderr
