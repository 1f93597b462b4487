"""A config may name code on a model hub as its attention: nothing of the kind is fetched or run.
It may also say that an attention was chosen: that is not believed."""

import json
import shutil

import pytest
import spacy
from transformers import AutoModel, BertConfig, modeling_utils

from scripts.toy_encoder import make_encoder
from spacy_bert_crf.encoder.checkpoint import convert_checkpoint
from spacy_bert_crf.encoder.hf import load_encoder, pack, unpack, weights_of
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.open import open_export

REPO = "somebody/attention:run"
KEYS = ["_attn_implementation", "_attn_implementation_internal"]


@pytest.fixture(autouse=True)
def fetched(monkeypatch):
    """What transformers asks the hub for, as if the package `kernels` were installed."""
    calls = []
    if hasattr(modeling_utils, "is_kernels_available"):
        monkeypatch.setattr(modeling_utils, "is_kernels_available", lambda: True)
        monkeypatch.setattr(modeling_utils, "get_kernel", calls.append, raising=False)
    yield calls
    assert calls == []


def edit(config, key):
    said = json.loads(config.read_text(encoding="utf8"))
    config.write_text(json.dumps({**said, key: REPO}), encoding="utf8")


def refused(call, *args):
    with pytest.raises(BertCrfError, match=f"code on a model hub as its attention .{REPO}"):
        call(*args)


def test_transformers_would_fetch_it(fetched):
    """As long as it does, this project has to look."""
    if not hasattr(modeling_utils, "is_kernels_available"):
        pytest.skip("this transformers knows no kernels")
    config = BertConfig(attn_implementation=REPO, num_hidden_layers=1)
    with pytest.raises(ValueError, match="kernel function name"):
        AutoModel.from_config(config)
    assert fetched == [REPO.partition(":")[0]]
    fetched.clear()


@pytest.mark.parametrize("key", KEYS)
def test_in_a_checkpoint(tmp_path, key):
    make_encoder(tmp_path / "src", ["王明"], layers=1, width=16, heads=2, feed_forward=32)
    edit(tmp_path / "src" / "config.json", key)
    refused(convert_checkpoint, tmp_path / "src", tmp_path / "dst")
    assert not (tmp_path / "dst").exists()


@pytest.mark.parametrize("key", KEYS)
def test_in_an_encoder_and_in_a_pipeline(encoder_path, tmp_path, key):
    encoder = load_encoder(str(encoder_path), {}, {})
    packed = pack(encoder)
    packed["config"] = json.dumps({**json.loads(packed["config"]), key: REPO})
    refused(unpack, packed, weights_of(encoder))
    folder = shutil.copytree(encoder_path, tmp_path / "encoder")
    edit(folder / "config.json", key)
    refused(load_encoder, str(folder), {}, {})


@pytest.mark.parametrize("name", ["", "huggingface"])
def test_in_an_export(trained_path, tmp_path, name):
    export_pipeline(spacy.load(trained_path), tmp_path / "out", formats=["huggingface"])
    folder = tmp_path / "out" / name
    assert open_export(folder).open_emissions()
    edit(folder / "config.json", KEYS[0])
    refused(open_export(folder).open_emissions)


def test_usual_attentions_are_let_through(encoder_path):
    for usual in ("eager", "sdpa"):
        load_encoder(str(encoder_path), {}, {"attn_implementation": usual})


def test_attention_is_chosen_anew(encoder_path, tmp_path):
    """Versions of transformers from 4.48 on write a mark with which it would be the slow one."""
    usual = load_encoder(str(encoder_path), {}, {})
    kind = type(usual.model.encoder.layer[0].attention.self)
    assert kind.__name__ == "BertSdpaSelfAttention"
    packed = pack(usual)
    assert "_autoset" not in packed["config"]
    mark = {"_attn_implementation_autoset": True}
    packed["config"] = json.dumps({**json.loads(packed["config"]), **mark})
    folder = shutil.copytree(encoder_path, tmp_path / "encoder")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **mark}))
    for encoder in (unpack(packed, weights_of(usual)), load_encoder(str(folder), {}, {})):
        assert type(encoder.model.encoder.layer[0].attention.self) is kind
