"""Conversion of checkpoint folders: what comes out, and what is refused."""

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraForPreTraining,
    RobertaConfig,
    RobertaForMaskedLM,
)

from scripts.toy_encoder import make_encoder
from spacy_bert_crf._transformers import bert_tokenizer
from spacy_bert_crf.encoder.checkpoint import convert_checkpoint
from spacy_bert_crf.encoder.checkpoint_files import read_tensors
from spacy_bert_crf.encoder.hf import load_encoder
from spacy_bert_crf.errors import BertCrfError
from support.folders import content
from support.paths import ROOT, SHARED

MIRROR = SHARED / "mirror/bert-base-chinese/resolve/main"
TEXT = "1998年江泽民在北京 met ABC"
FAULTS = {"missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"}
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_encoder(folder, [TEXT], layers=3, width=16, heads=2, feed_forward=32, seed=7, positions=64)
    return folder


@pytest.fixture
def src(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "src"))


@pytest.fixture
def dst(tmp_path):
    return tmp_path / "dst"


def weights(folder):
    return torch.load(folder / "pytorch_model.bin", weights_only=True)


def put(folder, content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    (folder / "pytorch_model.bin").write_bytes(buffer.getvalue())


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def edit_vocab(folder, change):
    path = folder / "vocab.txt"
    pieces = path.read_text(encoding="utf8").split("\n")[:-1]
    path.write_text("\n".join(change(pieces)) + "\n", encoding="utf8")


def by_hand(folder):
    """BertModel with the source's weights, renamed without the converter."""
    state = {
        re.sub("gamma$", "weight", re.sub("beta$", "bias", name)).removeprefix("bert."): tensor
        for name, tensor in weights(folder).items()
        if name.startswith("bert.") and "pooler" not in name
    }
    config = BertConfig.from_json_file(folder / "config.json")
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(state)
    return model.eval()


def run(model, folder, **options):
    batch = AutoTokenizer.from_pretrained(folder)([TEXT, "北京"], return_tensors="pt", padding=True)
    with torch.no_grad():
        return model.eval()(**batch, **options)


def check_no_faults(info):
    """transformers 4 lists the names, transformers 5 has sets of them."""
    assert info.keys() >= FAULTS
    assert not any(info[key] for key in FAULTS)


def refused(src, dst, match, **options):
    """The conversion fails with this message and leaves nothing."""
    before = sorted(dst.parent.iterdir())
    with pytest.raises(BertCrfError, match=match) as caught:
        convert_checkpoint(src, dst, **options)
    assert not dst.exists()
    assert sorted(dst.parent.iterdir()) == before
    return str(caught.value)


def test_legacy_folder_becomes_a_hugging_face_folder(src, dst):
    with (src / "pytorch_model.bin").open("rb") as handle:
        assert handle.read(2) != b"PK"  # the pre-1.6 format
    report = convert_checkpoint(src, dst)
    model, info = BertModel.from_pretrained(dst, add_pooling_layer=False, output_loading_info=True)
    assert [name for name in info.pop("unexpected_keys") if "pooler" not in name] == []
    check_no_faults({**info, "unexpected_keys": []})
    pooled, info = AutoModel.from_pretrained(dst, output_loading_info=True)
    check_no_faults(info)
    assert type(pooled) is BertModel
    assert torch.equal(pooled.pooler.dense.weight, weights(src)["bert.pooler.dense.weight"])
    expected = run(by_hand(src), dst).last_hidden_state
    assert expected.std() > 0.1
    assert torch.equal(run(model, dst).last_hidden_state, expected)
    assert torch.equal(run(pooled, dst).last_hidden_state, expected)
    # transformers 5 writes no special_tokens_map.json: it is part of tokenizer_config.json.
    assert sorted({p.name for p in dst.iterdir()} - {"special_tokens_map.json"}) == [
        "config.json",
        "model.safetensors",
        "pytorch_model_cvt.bin",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    assert len({oct(p.stat().st_mode) for p in dst.iterdir()}) == 1
    old = weights(src)
    new = torch.load(dst / "pytorch_model_cvt.bin", weights_only=True)
    assert len(new) == len(old) == report.tensors
    for (name, tensor), (old_name, old_tensor) in zip(new.items(), old.items(), strict=True):
        assert name == old_name.replace("gamma", "weight").replace("beta", "bias")
        assert torch.equal(tensor, old_tensor)
    assert "cls.predictions.transform.LayerNorm.weight" in new
    assert report.renamed == 2 * (1 + 2 * 3 + 1)
    bare = sum(t.numel() for t in by_hand(src).parameters())
    assert (report.parameters, report.layers, report.dropped_layers) == (bare, 3, 0)
    vocab = (src / "vocab.txt").read_text(encoding="utf8").count("\n")
    assert (report.hidden_size, report.vocab_size, report.lower_case) == (16, vocab, True)
    assert f"{bare:,}" in report.text() and "dropped" not in report.text()
    assert str(dst) not in "".join(p.read_text("utf8") for p in dst.glob("*.json"))


def test_tokenizer_knows_its_length_and_its_case(src, dst):
    convert_checkpoint(src, dst)
    tokenizer = AutoTokenizer.from_pretrained(dst)
    assert tokenizer.is_fast and tokenizer.model_max_length == 64
    assert len(tokenizer("中" * 100, truncation=True)["input_ids"]) == 64
    assert tokenizer.tokenize("京A") == ["京", "a"]
    assert tokenizer.convert_tokens_to_ids(SPECIALS) == [0, 100, 101, 102, 103]
    vocab = (dst / "vocab.txt").read_bytes()
    assert vocab == (src / "vocab.txt").read_bytes()


def test_all_ways_to_store_the_same_weights_give_the_same_folder(src, dst, tmp_path):
    convert_checkpoint(src, dst)
    first = content(dst)
    put(src, weights(src))
    assert (src / "pytorch_model.bin").read_bytes().startswith(b"PK")
    convert_checkpoint(src, tmp_path / "zip")
    assert content(tmp_path / "zip") == first
    convert_checkpoint(dst, tmp_path / "twice")
    assert content(tmp_path / "twice") == first
    save_file({n: t.clone() for n, t in weights(src).items()}, src / "model.safetensors")
    (src / "pytorch_model.bin").unlink()
    convert_checkpoint(src, tmp_path / "safe")
    assert content(tmp_path / "safe")["model.safetensors"] == first["model.safetensors"]


def test_converts_what_hugging_face_saves(src, dst, tmp_path):
    convert_checkpoint(src, dst)
    (dst / "pytorch_model_cvt.bin").unlink()
    report = convert_checkpoint(dst, tmp_path / "again")  # safetensors without `bert.`
    assert report.weights == "model.safetensors" and report.renamed == 0
    assert load_file(tmp_path / "again/model.safetensors").keys() == {
        n.removeprefix("bert.").replace("gamma", "weight").replace("beta", "bias")
        for n in weights(src)
        if n.startswith("bert.")
    }
    assert (tmp_path / "again/tokenizer.json").read_bytes() == content(dst)["tokenizer.json"]


def test_settings_of_the_tokenizer_that_are_left_out_are_named(src, dst):
    settings = {"do_lower_case": True, "cls_token": "[CLS]", "never_split": None}
    (src / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf8")
    assert "had no influence" not in "".join(convert_checkpoint(src, dst).notes)
    settings |= {"never_split": ["某"], "do_basic_tokenize": False, "unk_token": {"content": "UNK"}}
    (src / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf8")
    note = convert_checkpoint(src, dst).notes[-1]
    assert "do_basic_tokenize, never_split, unk_token had no influence" in note


def test_legacy_model_saved_alone_and_position_ids(src, dst):
    plain = {n.removeprefix("bert."): t for n, t in weights(src).items() if n[:4] == "bert"}
    plain = {n: t for n, t in plain.items() if "pooler" not in n}
    put(src, {**plain, "embeddings.position_ids": torch.arange(64)[None]})
    report = convert_checkpoint(src, dst)
    _, info = BertModel.from_pretrained(dst, add_pooling_layer=False, output_loading_info=True)
    check_no_faults(info)
    assert "embeddings.position_ids" in torch.load(dst / "pytorch_model_cvt.bin")
    assert report.tensors == len(plain) + 1


def test_views_of_one_storage_and_half_precision(src, dst):
    tensors = weights(src)
    flat = torch.cat([t.flatten() for t in tensors.values()])
    views, at = {}, 0
    for name, tensor in tensors.items():
        views[name] = flat[at : at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
    put(src, {name: tensor.clone() for name, tensor in tensors.items()})
    convert_checkpoint(src, dst, layers=1)
    first = content(dst)
    put(src, views)
    convert_checkpoint(src, dst, layers=1)
    assert content(dst) == first  # not a byte of the layers that were dropped
    convert_checkpoint(src, dst)
    assert torch.equal(run(AutoModel.from_pretrained(dst), dst)[0], run(by_hand(src), dst)[0])
    put(src, {name: tensor.half() for name, tensor in tensors.items()})
    convert_checkpoint(src, dst)
    assert load_file(dst / "model.safetensors")["pooler.dense.bias"].dtype == torch.float16
    assert load_encoder(str(dst), {}, {}).model.dtype == torch.float32


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_first_layers_only(src, dst, layers):
    report = convert_checkpoint(src, dst, layers=layers)
    assert (report.layers, report.dropped_layers) == (layers, 3 - layers)
    assert ("dropped" in report.text()) == (layers < 3)
    assert report.renamed == 2 * (1 + 2 * layers + 1)
    model, info = AutoModel.from_pretrained(dst, output_loading_info=True)
    check_no_faults(info)
    assert model.config.num_hidden_layers == layers
    states = run(by_hand(src), dst, output_hidden_states=True).hidden_states
    assert torch.equal(run(model, dst).last_hidden_state, states[layers])
    cvt = torch.load(dst / "pytorch_model_cvt.bin", weights_only=True)
    assert {n.split(".")[3] for n in cvt if ".layer." in n} == set(map(str, range(layers)))
    refused(dst, dst.parent / "more", rf"has {layers}: use 1 to {layers}", layers=layers + 1)


def test_layers_out_of_range(src, dst):
    refused(src, dst, "4 layers requested, .* has 3: use 1 to 3, or 0", layers=4)
    refused(src, dst, "-1 layers requested", layers=-1)


def test_lower_case(src, dst):
    assert convert_checkpoint(src, dst, lower_case="false").lower_case is False
    assert AutoTokenizer.from_pretrained(dst).tokenize("A") == ["A"]
    assert convert_checkpoint(dst, dst.parent / "kept").lower_case is False  # as its folder says
    assert convert_checkpoint(dst, dst.parent / "set", lower_case="true").lower_case is True
    refused(src, dst.parent / "no", "lower_case is 'maybe'", lower_case="maybe")
    edit_vocab(src, lambda pieces: ["Peking" if p == "[unused1]" else p for p in pieces])
    assert convert_checkpoint(src, dst).lower_case is False
    # Neither a single capital nor another script's says anything.
    edit_vocab(src, lambda pieces: ["##Й" if p == "Peking" else p for p in pieces])
    edit_vocab(src, lambda pieces: ["МОСКВА" if p == "[unused2]" else p for p in pieces])
    edit_vocab(src, lambda pieces: ["##Ü" if p == "[unused3]" else p for p in pieces])
    assert convert_checkpoint(src, dst).lower_case is True
    (src / "tokenizer_config.json").write_text('{"strip_accents": false}')
    assert convert_checkpoint(src, dst).lower_case is True
    assert AutoTokenizer.from_pretrained(dst).backend_tokenizer.normalizer.strip_accents is False
    (src / "tokenizer_config.json").write_text('{"do_lower_case": fal')
    refused(src, dst.parent / "broken", "tokenizer_config.json can't be read as JSON")


def test_truncated_weights(src, dst):
    whole = (src / "pytorch_model.bin").read_bytes()
    tensors = weights(src)
    for _ in range(2):
        for cut in (0, 1, 30, 400, len(whole) // 2, len(whole) - 1):
            (src / "pytorch_model.bin").write_bytes(whole[:cut])
            assert str(src / "pytorch_model.bin") in refused(src, dst, "Download it again")
        put(src, tensors)
        whole = (src / "pytorch_model.bin").read_bytes()
    save_file({n: t.clone() for n, t in tensors.items()}, src / "model.safetensors")
    (src / "pytorch_model.bin").unlink()
    whole = (src / "model.safetensors").read_bytes()
    (src / "model.safetensors").write_bytes(whole[:-5])
    refused(src, dst, "model.safetensors is cut short or damaged")


def test_flipped_byte_in_a_zip(src, dst):
    put(src, weights(src))
    whole = bytearray((src / "pytorch_model.bin").read_bytes())
    at = whole.index(weights(src)["bert.pooler.dense.weight"].numpy().tobytes())
    whole[at + 40] ^= 64
    (src / "pytorch_model.bin").write_bytes(whole)
    refused(src, dst, "damaged .checksum of")


class Bomb:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (Path.touch, (Path(self.marker),))


class SystemBomb(Bomb):
    def __reduce__(self):
        return (os.system, (f"touch {self.marker}",))


@pytest.mark.parametrize("bomb", [Bomb, SystemBomb])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "pickle2"])
def test_code_is_never_executed(src, dst, tmp_path, bomb, form):
    marker = tmp_path / "executed"
    loaded = {**weights(src), "bert.bomb": bomb(marker)}
    if form.startswith("pickle"):
        data = pickle.dumps(loaded["bert.bomb"], protocol=2 if form == "pickle2" else None)
        (src / "pytorch_model.bin").write_bytes(data)
    else:
        put(src, loaded, _use_new_zipfile_serialization=form == "zip")
    message = refused(src, dst, r"pytorch_model.bin holds .* is not loaded")
    assert "save model.state_dict()" in message
    assert not marker.exists()
    if form == "legacy":  # The trap is a real one.
        torch.load(src / "pytorch_model.bin", weights_only=False)
        assert marker.exists()


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda t: torch.nn.Linear(2, 2), "holds more than weights .torch.nn.modules.linear"),
        (lambda t: list(t.values()), "no table of weights"),
        (lambda t: {}, "no table of weights"),
        (lambda t: {"state_dict": t}, "'state_dict' is a dict, not a tensor"),
        (lambda t: {**t, "step": 3}, "'step' is a int, not a tensor"),
        (lambda t: {**t, 4: torch.ones(1)}, "4 is a Tensor, not a tensor"),
        (lambda t: {**t, "cls.x": torch.ones(1).expand(9, 9)}, "cls.x is larger than its data"),
        (lambda t: {**t, "cls.x": torch.ones(3, 3).to_sparse()}, "not an ordinary dense tensor"),
        (lambda t: {**t, "bert.odd": torch.ones(2)}, r"unexpected: bert.odd \[2\]"),
        (lambda t: {**t, "classifier.bias": torch.ones(2)}, "unexpected: classifier.bias"),
        (
            lambda t: {**t, "bert.embeddings.LayerNorm.weight": torch.ones(16)},
            "holds one tensor as bert.embeddings.LayerNorm.gamma and "
            "bert.embeddings.LayerNorm.weight",
        ),
        (
            lambda t: (
                {"cls.t.LayerNorm.bias": torch.ones(2), "cls.t.LayerNorm.beta": torch.ones(2)} | t
            ),
            "holds one tensor as cls.t.LayerNorm.beta and",
        ),
        (
            lambda t: {**t, "embeddings.token_type_embeddings.weight": torch.ones(2, 16)},
            "twice: embeddings.token_type_embeddings.weight, with and without bert.",
        ),
        (
            lambda t: {**t, "bert.pooler.dense.bias": torch.ones(15)},
            r"wrong shape: bert.pooler.dense.bias is \[15\], config.json asks for \[16\]",
        ),
        (
            lambda t: {**t, "bert.pooler.dense.bias": torch.ones(16).int()},
            "wrong type: bert.pooler.dense.bias is torch.int32",
        ),
        (
            lambda t: {**t, "cls.predictions.bias": torch.tensor([1.0, float("nan")])},
            "infinite or NaN weights in cls.predictions.bias",
        ),
        (
            lambda t: {**t, "bert.embeddings.LayerNorm.beta": torch.full((16,), float("inf"))},
            "infinite or NaN weights in bert.embeddings.LayerNorm.bias",
        ),
    ],
)
def test_contents_that_are_no_bert(src, dst, build, match):
    put(src, build(weights(src)))
    refused(src, dst, match)


def test_every_fault_is_listed(src, dst):
    tensors = weights(src)
    del tensors["bert.encoder.layer.1.output.LayerNorm.gamma"]
    del tensors["bert.embeddings.position_embeddings.weight"]
    tensors["bert.encoder.layer.0.output.dense.bias"] = torch.ones(17)
    put(src, tensors)
    message = refused(src, dst, r"pytorch_model.bin doesn't fit config.json")
    assert message.split("\n")[1:-1] == [
        "  wrong shape: bert.encoder.layer.0.output.dense.bias is [17], config.json asks for [16]",
        "  missing: bert.embeddings.position_embeddings.weight [64, 16]",
        "  missing: bert.encoder.layer.1.output.LayerNorm.weight [16]",
    ]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"<!DOCTYPE html><html></html>", "not a torch weights file"),
        (b"\x00" * 100, "not a torch weights file"),
        (b"\x80\x02" + b"\xff" * 100, "no readable weights|cut short or damaged"),
        (b"PK\x03\x04" + b"\xff" * 100, "cut short or damaged"),
    ],
)
def test_garbage(src, dst, data, match):
    (src / "pytorch_model.bin").write_bytes(data)
    refused(src, dst, match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "16"}, "hidden_size is '16'"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 10**9}, "not a number from 1 to 1000"),
        ({"num_attention_heads": 3}, "describes no usable 'bert' model"),
        ({"hidden_act": "softplusplus"}, "describes no usable 'bert' model"),
        ({"num_hidden_layers": 4}, "missing: bert.encoder.layer.3.attention.self.query.weight"),
        ({"num_hidden_layers": 2}, "unexpected: bert.encoder.layer.2.attention.self.query.weight"),
        ({"hidden_size": 18}, "wrong shape: bert.embeddings.word_embeddings.weight is"),
        ({"model_type": "nobert"}, "describes no usable 'nobert' model"),
        ({"model_type": 3}, "describes no usable 3 model"),
        ({"model_type": None, "architectures": ["GPT2Model"]}, "no model_type for GPT2Model"),
    ],
)
def test_bad_config(src, dst, changes, match):
    edit_config(src, **changes)
    assert "config.json" in refused(src, dst, match)


