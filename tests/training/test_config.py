"""Configs for any language, and what `train` refuses before it reads anything."""

import json

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.util import load_config, load_model_from_config
from thinc.api import Config

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.training.checks import read_sources
from spacy_bert_crf.training.config import fill_config, make_config, schedule
from spacy_bert_crf.training.loop import train
from spacy_bert_crf.training.state import difference, fingerprint
from support.commands import cli
from support.paths import CONFIG
from support.toys import ENGLISH, TEXTS, make_examples

NAME = "components.bert_crf.model.tok2vec.name"


def docbin(path, lang, data):
    docs = [example.reference for example in make_examples(spacy.blank(lang), data)]
    DocBin(docs=docs).to_disk(path)
    return path


def test_the_projects_config_is_what_make_config_makes():
    """To write it again, put the text below the comment at its head."""
    made = make_config(lang="zh", labels="corpus/labels/bert_crf.json").to_str(interpolate=False)
    text = CONFIG.read_text(encoding="utf8")
    assert "".join(line for line in text.splitlines(True) if line[0] != "#").strip() == made.strip()


@pytest.mark.parametrize("lang, text, tokens", [
    ("en", "Anna's city.", ["Anna", "'s", "city", "."]),
    ("zh", "王小明在", ["王", "小", "明", "在"]),
    ("de", "Die Stadt", ["Die", "Stadt"]),
])  # fmt: skip
def test_the_tokenizer_follows_the_language(lang, text, tokens):
    nlp = load_model_from_config(make_config(lang=lang, encoder="e", scheme="BMES"))
    assert nlp.lang == lang and [token.text for token in nlp.make_doc(text)] == tokens
    assert nlp.config["components"]["bert_crf"]["scheme"] == "BMES"


def test_epochs_fall_and_batches_grow_with_the_corpus():
    plans = [schedule(n) for n in (1, 100, 101, 500, 1000, 1001, 2500, 2501, 5000, 5001, 10**6)]
    assert plans == sorted(plans, key=lambda plan: (-plan[0], plan[1]))
    assert schedule(500) == (10, 8) and schedule(1350) == (10, 16) and schedule(10**6) == (3, 16)
    config = make_config(lang="en", sentences=500)
    assert config["training"]["max_epochs"] == 10 and config["training"]["batcher"]["size"] == 8


def test_settings_take_precedence():
    config = make_config(
        lang="en",
        sentences=500,
        settings={"training.max_epochs": 2, "components.bert_crf.annotated_share": 0.5},
    )
    assert config["training"]["max_epochs"] == 2
    assert config["components"]["bert_crf"]["annotated_share"] == 0.5


@pytest.mark.parametrize("arguments, message", [
    ({"lang": "qq"}, "no language 'qq'"),
    ({"lang": "en", "settings": {"components.bert_crf.foo": 1}}, r"bert_crf\.foo: unexpected"),
    ({"lang": "en", "settings": {"no.such": 1}}, "settings do not fit"),
])  # fmt: skip
def test_what_does_not_fit_is_said(arguments, message):
    with pytest.raises(BertCrfError, match=message):
        make_config(**arguments)


def test_init_config_then_train(encoder_path, tmp_path):
    data, out = docbin(tmp_path / "d.spacy", "en", ENGLISH), tmp_path / "a.cfg"
    words = ("--lang", "en", "--encoder", encoder_path, "--train", data, "--dev", data)
    text = cli("init-config", out, *words, "--training.max_epochs", 2)
    assert "2 epochs, batches of 4 for 4 training texts" in text
    assert "already" in cli("init-config", out, *words, code=1)
    text = cli("train", out, tmp_path / "out")
    assert "learning rate of the encoder (width 16, 2 layers): 0.001, by its width" in text
    assert "what was left out: --encoder" in cli("init-config", tmp_path / "b.cfg", "--lang", "en")


def test_origin_and_license_of_the_texts_reach_the_pipeline_and_its_export(encoder_path, tmp_path):
    data, out = docbin(tmp_path / "d.spacy", "en", ENGLISH), tmp_path / "a.cfg"
    words = ("--lang", "en", "--encoder", encoder_path, "--train", data, "--dev", data)
    cli("init-config", out, *words, "--training.max_epochs", 1)
    sources, path = [{"name": "letters", "license": "MIT"}], tmp_path / "sources.json"
    path.write_text(json.dumps(sources), encoding="utf8")
    cli("train", out, tmp_path / "out", "--paths.sources", path)
    meta = json.loads((tmp_path / "out/model-best/meta.json").read_text(encoding="utf8"))
    assert meta["sources"] == sources
    cli("export", tmp_path / "out/model-best", tmp_path / "export")
    info = json.loads((tmp_path / "export/best_model.json").read_text(encoding="utf8"))
    assert info["sources"] == sources
    # They may be corrected before a training goes on.
    old = fingerprint(load_config(out, overrides={"paths.sources": str(path)}), [])
    path.write_text("[]", encoding="utf8")
    new = fingerprint(load_config(out, overrides={"paths.sources": str(path)}), [])
    assert not difference(old, new)


