"""The made encoder: its layout, its vocabulary, and that it is always the same."""

import io
import json
import subprocess
import sys

import pytest
import torch

from scripts.toy_encoder import legacy_bytes, make_encoder, make_vocab
from spacy_bert_crf._transformers import bert_tokenizer
from spacy_bert_crf.errors import BertCrfError
from support.folders import content
from support.paths import ROOT

SMALL = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 32}
# The tensors of bert-base-chinese outside of its layers, in their order.
AROUND = [
    ("bert.embeddings.word_embeddings.weight", ("vocab", 16)),
    ("bert.embeddings.position_embeddings.weight", (512, 16)),
    ("bert.embeddings.token_type_embeddings.weight", (2, 16)),
    ("bert.embeddings.LayerNorm.gamma", (16,)),
    ("bert.embeddings.LayerNorm.beta", (16,)),
    ("bert.pooler.dense.weight", (16, 16)),
    ("bert.pooler.dense.bias", (16,)),
    ("cls.predictions.bias", ("vocab",)),
    ("cls.predictions.transform.dense.weight", (16, 16)),
    ("cls.predictions.transform.dense.bias", (16,)),
    ("cls.predictions.transform.LayerNorm.gamma", (16,)),
    ("cls.predictions.transform.LayerNorm.beta", (16,)),
    ("cls.predictions.decoder.weight", ("vocab", 16)),
    ("cls.seq_relationship.weight", (2, 16)),
    ("cls.seq_relationship.bias", (2,)),
]


def test_layout(tmp_path):
    make_encoder(tmp_path, ["龘"], **SMALL)
    assert content(tmp_path).keys() == {"pytorch_model.bin", "vocab.txt", "config.json"}
    data = content(tmp_path)["pytorch_model.bin"]
    tensors = torch.load(io.BytesIO(data), weights_only=True)
    vocab = (tmp_path / "vocab.txt").read_text(encoding="utf8").split("\n")[:-1]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["vocab_size"] == len(vocab)
    assert config["model_type"] == "bert"
    around = [(n, tuple(t.shape)) for n, t in tensors.items() if ".layer." not in n]
    assert around == [
        (name, tuple(len(vocab) if size == "vocab" else size for size in shape))
        for name, shape in AROUND
    ]
    assert len(tensors) == len(AROUND) + 2 * 16
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32
        if name.endswith(".gamma"):
            assert torch.all(tensor == 1)
        elif name.endswith((".beta", ".bias")):
            assert torch.all(tensor == 0)
        else:
            assert tensor.std() == pytest.approx(0.02, rel=0.25)
    assert tensors["cls.predictions.decoder.weight"].data_ptr() == tensors[AROUND[0][0]].data_ptr()
    assert not torch.equal(
        tensors["bert.encoder.layer.0.output.dense.weight"],
        tensors["bert.encoder.layer.1.output.dense.weight"],
    )


def test_same_input_same_bytes_also_in_another_process(tmp_path):
    texts = ["Übung 龘 ℃", "東京"]
    make_encoder(tmp_path / "a", texts, **SMALL)
    code = "import sys, pathlib, scripts.toy_encoder as t; junk = [bytearray(9999)] * 7;"
    code += f"t.make_encoder(pathlib.Path(sys.argv[1]), {texts!r}, **{SMALL!r})"
    root = ROOT
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], check=True, cwd=root)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    make_encoder(tmp_path / "c", texts, **SMALL, seed=1)
    assert content(tmp_path / "c")["vocab.txt"] == content(tmp_path / "a")["vocab.txt"]
    assert (
        content(tmp_path / "c")["pytorch_model.bin"] != content(tmp_path / "a")["pytorch_model.bin"]
    )


def test_legacy_format_is_the_one_torch_wrote():
    def build():
        shared = torch.arange(6.0).reshape(2, 3)
        return {"a": shared, "b": torch.tensor([1.5]), "tied": shared}

    tensors = build()
    ours = legacy_bytes(tensors)
    assert ours == legacy_bytes(build())
    theirs = io.BytesIO()
    torch.save(tensors, theirs, _use_new_zipfile_serialization=False)
    start = theirs.getvalue().index(b"storage")
    assert ours[:start] == theirs.getvalue()[:start]
    read = torch.load(io.BytesIO(ours), weights_only=True)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert read["a"].data_ptr() == read["tied"].data_ptr()


def test_vocab():
    vocab = make_vocab(["龘Ñandú\t\u200b\ud800 Ж℉"])
    assert len(set(vocab)) == len(vocab)
    assert vocab[0] == "[PAD]" and vocab[1] == "[unused1]" and vocab[99] == "[unused99]"
    assert vocab[100:104] == ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert vocab[104:198] == [chr(code) for code in range(33, 127)]
    gb2312 = {
        bytes([a, b]).decode("gb2312", "ignore")
        for a in range(0xB0, 0xF8)
        for b in range(0xA1, 0xFF)
    } - {""}
    assert len(gb2312) == 6763
    known = set(vocab)
    assert gb2312 <= known
    assert {"龘", "ж", "##ж", "℉", "##℉", "##a", "##7", "，", "。", "「", "·"} <= known
    assert not {"ñ", "\u0303", "\u200b", "\ud800", "\t", "##龘", "##，", "##.", "Ж"} & known
    assert make_vocab(["龘Ñ"]) == make_vocab(["Ñ", "龘"])


def test_no_character_of_the_texts_is_unknown(tmp_path):
    text = "1998年，氵江澤民（Ünïcödé）ABC123 20℃ 2∶1 ﹏㈱ ①Ⅳ 한국 あア"
    make_encoder(tmp_path, [text], **SMALL)
    tokenizer = bert_tokenizer(tmp_path / "vocab.txt", do_lower_case=True)
    assert "[UNK]" not in tokenizer.tokenize(text)
    assert "[UNK]" in tokenizer.tokenize("\u1234")


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "notes.md").write_text("mine")
    make_encoder(tmp_path, [], **SMALL)
    assert (tmp_path / "notes.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"layers": 0}, "layers 0"),
        ({"positions": -1}, "positions -1"),
        ({"heads": 3}, "width 16 can't be divided among 3 heads"),
    ],
)
def test_sizes_that_make_no_model(tmp_path, changes, match):
    with pytest.raises(BertCrfError, match=match):
        make_encoder(tmp_path / "x", [], **{**SMALL, **changes})
    assert not (tmp_path / "x").exists()


def test_one_string_is_no_list_of_texts(tmp_path):
    with pytest.raises(BertCrfError, match="one string"):
        make_encoder(tmp_path / "x", "北京", **SMALL)


def test_unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BertCrfError, match="can't write"):
        make_encoder(tmp_path / "file", [], **SMALL)
