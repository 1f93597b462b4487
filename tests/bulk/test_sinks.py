"""Formats of the output: what is written is read again, and damage is found."""

import gzip
import json

import pyarrow.parquet as pq
import pytest
import spacy
from spacy.tokens import DocBin, Span

from spacy_bert_crf.bulk.rows import AnnotatedRow, Entity, Row
from spacy_bert_crf.bulk.sinks import SINKS, find_sink
from spacy_bert_crf.bulk.sinks.sink import Content
from spacy_bert_crf.errors import BertCrfError

META = {"input": "0a", "set_apart": [{"id": "王", "where": "a:1", "reason": "“x”\0"}]}


def content(per_entity=False, scores=False, keep=("year", "text")):
    nlp = spacy.blank("en")
    rows = []
    for key, text, year in (("a", "Apple in Berlin", 1998), ("b", "王", [1, None])):
        doc = nlp.make_doc(text)
        entities = []
        if key == "a":
            doc.ents = [Span(doc, 0, 1, "ORG"), Span(doc, 2, 3, "LOC")]
            entities = [Entity(0, 5, "ORG", "Apple", 0.5), Entity(9, 15, "LOC", "Berlin", 0.25)]
        values = {"year": year, "text": text}
        fields = {name: values[name] for name in keep}
        rows.append(AnnotatedRow(Row(key, text, "a:1", fields), entities, doc))
    return Content(rows, keep, per_entity, scores, META)


def write(tmp_path, name, **options):
    sink = find_sink(name)
    path = tmp_path / f"x{sink.suffix}"
    sink.write(path, content(**options))
    return sink, path


@pytest.mark.parametrize("name", SINKS)
def test_metadata_and_ids_are_read_again(tmp_path, name):
    sink, path = write(tmp_path, name)
    assert sink.read_meta(path) == META
    assert list(sink.read_ids(path)) == ["a", "b"]


@pytest.mark.parametrize("name", SINKS)
def test_equal_content_is_equal_bytes(tmp_path, name):
    _, path = write(tmp_path, name)
    first = path.read_bytes()
    _, path = write(tmp_path, name)
    assert path.read_bytes() == first


@pytest.mark.parametrize("name", SINKS)
def test_damage_is_an_error(tmp_path, name):
    sink, path = write(tmp_path, name)
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"", whole[:30] + bytes(10) + whole[40:]):
        path.write_bytes(data)
        with pytest.raises(Exception):  # noqa: B017
            sink.read_meta(path)
            list(sink.read_ids(path))


def test_parquet_has_a_list_of_entities(tmp_path):
    _, path = write(tmp_path, "parquet", scores=True)
    first, second = pq.read_table(path).to_pylist()
    assert first == {
        "id": "a",
        "year": "1998",
        "text": "Apple in Berlin",
        "entities": [
            {"start": 0, "end": 5, "label": "ORG", "text": "Apple", "probability": 0.5},
            {"start": 9, "end": 15, "label": "LOC", "text": "Berlin", "probability": 0.25},
        ],
    }
    assert second == {"id": "b", "year": "[1, null]", "text": "王", "entities": []}


def test_parquet_may_have_a_row_for_each_entity(tmp_path):
    _, path = write(tmp_path, "parquet", per_entity=True)
    rows = pq.read_table(path).to_pylist()
    assert [(r["id"], r["start"], r["label"], r["entity"], r["text"]) for r in rows] == [
        ("a", 0, "ORG", "Apple", "Apple in Berlin"),
        ("a", 9, "LOC", "Berlin", "Apple in Berlin"),
    ]
    assert "probability" not in rows[0]


def test_json_lines_are_read_by_gzip(tmp_path):
    _, path = write(tmp_path, "jsonl", scores=True)
    first, second = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
    assert first["entities"][1] == {
        "start": 9, "end": 15, "label": "LOC", "text": "Berlin", "probability": 0.25,
    }  # fmt: skip
    assert second == {"id": "b", "year": [1, None], "text": "王", "entities": []}
    _, path = write(tmp_path, "jsonl", per_entity=True)
    rows = [*map(json.loads, gzip.decompress(path.read_bytes()).splitlines())]
    assert [row["entity"] for row in rows] == ["Apple", "Berlin"]


def test_docbin_is_read_by_spacy(tmp_path):
    _, path = write(tmp_path, "spacy")
    docs = list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))
    assert [doc.text for doc in docs] == ["Apple in Berlin", "王"]
    assert [(ent.text, ent.label_) for ent in docs[0].ents] == [("Apple", "ORG"), ("Berlin", "LOC")]
    assert docs[1].user_data == {"id": "b", "year": (1, None), "text": "王"}


def test_an_unknown_format_is_an_error():
    with pytest.raises(BertCrfError, match="'xml' is not known: use parquet, jsonl, spacy"):
        find_sink("xml")
