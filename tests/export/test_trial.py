"""Every format is tried on a tiny encoder first; what an export leaves out is said."""

import json
from dataclasses import replace

import pytest
import spacy
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, RobertaConfig, RobertaModel

from spacy_bert_crf.component.score_map import SCORE_MAP
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.formats import FORMATS
from support.commands import cli
from support.toys import TEXTS, train_toy


def deep_encoder(folder, encoder_path, config_class, model_class, **settings):
    """An encoder of 4 layers with the toy's tokenizer."""
    tokenizer = BertTokenizerFast.from_pretrained(encoder_path)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = config_class(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=32, initializer_range=0.3, **settings,
    )  # fmt: skip
    model_class(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def deep(encoder_path, tmp_path_factory):
    """A pipeline whose encoder has 4 layers."""
    folder = tmp_path_factory.mktemp("deep")
    return train_toy(deep_encoder(folder, encoder_path, BertConfig, BertModel), updates=3)


@pytest.fixture
def written(monkeypatch):
    """The number of layers of each encoder that each format writes."""
    calls = []

    def spy(name, real):
        def write(folder, trained, options):
            calls.append((name, trained.config.num_hidden_layers))
            return real.write(folder, trained, options)

        return write

    for name, real in list(FORMATS.items()):
        monkeypatch.setitem(FORMATS, name, replace(real, write=spy(name, real)))
    return calls


def test_all_formats_are_tried_before_the_first_is_written(deep, tmp_path, written):
    pytest.importorskip("onnxruntime")
    texts = [text for text, _ in TEXTS]
    export_pipeline(
        deep, tmp_path / "out", formats=list(FORMATS), calibration=4, calibration_texts=texts
    )
    assert written == [(name, 1) for name in FORMATS] + [(name, 4) for name in FORMATS]


def test_an_impossible_format_is_refused_before_anything_long(encoder_path, tmp_path, written):
    """bert4torch takes no RoBERTa: the formats before it are not written in vain."""
    folder = tmp_path / "roberta"
    deep_encoder(folder, encoder_path, RobertaConfig, RobertaModel, pad_token_id=0)
    nlp = train_toy(folder, updates=1)
    with pytest.raises(BertCrfError, match="bert4torch takes BERT"):
        export_pipeline(nlp, tmp_path / "out", formats=["torchscript", "bert4torch"])
    assert written == [("torchscript", 1), ("bert4torch", 1)]
    assert not (tmp_path / "out").exists()


def test_all_impossible_formats_are_named_at_once(deep, tmp_path, monkeypatch):
    def fail(folder, trained, options):
        raise RuntimeError("Exporting the operator aten::odd is not supported\nmore")

    for name in ("torchscript", "torch-int8"):
        monkeypatch.setitem(FORMATS, name, replace(FORMATS[name], write=fail))
    with pytest.raises(BertCrfError) as caught:
        export_pipeline(
            deep, tmp_path / "out", formats=["torchscript", "huggingface", "torch-int8"]
        )
    lines = str(caught.value).splitlines()
    assert len(lines) == 2 and "torchscript" in lines[0] and "torch-int8" in lines[1]
    assert all("aten::odd" in line and "another format" in line for line in lines)
    assert not (tmp_path / "out").exists()


NOTES = {
    "bert4torch": "token types other than 0 are left out",
    "huggingface": "CRF is not in the model",
    "torch-int8": "scores are rounded",
    "torchscript-bf16": "the encoder is in bfloat16",
}


@pytest.mark.parametrize("name", NOTES)
def test_the_command_says_what_a_format_lacks(trained_path, tmp_path, name):
    text = cli("export", trained_path, tmp_path / "out", "--to", name)
    assert text.count("note: ") == 1 and f"note: {name}: " in text and NOTES[name] in text


def test_what_no_format_holds_is_said(trained_path, tmp_path):
    nlp = spacy.load(trained_path)
    assert export_pipeline(nlp, tmp_path / "plain")["notes"] == []
    nlp.add_pipe("merge_entities")
    pipe = nlp.get_pipe("bert_crf")
    pipe.threshold = 0.25
    pipe.cfg[SCORE_MAP] = {"told": [0.0, 0.5, 1.0], "right": [0.0, 0.4, 1.0]}
    notes = export_pipeline(nlp, tmp_path / "out")["notes"]
    for part in ("left out: merge_entities", "threshold 0.25", "correction of probabilities"):
        assert sum(part in note for note in notes) == 1
    assert len(notes) == 3
    saved = json.loads((tmp_path / "out" / "best_model.json").read_text(encoding="utf8"))
    assert "notes" not in saved
