"""Texts without annotation, and where they stand in a training config."""

import json

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.util import load_config, registry, resolve_dot_names

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.training.distillation.texts import WITH_TEXTS, add_texts, read_texts
from support.paths import CONFIG
from support.toys import TEXTS, make_examples


@pytest.fixture
def docs(tmp_path):
    nlp = spacy.blank("zh")
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "docs.spacy")
    return tmp_path / "docs.spacy"


@pytest.mark.parametrize(
    ("name", "content", "want"),
    [
        ("a.txt", "张三在北京。\n\n  李四 \n", ["张三在北京。", "李四"]),
        ("a.txt", "\ufeff张三\r\n李四\r\n", ["张三", "李四"]),
        ("columns.txt", "张 B-PER\n三 I-PER\n\n在 O\n", ["张三", "在"]),
        ("a.jsonl", '{"text": "张三", "meta": 1}\n\n{"text": "李四"}\n', ["张三", "李四"]),
        ("a.jsonl", '{"text": "张三", "label": [[0, 2, "PER"]]}\n', ["张三"]),
    ],
)
def test_texts_of_files(tmp_path, name, content, want):
    (tmp_path / name).write_text(content, encoding="utf8")
    assert read_texts(tmp_path / name) == want


def test_texts_of_a_docbin(docs):
    assert read_texts(docs) == [text for text, _ in TEXTS]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("none.txt", None, "there is no file .*none.txt"),
        ("empty.txt", b"\n \n", "empty.txt"),
        ("gbk.txt", "张三在北京。\n".encode("gb18030"), "gbk.txt:1: invalid UTF-8"),
        ("bad.spacy", b"no", "bad.spacy is no readable DocBin"),
        ("bad.jsonl", b'{"text": 1}\n', "bad.jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, match):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BertCrfError, match=match):
        read_texts(tmp_path / name)


def corpus_of(config, nlp):
    (corpus,) = resolve_dot_names(config.interpolate(), ["corpora.train"])
    return list(corpus(nlp))


def made(docs=None):
    config = load_config(CONFIG, interpolate=False)
    config["paths"] |= {"train": None if docs is None else str(docs), "dev": "dev.spacy"}
    return config


def test_the_corpus_comes_first_and_the_texts_have_no_annotation(tmp_path, docs):
    (tmp_path / "a.txt").write_text("张三在北京。\n李四\n", encoding="utf8")
    config, nlp = made(docs), spacy.blank("zh")
    add_texts(config, str(tmp_path / "a.txt"))
    examples = corpus_of(config, nlp)
    assert [eg.reference.text for eg in examples[len(TEXTS) :]] == ["张三在北京。", "李四"]
    is_known = [eg.reference.has_annotation("ENT_IOB") for eg in examples]
    assert is_known == [True] * len(TEXTS) + [False] * 2
    assert all(eg.predicted is not eg.reference for eg in examples)
    # The config of a distillation may be used for another one, with other texts or without.
    (tmp_path / "b.txt").write_text("王五\n", encoding="utf8")
    add_texts(config, str(tmp_path / "b.txt"))
    assert len(corpus_of(config, nlp)) == len(TEXTS) + 1
    add_texts(config, "")
    assert config["corpora"]["train"] == made(docs)["corpora"]["train"]


def test_texts_only_where_the_corpus_has_no_path(tmp_path):
    (tmp_path / "a.txt").write_text("李四\n", encoding="utf8")
    for config in (made(), made()):
        add_texts(config, str(tmp_path / "a.txt"))
        add_texts(config, str(tmp_path / "a.txt"))
        assert [eg.text for eg in corpus_of(config, spacy.blank("zh"))] == ["李四"]


@registry.readers("test_texts.Own.v1")
def create_own():
    return lambda nlp: iter(make_examples(nlp, TEXTS[:1]))


def test_a_reader_without_a_path_stays(tmp_path):
    (tmp_path / "a.txt").write_text("李四\n", encoding="utf8")
    config = made()
    config["corpora"]["train"] = {"@readers": "test_texts.Own.v1"}
    add_texts(config, str(tmp_path / "a.txt"))
    assert config["corpora"]["train"]["@readers"] == WITH_TEXTS
    assert [eg.text for eg in corpus_of(config, spacy.blank("zh"))] == [TEXTS[0][0], "李四"]


def test_a_config_without_a_training_corpus(tmp_path):
    config = made()
    config["training"]["train_corpus"] = "corpora.other"
    with pytest.raises(BertCrfError, match=r"no section \[corpora.other\]"):
        add_texts(config, "a.txt")


def test_records_without_a_text_are_read_as_a_corpus(tmp_path):
    record = {"tokens": ["张", "三"], "ner_tags": ["B-PER", "I-PER"]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n", encoding="utf8")
    assert [text.replace(" ", "") for text in read_texts(tmp_path / "a.jsonl")] == ["张三"]
