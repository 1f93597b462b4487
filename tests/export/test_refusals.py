"""What can't be exported is one message, and nothing is written; stale formats; other encoders."""

import re
import runpy
import sys
from dataclasses import replace

import numpy as np
import pytest
import spacy
from spacy.tokens import DocBin

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.formats import FORMATS
from support.commands import cli
from support.paths import ROOT
from support.toys import ENGLISH, TEXTS, characters, make_examples, own_config

READER = ROOT / "docs" / "read_export.py"


@pytest.fixture
def corpus(tmp_path):
    docs = [eg.reference for eg in make_examples(spacy.blank("zh"))]
    DocBin(docs=docs).to_disk(tmp_path / "d.spacy")
    return tmp_path / "d.spacy"


STATIC = ["--to", "onnx-int8-static"]
BAD = {
    "unknown format": (["--to", "coreml"], "coreml.*bert4torch, huggingface"),
    "unknown format beside others": (["--to", "onnx", "--to", "onnxx"], "onnxx"),
    "a word for a shape": (["--to", "torchscript", "--shape", "big"], "'big'.*1x256"),
    "half a shape": (["--to", "torchscript", "--shape", "1x"], "BATCHxLENGTH"),
    "a negative shape": (["--to", "torchscript", "--shape=-1x32"], "BATCHxLENGTH"),
    "an empty batch": (["--to", "torchscript", "--shape", "0x32"], "batch must be 1 or more"),
    "too short": (["--to", "torchscript", "--shape", "1x7"], "from 8 to 512"),
    "too long": (["--to", "torchscript", "--shape", "1x513"], "from 8 to 512"),
    "a shape for nothing": (["--to", "onnx", "--shape", "1x32"], "--shape is for"),
    "static without inputs": (STATIC, "--calibration 100"),
    "a number without data": ([*STATIC, "--calibration", "4"], "give both --calibration"),
    "data without a number": ([*STATIC, "--calibration-data", "DATA"], "give both --calibration"),
    "too few texts": (["--calibration", "9", "--calibration-data", "DATA"], "data has 8.*1 to 8"),
    "too few for the batch": (
        ["--calibration", "3", "--calibration-data", "DATA", "--shape", "4x32"], "need 12 texts",
    ),
    "no data": (["--calibration", "3", "--calibration-data", "none.spacy"], "no corpus none.spacy"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_options(trained_path, tmp_path, corpus, name):
    words, pattern = BAD[name]
    words = [str(corpus) if word == "DATA" else word for word in words]
    text = cli("export", trained_path, tmp_path / "out", *words, code=1)
    assert re.search(pattern, text), text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.spacy"]


def test_an_unknown_format_beside_all(trained_path, tmp_path):
    text = cli("export", trained_path, tmp_path / "out", "--to", "all", "--to", "coreml", code=1)
    assert "coreml" in text and not list(tmp_path.iterdir())


@pytest.mark.parametrize("lacking", ["onnx", "onnxruntime"])
def test_without_the_optional_packages(trained_path, tmp_path, monkeypatch, lacking):
    monkeypatch.setitem(sys.modules, lacking, None)
    for name in ("onnx", "onnx-int8"):
        text = cli("export", trained_path, tmp_path / "out", "--to", name, code=1)
        assert "spacy-bert-crf[onnx]" in text and lacking in text
    assert not list(tmp_path.iterdir())
    cli("export", trained_path, tmp_path / "out", "--to", "torchscript")
    text = cli("export", trained_path, tmp_path / "out2", "--to", "all", code=1)
    assert "spacy-bert-crf[onnx]" in text and not (tmp_path / "out2").exists()


def test_a_failure_leaves_the_old_export(trained_path, tmp_path, monkeypatch):
    """A format gives other emissions than the pipeline, after others were written."""
    out = tmp_path / "out"
    export_pipeline(spacy.load(trained_path), out, formats=["huggingface"])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    real = FORMATS["torchscript"]

    def wrong(folder, trained, options):
        trained.weight.mul_(1.01)
        values = real.write(folder, trained, options)
        trained.weight.div_(1.01)
        return values

    monkeypatch.setitem(FORMATS, "torchscript", replace(real, write=wrong))
    with pytest.raises(BertCrfError, match="torchscript does not keep this model"):
        export_pipeline(spacy.load(trained_path), out, formats=["huggingface", "torchscript"])
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_formats_of_other_weights_are_named(trained_path, tmp_path):
    nlp = spacy.load(trained_path)
    out = tmp_path / "out"
    said = export_pipeline(nlp, out, formats=["huggingface", "bert4torch"])
    assert said["stale"] == []
    assert export_pipeline(nlp, out)["stale"] == []  # the same weights again
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"huggingface", "bert4torch"}
    nlp.update(make_examples(nlp), sgd=nlp.get_pipe("bert_crf").create_optimizer())
    nlp.to_disk(tmp_path / "other")
    assert export_pipeline(nlp, out, formats=["huggingface"])["stale"] == ["bert4torch"]
    text = cli("export", tmp_path / "other", out, "--to", "torchscript")
    assert "bert4torch was made of other weights" in text and "--to bert4torch" in text
    assert text.count("note:") == 1


def test_a_format_folder_is_not_taken_for_an_export(trained_path, tmp_path):
    export_pipeline(spacy.load(trained_path), tmp_path / "out", formats=["bert4torch"])
    with pytest.raises(BertCrfError, match=r"README\.md"):
        export_pipeline(spacy.load(trained_path), tmp_path / "out" / "bert4torch")


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """A trained English pipeline on a RoBERTa of 2 layers."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    folder = tmp_path_factory.mktemp("roberta")
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator([t for t, _ in ENGLISH] * 5, vocab_size=300, special_tokens=special)
    (folder / "bpe").mkdir()
    bpe.save_model(str(folder / "bpe"))
    tokenizer = RobertaTokenizerFast.from_pretrained(folder / "bpe", model_max_length=128)
    tokenizer.save_pretrained(folder / "encoder")
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=130, type_vocab_size=1,
        initializer_range=0.3, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder / "encoder")
    nlp = spacy.blank("en")
    nlp.add_pipe("bert_crf", config=own_config(folder / "encoder"))
    examples = make_examples(nlp, ENGLISH)
    nlp.initialize(lambda: examples)
    from spacy_bert_crf.model.optimizer import create_adamw

    optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    for _ in range(30):
        nlp.update(examples, sgd=optimizer)
    nlp.to_disk(folder / "pipeline")
    return nlp, folder / "pipeline"


def test_another_encoder_than_bert(roberta, tmp_path):
    """bert4torch refuses it with nothing written; the other formats take it."""
    nlp, path = roberta
    text = cli(
        "export", path, tmp_path / "out", "--to", "huggingface", "--to", "bert4torch", code=1
    )
    assert "bert4torch takes BERT" in text and "roberta" in text
    assert not list(tmp_path.iterdir())
    pytest.importorskip("onnxruntime")
    names = ["huggingface", "torchscript", "torch-int8", "onnx", "onnx-int8"]
    export_pipeline(nlp, tmp_path / "out", formats=names, shape=(1, 32))
    texts = [text for text, _ in ENGLISH] + ["Bob near a Parisian", "Anna  visited London ."]
    reader = runpy.run_path(str(READER))
    for name, decode in [(n, d) for n in names for d in (False, True)]:
        if decode and name == "huggingface":
            continue
        model = reader["load"](tmp_path / "out" / name, decode)
        for text in texts:
            doc = nlp(text)
            tokens = [(token.idx, token.idx + len(token)) for token in doc]
            got = reader["entities"](text, model, tokens)
            if "int8" not in name:
                assert got == characters(doc), (name, decode, text)
    assert sum(len(nlp(text).ents) for text in texts) > 3


def test_a_longer_batch_than_texts_is_counted(trained_path, tmp_path):
    """Texts of white space are left out; there can be as many inputs as other texts."""
    nlp = spacy.load(trained_path)
    texts = [text for text, _ in TEXTS] + ["", "\n"]
    export_pipeline(nlp, tmp_path / "out", calibration=4, calibration_texts=texts, shape=(2, 16))
    files = sorted((tmp_path / "out" / "calibration").glob("*.npz"))
    assert len(files) == 4 and np.load(files[0])["input_0"].shape == (2, 16)
    with pytest.raises(BertCrfError, match="need 10 texts"):
        export_pipeline(
            nlp, tmp_path / "out", calibration=5, calibration_texts=texts, shape=(2, 16)
        )
