"""A config may name code on a model hub as its attention: nothing of the kind is fetched or run.
It may also say that an attention was chosen: that is not believed."""

import importlib
import json
import shutil

import pytest
import spacy
from transformers import AutoModel, BertConfig, modeling_utils

from scripts.toy_encoder import make_encoder
from spacy_bert_crf.encoder.checkpoint import convert_checkpoint
from spacy_bert_crf.encoder.cpu.fused import is_bert_layer
from spacy_bert_crf.encoder.hf import load_encoder, pack, unpack, weights_of
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.open import open_export

REPO = "somebody/attention:run"
#: transformers 5 fetches this one from a hub, if it is not installed.
FLASH = "flash_attention_2"
#: Modules that fetch, in one version or another.
KERNELS = [modeling_utils]
if importlib.util.find_spec("transformers.integrations.hub_kernels"):
    KERNELS.append(importlib.import_module("transformers.integrations.hub_kernels"))
#: Whether this transformers fetches kernels.
HAS_KERNELS = hasattr(modeling_utils, "is_kernels_available")
#: Keys of a config.json that set the attention in some version. Others do not read the second.
KEYS = ["_attn_implementation", "_attn_implementation_internal"]
if BertConfig.from_dict({KEYS[1]: REPO})._attn_implementation != REPO:
    del KEYS[1]


@pytest.fixture(autouse=True)
def fetched(monkeypatch):
    """What transformers asks the hub for, as if the package `kernels` were installed."""
    calls = []

    def get_kernel(repo, **how):
        calls.append(repo)

    for module in KERNELS:
        for name, value in (
            ("is_kernels_available", lambda: True),
            ("_kernels_available", True),
            ("get_kernel", get_kernel),
        ):
            monkeypatch.setattr(module, name, value, raising=False)
    yield calls
    assert calls == []


def edit(config, key, value=REPO):
    said = json.loads(config.read_text(encoding="utf8"))
    config.write_text(json.dumps({**said, key: value}), encoding="utf8")


def refused(call, *args, name=REPO):
    with pytest.raises(BertCrfError, match=f"code on a model hub as its attention .{name}"):
        call(*args)


def test_transformers_would_fetch_it(fetched):
    """As long as it does, this project has to look."""
    if not HAS_KERNELS:
        pytest.skip("this transformers knows no kernels")
    config = BertConfig(attn_implementation=REPO, num_hidden_layers=1)
    # There is no function in what is fetched here. Each version says so in another way.
    with pytest.raises((ValueError, AttributeError)):
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


def test_an_attention_that_would_be_fetched(encoder_path, tmp_path):
    folder = shutil.copytree(encoder_path, tmp_path / "encoder")
    edit(folder / "config.json", KEYS[0], FLASH)
    refused(load_encoder, str(folder), {}, {}, name=FLASH)


def test_usual_attentions_are_let_through(encoder_path):
    for usual in ("eager", "sdpa"):
        load_encoder(str(encoder_path), {}, {"attn_implementation": usual})


def test_attention_is_chosen_anew(encoder_path, tmp_path):
    """Versions of transformers from 4.48 on write a mark with which it would be the slow one."""
    usual = load_encoder(str(encoder_path), {}, {})
    assert is_bert_layer(usual.model.encoder.layer[0])
    packed = pack(usual)
    assert "_autoset" not in packed["config"]
    mark = {"_attn_implementation_autoset": True}
    packed["config"] = json.dumps({**json.loads(packed["config"]), **mark})
    folder = shutil.copytree(encoder_path, tmp_path / "encoder")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **mark}))
    for encoder in (unpack(packed, weights_of(usual)), load_encoder(str(folder), {}, {})):
        assert is_bert_layer(encoder.model.encoder.layer[0])
