"""What load_encoder refuses: one message that says what the thing is and how to go on."""

import json
import shutil

import pytest
import spacy

from spacy_bert_crf.encoder.hf import load_encoder
from spacy_bert_crf.errors import BertCrfError
from support.toys import make_examples, own_config


def message(name):
    with pytest.raises(BertCrfError) as caught:
        load_encoder(str(name), {}, {})
    text = str(caught.value)
    assert len(text) < 800 and "\n" not in text
    return text


@pytest.mark.parametrize("part", ["", "bert_crf"])
def test_a_trained_pipeline_is_no_encoder(trained_path, tmp_path, part):
    # Its name must not make transformers guess a type of model.
    folder = tmp_path / "my-bert-pipeline"
    shutil.copytree(trained_path, folder)
    text = message(folder / part)
    assert "belongs to a trained pipeline and is no encoder" in text
    assert f'source = "{folder}"' in text and f"export {folder} DST --to huggingface" in text
    assert "allow_download" not in text


def test_what_the_message_advises_works(trained_path, tmp_path):
    from spacy_bert_crf.export.folder import export_pipeline

    export_pipeline(spacy.load(trained_path), tmp_path / "dst", formats=["huggingface"])
    encoder = load_encoder(str(tmp_path / "dst" / "huggingface"), {}, {})
    assert encoder.model.config.hidden_size == 16


def test_initialize_refuses_it_before_any_update(trained_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(trained_path))
    with pytest.raises(BertCrfError, match="belongs to a trained pipeline"):
        nlp.initialize(lambda: make_examples(nlp))


def test_other_folders_and_files(tmp_path):
    (tmp_path / "bert-notes").mkdir()
    (tmp_path / "bert-notes" / "notes.txt").write_text("none")
    assert "is no encoder, for it holds no config.json" in message(tmp_path / "bert-notes")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "is a file: name the folder" in message(tmp_path / "model.safetensors")


@pytest.mark.parametrize("config", [{}, {"model_type": "not-known"}, {"model_type": "vit"}])
def test_a_config_of_no_known_text_encoder(tmp_path, config):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    text = message(folder)
    assert text.startswith(f"can't load the encoder '{folder}' (a folder): ")
    assert "allow_download" not in text


def test_a_name_that_is_nowhere_can_be_downloaded():
    assert message("nobody/nothing").endswith("set allow_download = true.")
