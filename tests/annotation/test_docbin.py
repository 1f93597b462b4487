"""DocBins that are damaged or hostile."""

import pickle
import zlib

import pytest
import spacy
import srsly
from spacy.tokens import DocBin
from spacy.vocab import Vocab

from spacy_bert_crf.annotation import docbin
from spacy_bert_crf.annotation.docbin import check_docbin, read_docbin
from spacy_bert_crf.errors import BertCrfError
from support.toys import entities, make_examples


@pytest.fixture
def whole(tmp_path):
    nlp = spacy.blank("zh")
    docs = [eg.reference for eg in make_examples(nlp)]
    docs.append(nlp.make_doc(""))
    docs[0].spans["group"] = [docs[0][0:3]]
    DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / "a.spacy")
    return docs


def test_a_whole_one(whole, tmp_path):
    read = list(read_docbin(tmp_path / "a.spacy", Vocab()))
    assert [doc.text for doc in read] == [doc.text for doc in whole]
    assert [entities(doc) for doc in read] == [entities(doc) for doc in whole]
    assert check_docbin(tmp_path / "a.spacy") == (tmp_path / "a.spacy").read_bytes()


def refused(path, match):
    with pytest.raises(BertCrfError, match=rf"{path.name} .*{match}.*make it again"):
        list(read_docbin(path, Vocab()))


def test_damaged_bytes(whole, tmp_path):
    path = tmp_path / "a.spacy"
    data = path.read_bytes()
    for bad in (b"", data[:-5], data[: len(data) // 2], b"<html>", data[:50] + b"x" + data[51:]):
        path.write_bytes(bad)
        refused(path, "")
    path.write_bytes(zlib.compress(pickle.dumps({"attrs": []})))
    refused(path, "")


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"lengths": b"\1\0\0\0"}, "fewer or more"),
        ({"lengths": b"\xff\xff\xff\xff" * 9}, "negative length"),
        ({"lengths": b"\1"}, "cut short"),
        ({"tokens": b""}, "fewer or more"),
        ({"spaces": b"\1"}, "fewer or more"),
        ({"strings": []}, "not in the file"),
        ({"attrs": []}, "attributes"),
        ({"attrs": ["ORTH"]}, "attributes"),
        ({"flags": []}, "flags of 0 docs for 9"),
        ({"span_groups": [b"x"] * 9}, ""),
    ],
)
def test_parts_that_do_not_fit(whole, tmp_path, changes, match):
    path = tmp_path / "a.spacy"
    parts = srsly.msgpack_loads(zlib.decompress(path.read_bytes()))
    path.write_bytes(zlib.compress(srsly.msgpack_dumps({**parts, **changes})))
    refused(path, match)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(docbin, "MAX_UNPACKED", 1000)
    path = tmp_path / "a.spacy"
    path.write_bytes(zlib.compress(bytes(10_000_000)))
    refused(path, "unpacks to more than")


def test_one_that_is_not_there(tmp_path):
    with pytest.raises(BertCrfError, match="there is no corpus .*none.spacy"):
        check_docbin(tmp_path / "none.spacy")
    with pytest.raises(BertCrfError, match="can't read"):
        check_docbin(tmp_path)
