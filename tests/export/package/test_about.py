"""The file that says what only the maker of a pipeline knows."""

import json

import pytest

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.package.about import About, check_about, read_about


def write(tmp_path, text):
    path = tmp_path / "package.yml"
    path.write_text(text, encoding="utf8")
    return path


def test_yaml_and_json_are_read(tmp_path):
    (tmp_path / "LICENSE").write_text("all rights", encoding="utf8")
    values = {"name": "names", "labels": {"PER": "人名"}, "limits": ["none"], "version": "1.0"}
    values |= {"license_file": "LICENSE"}
    expected = About(**{**values, "license_file": str(tmp_path / "LICENSE")})
    assert read_about(write(tmp_path, json.dumps(values))) == expected
    text = "name: names\nversion: '1.0'\nlabels: {PER: 人名}\nlimits:\n- none\nemail:\n"
    assert read_about(write(tmp_path, f"{text}license_file: LICENSE\n")) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour: x", ["colour", "license"]),
        ("- a", ["no keys"]),
        ("{", ["can't read"]),
        ("version: 0.1", ["version", "0.1", "quotes"]),
        ("limits: one", ["limits", "list"]),
        ("limits: [1]", ["limits", "list"]),
        ("labels: [PER]", ["labels"]),
        ("labels: {PER: 1}", ["labels"]),
        ("name: My-Names", ["My-Names", "small letters"]),
        ("name: a__b", ["a__b"]),
        ("name: 人名", ["人名"]),
        ("version: new", ["'new'", "0.1.0"]),
        ("license_file: NONE", ["NONE"]),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(BertCrfError) as caught:
        read_about(path)
    assert all(word in str(caught.value) for word in [*words, str(path)])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BertCrfError, match="none.yml"):
        read_about(tmp_path / "none.yml")


def test_values_from_python_are_checked_too():
    with pytest.raises(BertCrfError, match="'new'"):
        check_about(About(version="new"))
    check_about(About())