def test_unreadable_config_and_missing_files(src, dst):
    path = src / "config.json"
    path.write_text("{")
    refused(src, dst, "config.json can't be read as JSON")
    path.write_bytes(b"\xff\xfe{}")
    refused(src, dst, "config.json can't be read as JSON")
    path.write_text("[]")
    refused(src, dst, "config.json holds no JSON object")
    path.unlink()
    refused(src, dst, "config.json can't be read")
    refused(src / "config.json", dst, "is not a folder")


def test_missing_weights_or_vocab(src, dst):
    (src / "pytorch_model.bin").unlink()
    refused(src, dst, "holds none of pytorch_model_cvt.bin, pytorch_model.bin, model.safetensors")
    (src / "vocab.txt").unlink()
    refused(src, dst, "vocab.txt can't be read")


def test_first_published_configs_have_no_model_type(src, dst):
    edit_config(src, model_type=None, architectures=None)
    assert convert_checkpoint(src, dst).model_type == "bert"
    config = json.loads((dst / "config.json").read_text())
    assert config["model_type"] == "bert" and config["architectures"] == ["BertModel"]
    assert config["directionality"] == "bidi"
    edit_config(src, architectures=["BertForMaskedLM"])
    assert convert_checkpoint(src, dst).model_type == "bert"