@pytest.mark.parametrize("content, message", [
    (None, r"can't read .*sources.json, the setting paths.sources"),
    ("{", r"can't read .*sources.json, the setting paths.sources"),
    ('{"name": "letters"}', "None is no source"),
    ('["letters"]', "'letters' is no source"),
    ('[{"license": "MIT"}]', "is no source"),
    ('[{"name": "letters", "license": 1}]', "is no source"),
])  # fmt: skip
def test_sources_that_can_not_be_read(content, message, tmp_path):
    path = tmp_path / "sources.json"
    if content is not None:
        path.write_text(content, encoding="utf8")
    with pytest.raises(BertCrfError, match=message):
        read_sources(Config({"paths": {"sources": str(path)}}))
    assert read_sources(Config({"paths": {"sources": None}})) == read_sources(Config()) == []


def test_a_template_takes_the_tokenizer_of_another_language(encoder_path):
    config, _ = fill_config(
        CONFIG, encoder=encoder_path, train="", dev="", labels="", seed=0, max_epochs=1, lang="en"
    )
    assert [t.text for t in load_model_from_config(config).make_doc("a city")] == ["a", "city"]


@pytest.mark.parametrize("sentences, limits, expected", [
    (500, (0, 0), schedule(500)),
    (90, (0, 0), schedule(90)),
    (0, (0, 0), (0, 16)),
    (500, (3, 0), (3, 16)),
    (500, (0, 40), (0, 16)),
])  # fmt: skip
def test_a_template_without_a_length_follows_the_size_of_the_corpus(
    encoder_path, sentences, limits, expected
):
    config, shown = fill_config(
        CONFIG, encoder=encoder_path, train="", dev="", labels="", seed=0, max_epochs=limits[0],
        max_steps=limits[1], sentences=sentences,
    )  # fmt: skip
    training = config["training"]
    assert (training["max_epochs"], training["batcher"]["size"]) == expected
    assert shown["training.max_epochs"] == expected[0]
    config, _ = fill_config(
        CONFIG, encoder=encoder_path, train="", dev="", labels="", seed=0, max_epochs=0,
        sentences=500, settings={"training.batcher.size": 3},
    )  # fmt: skip
    assert config["training"]["batcher"]["size"] == 3


@pytest.mark.parametrize("lang, name, words", [
    ("en", "spacy.zh.ChineseTokenizer", "'en'.*ChineseTokenizer is that of the language 'zh'"),
    ("zh", "spacy.Tokenizer.v1", "'zh'.*Tokenizer.v1 divides text at spaces"),
    ("zh", "spacy.ja.JapaneseTokenizer", "'zh'.*JapaneseTokenizer is that of the language 'ja'"),
])  # fmt: skip
def test_a_tokenizer_of_another_language_is_refused(tmp_path, lang, name, words):
    config = load_config(CONFIG, interpolate=False)
    config["nlp"] |= {"lang": lang, "tokenizer": {"@tokenizers": name}}
    with pytest.raises(BertCrfError, match=rf"(?s){words}.*init-config --lang {lang}"):
        train(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encoder_without_a_name_is_an_error_that_says_what_to_set(tmp_path):
    data = docbin(tmp_path / "d.spacy", "zh", TEXTS)
    with pytest.raises(BertCrfError, match=r"tok2vec\] name to the folder"):
        train(make_config(lang="zh", train=str(data), dev=str(data)), tmp_path / "out")


def test_an_interrupted_run_is_not_replaced_unasked(encoder_path, tmp_path):
    data, out = docbin(tmp_path / "d.spacy", "zh", TEXTS), tmp_path / "out"
    config = make_config(lang="zh", encoder=str(encoder_path), train=str(data), dev=str(data))
    config["training"]["max_epochs"] = 1
    (out / "state").mkdir(parents=True)
    (out / "state" / "state.json").write_text("{}", encoding="utf8")
    with pytest.raises(BertCrfError, match=r"interrupted training.*--resume.*--overwrite"):
        train(config, out)
    assert not (out / "model-last").exists()
    config.to_disk(tmp_path / "c.cfg")
    assert "--overwrite" in cli("train", tmp_path / "c.cfg", out, code=1)
    assert train(config, out, overwrite=True)["complete"]
    assert not (out / "state").exists()
