"""What an import, a load or a conversion leaves out or changes is said."""

import logging

import pytest
import spacy
import torch
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

from spacy_bert_crf._transformers import save_tokenizer
from spacy_bert_crf.component.score_map import SCORE_MAP
from spacy_bert_crf.encoder.checkpoint import convert_checkpoint
from spacy_bert_crf.encoder.hf import load_encoder
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.import_model import import_model
from support.commands import cli
from support.toys import own_config


@pytest.fixture
def classifier(encoder_path, tmp_path):
    """Makes a token classifier of these tags in half precision, with further tensors."""

    def make(tags, **more):
        tokenizer = BertTokenizerFast.from_pretrained(encoder_path)
        folder = tmp_path / "theirs"
        folder.mkdir(exist_ok=True)
        save_tokenizer(tokenizer, folder)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, id2label=dict(enumerate(tags)),
            label2id={tag: i for i, tag in enumerate(tags)},
        )  # fmt: skip
        config.save_pretrained(folder)
        state = BertForTokenClassification(config).half().state_dict()
        torch.save({**state, **more}, folder / "pytorch_model.bin")
        return folder

    return make


def test_notes_of_hugging_face(classifier, tmp_path):
    pooler = {"bert.pooler.dense.weight": torch.ones(16, 16)}
    folder = classifier(["O", "B-PER", "B-LOC", "I-LOC"], **pooler)
    text = cli("import-model", folder, tmp_path / "pipe")
    for part in (
        "left out 1 tensors that no token's tag depends on: bert.pooler.dense.weight",
        "weights in float16 became float32",
        "no CRF: all scores of transitions are 0",
        "no tag I-PER",
        "as the source does: --constraints",
    ):
        assert part in " ".join(text.split()), part
    assert text.count("note: ") == 5
    legal = import_model(folder, tmp_path / "legal", constraints=True)
    assert len(legal.notes) == 5 and "--no-constraints" in legal.notes[-1]


def test_notes_of_io(classifier, tmp_path):
    notes = import_model(classifier(["O", "PER", "LOC"]), tmp_path / "pipe").notes
    assert sum("IO became BIO" in note for note in notes) == 1


def test_notes_of_an_export_and_of_bert4torch(trained_path, tmp_path):
    out = tmp_path / "out"
    export_pipeline(spacy.load(trained_path), out, formats=["bert4torch"])
    notes = import_model(out, tmp_path / "own").notes
    assert len(notes) == 1 and "threshold" in notes[0] and "overlap" in notes[0]
    (out / "bert4torch" / "best_model.json").unlink()
    (out / "bert4torch" / "transitions.npz").unlink()
    labels = ["LOC", "ORG", "PER"]
    notes = import_model(out / "bert4torch", tmp_path / "theirs", labels=labels).notes
    for part in ("no token types", "[CLS] and [SEP]", "--no-constraints"):
        assert sum(part in note for note in notes) == 1
    assert len(notes) == 3


def test_weights_without_a_layer_are_named_at_load(classifier, caplog):
    lstm = {"lstm.weight_ih_l0": torch.ones(8, 16)}
    with caplog.at_level(logging.INFO, "spacy_bert_crf"):
        load_encoder(str(classifier(["O", "B-PER"])), {}, {})
        assert not caplog.messages  # the linear classifier does not matter
        load_encoder(str(classifier(["O", "B-PER"], **lstm)), {}, {})
    assert ["lstm.weight_ih_l0" in message for message in caplog.messages] == [True]


def test_a_max_length_that_the_encoder_does_not_take_is_named(encoder_path, caplog):
    nlp = spacy.blank("zh")
    settings = {"tokenizer_config": {"model_max_length": 64}, "max_length": 512}
    nlp.add_pipe("bert_crf", config=own_config(encoder_path, **settings))
    with caplog.at_level(logging.INFO, "spacy_bert_crf"):
        nlp.get_pipe("bert_crf").model.initialize()
    assert any("max_length 512" in m and "64 wordpieces" in m for m in caplog.messages)


def test_notes_of_a_conversion(classifier, tmp_path):
    folder = classifier(["O"], **{"bert.pooler.dense.weight": torch.ones(16, 16)})
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    tensors = {k: t.float() for k, t in tensors.items() if not k.startswith("classifier.")}
    tensors["cls.predictions.bias"] = torch.zeros(3)
    torch.save(tensors, folder / "pytorch_model.bin")
    report = convert_checkpoint(folder, tmp_path / "encoder")
    assert sum("of heads" in note for note in report.notes) == 1
    assert sum("vocab.txt alone: tokenizer.json" in note for note in report.notes) == 1
    assert report.text().count("note: ") == len(report.notes) == 2


def test_another_temperature_at_load_leaves_the_correction_out(trained_path, tmp_path):
    nlp = spacy.load(trained_path)
    points = {"told": [0.0, 0.5, 1.0], "right": [0.0, 0.4, 1.0]}
    nlp.get_pipe("bert_crf").cfg[SCORE_MAP] = points
    nlp.to_disk(tmp_path / "pipe")
    config = {"components": {"bert_crf": {"temperature": 2.0}}}
    with pytest.warns(UserWarning, match="temperature = 2: the correction that calibrate"):
        nlp = spacy.load(tmp_path / "pipe", config=config)
    assert SCORE_MAP not in nlp.get_pipe("bert_crf").cfg
