"""The labels of all splits are compared with those of the profile before a training."""

import pytest
import spacy
from spacy.tokens import DocBin

from scripts.step import check_split
from spacy_bert_crf.errors import BertCrfError
from support.toys import make_examples


@pytest.fixture
def split(tmp_path):
    docs = [example.reference for example in make_examples(spacy.blank("zh"))]
    DocBin(docs=docs).to_disk(tmp_path / "test.spacy")
    return tmp_path / "test.spacy"


def test_known_labels_say_nothing(split, capsys):
    check_split(split, ["LOC", "ORG", "PER", "TIME"])
    assert capsys.readouterr().out == ""


def test_some_unknown_labels_are_named(split, capsys):
    check_split(split, ["LOC", "PER"])
    said = capsys.readouterr().out
    assert said.startswith("note: ") and "does not have: ORG." in said


def test_no_known_label_is_refused(split):
    with pytest.raises(BertCrfError, match="LOC, ORG, PER.*profile has loc, per"):
        check_split(split, ["loc", "per"])
