"""best_model.pt and its companions: layout, import, and a reader without this package."""

import json
import runpy

import pytest
import spacy
import torch
from torchcrf import CRF
from transformers import AutoConfig, AutoTokenizer, BertModel

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.folder import export_pipeline
from support.paths import ROOT
from support.toys import TEXTS, make_examples, shared_config, transformer_config

READER = ROOT / "docs" / "read_best_model.py"


@pytest.fixture
def exported(trained_path, tmp_path):
    nlp = spacy.load(trained_path)
    export_pipeline(nlp, tmp_path / "out", metrics={"ents_f": 0.5, "seed": 4, "epochs": []})
    return nlp, tmp_path / "out"


def test_layout_of_the_weights(exported):
    nlp, out = exported
    weights = torch.load(out / "best_model.pt", weights_only=True)
    assert type(weights) is dict
    assert all(t.dtype is torch.float32 and t.device.type == "cpu" for t in weights.values())
    head = {k: tuple(v.shape) for k, v in weights.items() if not k.startswith("bert.")}
    assert head == {
        "classifier.weight": (7, 16), "classifier.bias": (7,), "crf.start_transitions": (7,),
        "crf.end_transitions": (7,), "crf.transitions": (7, 7),
    }  # fmt: skip
    config = AutoConfig.from_pretrained(out)
    bert = BertModel(config, add_pooling_layer=False)
    bert.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith("bert.")})
    crf = CRF(7, batch_first=True)
    crf.load_state_dict({k[4:]: v for k, v in weights.items() if k.startswith("crf.")})
    tags = list(nlp.get_pipe("bert_crf").tag_set.tags)
    assert [config.id2label[i] for i in range(7)] == tags
    assert config.label2id == {tag: i for i, tag in enumerate(tags)}


def test_sidecar_and_tokenizer(exported, encoder_path):
    _, out = exported
    info = json.loads((out / "best_model.json").read_text(encoding="utf8"))
    assert info["tags"][:3] == ["O", "B-LOC", "I-LOC"] and info["labels"] == ["LOC", "ORG", "PER"]
    want = {"scheme": "BIO", "pooling": "mean", "max_length": 512}
    want |= {"constraints": True, "temperature": 1.0}
    assert {key: info[key] for key in want} == want
    assert info["lang"] == "zh" and info["seed"] == 4 and info["metrics"] == {"ents_f": 0.5}
    assert "torch" in info["versions"]
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.model_max_length == 512
    assert (out / "vocab.txt").read_text("utf8") == (encoder_path / "vocab.txt").read_text("utf8")
    everything = "".join(p.read_text("utf8") for p in out.iterdir() if p.suffix == ".json")
    assert str(encoder_path) not in everything


def test_same_pipeline_same_bytes(exported, tmp_path):
    nlp, out = exported
    export_pipeline(nlp, tmp_path / "elsewhere", metrics={"ents_f": 0.5, "seed": 4})
    for name in ("best_model.pt", "best_model.json", "config.json", "vocab.txt"):
        assert (tmp_path / "elsewhere" / name).read_bytes() == (out / name).read_bytes()


def test_the_reader_in_the_docs_gives_the_pipelines_entities(exported):
    nlp, out = exported
    assert sum(1 for _ in READER.open(encoding="utf8")) <= 50
    source = READER.read_text(encoding="utf8")
    assert "spacy" not in source.replace("spaCy", "")
    reader = runpy.run_path(str(READER))
    loaded = reader["load"](out)
    texts = [text + other for text, _ in TEXTS for other, _ in TEXTS]
    texts += ["", " ", "张三 李四", " 张三\u3000在  北京\n\n南京 ", "iphone 1998", "\u200b张三😀"]
    for text in texts:
        want = [(e.start_char, e.end_char, e.label_) for e in nlp(text).ents]
        assert reader["entities"](text, *loaded) == want, text


def test_a_shared_encoder_is_exported(encoder_path, tmp_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("transformer", config=transformer_config(encoder_path))
    nlp.add_pipe("bert_crf", config=shared_config())
    nlp.initialize(lambda: make_examples(nlp))
    export_pipeline(nlp, tmp_path / "out")
    reader = runpy.run_path(str(READER))
    loaded = reader["load"](tmp_path / "out")
    assert loaded[0]["max_length"] == 130  # that of the shared transformer's windows
    for text, _ in TEXTS:
        want = [(e.start_char, e.end_char, e.label_) for e in nlp(text).ents]
        assert reader["entities"](text, *loaded) == want


def test_files_of_another_kind_are_not_lost(exported, trained_path):
    nlp, out = exported
    (out / "thesis.txt").write_text("dear", encoding="utf8")
    with pytest.raises(BertCrfError, match="thesis.txt"):
        export_pipeline(nlp, out)
    with pytest.raises(BertCrfError, match="no export"):
        export_pipeline(nlp, trained_path)
    assert (out / "thesis.txt").exists() and (trained_path / "config.cfg").exists()
    (out / "thesis.txt").unlink()
    (out / "onnx").mkdir()
    (out / "onnx" / "x").write_text("kept", encoding="utf8")
    export_pipeline(nlp, out)
    assert (out / "onnx" / "x").read_text(encoding="utf8") == "kept"


def test_what_can_not_be_exported_is_named(trained, encoder_path, tmp_path):
    with pytest.raises(BertCrfError, match="no bert_crf component"):
        export_pipeline(spacy.blank("zh"), tmp_path / "out")
    with pytest.raises(BertCrfError, match="no bert_crf component 'x'"):
        export_pipeline(trained, tmp_path / "out", component="x")
    trained.add_pipe("bert_crf", name="second")
    with pytest.raises(BertCrfError, match="2 bert_crf components"):
        export_pipeline(trained, tmp_path / "out")
    with pytest.raises(BertCrfError, match="'second' is not trained"):
        export_pipeline(trained, tmp_path / "out", component="second")
    assert not (tmp_path / "out").exists()
    export_pipeline(trained, tmp_path / "out", component="bert_crf")