def test_bad_vocab(src, dst):
    size = json.loads((src / "config.json").read_text())["vocab_size"]
    good = (src / "vocab.txt").read_bytes()
    edit_vocab(src, lambda pieces: pieces[:-1])
    refused(src, dst, f"shorter than the embedding, {size - 1} pieces for {size} rows")
    edit_vocab(src, lambda pieces: [*pieces, "one", "two"])
    refused(src, dst, f"longer than the embedding, {size + 1} pieces for {size} rows")
    (src / "vocab.txt").write_bytes(good)
    edit_vocab(src, lambda pieces: [*pieces[:200], pieces[150], *pieces[201:]])
    refused(src, dst, re.escape("is on the lines [151, 201]"))
    (src / "vocab.txt").write_bytes(good.replace(b"[MASK]", b"[mask]"))
    refused(src, dst, r"lacks the special pieces \[MASK\]")
    (src / "vocab.txt").write_bytes(good.decode("utf8").encode("utf-16"))
    refused(src, dst, "can't be read as UTF-8")
    # Windows line ends are no fault.
    (src / "vocab.txt").write_bytes(good.replace(b"\n", b"\r\n"))
    convert_checkpoint(src, dst)
    assert (dst / "vocab.txt").read_bytes() == good


def test_target_is_replaced_only_if_it_is_ours(src, dst):
    convert_checkpoint(src, dst)
    convert_checkpoint(src, dst, layers=1)
    assert AutoModel.from_pretrained(dst).config.num_hidden_layers == 1
    (dst / "thesis.txt").write_text("years of work")
    with pytest.raises(BertCrfError, match="holds thesis.txt, which was not written here"):
        convert_checkpoint(src, dst)
    assert (dst / "thesis.txt").read_text() == "years of work"
    with pytest.raises(BertCrfError, match="is a file"):
        convert_checkpoint(src, dst / "thesis.txt")
    for inside in (src, src.parent):
        with pytest.raises(BertCrfError, match="holds the source"):
            convert_checkpoint(src, inside)
    assert (src / "pytorch_model.bin").exists()


def test_failed_conversion_keeps_the_old_folder(src, dst):
    convert_checkpoint(src, dst)
    before = content(dst)
    put(src, {"x": torch.ones(1)})
    with pytest.raises(BertCrfError, match="missing"):
        convert_checkpoint(src, dst)
    assert content(dst) == before


def other_model(folder, model, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.base_model.eval()


def test_other_model_types(src, dst, tmp_path):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    sizes |= {"num_hidden_layers": 2, "max_position_embeddings": 64}
    tokenizer = bert_tokenizer(src / "vocab.txt", model_max_length=512)
    rows = len(tokenizer)
    electra = ElectraConfig(vocab_size=rows, embedding_size=16, **sizes)
    roberta = RobertaConfig(vocab_size=rows, **sizes)
    for config, head, room in (
        (electra, ElectraForPreTraining, 64),
        (roberta, RobertaForMaskedLM, 62),
    ):
        folder = tmp_path / config.model_type
        base = other_model(folder, head(config), tokenizer)
        report = convert_checkpoint(folder, dst)
        assert (report.model_type, report.layers, report.vocab_size) == (config.model_type, 2, rows)
        model, info = AutoModel.from_pretrained(dst, output_loading_info=True)
        assert [name for name in info["missing_keys"] if "pooler" not in name] == []
        assert not info["unexpected_keys"]
        assert AutoTokenizer.from_pretrained(dst).model_max_length == room
        assert torch.equal(run(model, dst)[0], run(base, dst)[0])
        cut = convert_checkpoint(folder, dst, layers=1)
        assert (cut.layers, cut.dropped_layers) == (1, 1)
        assert AutoModel.from_pretrained(dst).config.num_hidden_layers == 1
        refused(folder, tmp_path / "case", "for BERT models only", lower_case="true")
    for path in folder.glob("*token*"):
        path.unlink()
    (folder / "vocab.txt").unlink(missing_ok=True)
    refused(folder, tmp_path / "none", "its tokenizer can't be loaded")


def test_read_tensors_keeps_ties(src):
    tensors = read_tensors(src / "pytorch_model.bin")
    decoder, words = "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"
    assert tensors[decoder].data_ptr() == tensors[words].data_ptr()


def test_commands_can_import_it_without_torch():
    code = "import sys, spacy_bert_crf.encoder.checkpoint, scripts.downloads\n"
    code += "import scripts.download_checks, scripts.toy_encoder\n"
    code += "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'safetensors')))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.skipif(not MIRROR.is_dir(), reason="no folder with the published files")
def test_the_real_thing(dst):
    report = convert_checkpoint(MIRROR, dst)
    assert (report.tensors, report.renamed, report.parameters) == (197, 50, 27_192_192)
    assert (report.hidden_size, report.layers, report.vocab_size) == (384, 12, 14_845)
    assert report.lower_case is True
    model, info = BertModel.from_pretrained(dst, add_pooling_layer=False, output_loading_info=True)
    check_no_faults(info)
    assert torch.equal(run(model, dst)[0], run(by_hand(MIRROR), dst)[0])
    assert AutoTokenizer.from_pretrained(dst).model_max_length == 512
