"""The annotated texts of other kinds in assets/quickstart/kinds."""

import json
from collections import Counter
from pathlib import Path

import pytest
import spacy

from scripts.sentences import read_sentences
from spacy_bert_crf.annotation.convert import convert_corpus
from spacy_bert_crf.annotation.docbin import read_docs

QUICKSTART = Path(__file__).parents[2] / "assets" / "quickstart"
KINDS = ("address", "chat", "court", "resume", "science", "sport")
#: So many characters in a row count as a copy.
COPIED = 13


def read_kind(kind: str) -> list[dict]:
    lines = (QUICKSTART / "kinds" / f"{kind}.jsonl").read_text(encoding="utf8").splitlines()
    return [json.loads(line) for line in lines]


def grams(text: str) -> set[str]:
    return {text[at : at + COPIED] for at in range(len(text) - COPIED + 1)}


def test_kinds_are_complete():
    assert {path.stem for path in (QUICKSTART / "kinds").glob("*.jsonl")} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_kind_has_varied_texts(kind):
    rows = read_kind(kind)
    assert len(rows) >= 60
    assert all(6 <= len(row["text"]) <= 120 for row in rows)
    without = sum(not row["label"] for row in rows)
    assert len(rows) / 6 <= without <= len(rows) / 3
    labels = Counter(label for row in rows for _, _, label in row["label"])
    assert set(labels) == {"LOC", "ORG", "PER"}
    assert min(labels.values()) >= 10


@pytest.mark.parametrize("kind", KINDS)
def test_spans_are_clean(kind):
    for row in read_kind(kind):
        at = 0
        for start, end, _ in row["label"]:
            assert at <= start < end <= len(row["text"]), row
            name = row["text"][start:end]
            assert name == name.strip(), row
            at = end


def test_no_text_twice():
    texts = [row["text"] for kind in KINDS for row in read_kind(kind)]
    assert len(set(texts)) == len(texts)


def test_no_text_shares_characters_with_sentences():
    written = set()
    for folder in (QUICKSTART / "sentences", QUICKSTART / "sentences" / "train"):
        for sentences in read_sentences(folder).values():
            for parts in sentences:
                written |= grams("".join(part.text for part in parts))
    shared = {
        gram for kind in KINDS for row in read_kind(kind) for gram in grams(row["text"]) & written
    }
    assert len(written) > 10_000
    assert not shared


@pytest.mark.parametrize("kind", KINDS)
def test_convert_corpus_reads_kind(kind, tmp_path):
    rows = read_kind(kind)
    out = tmp_path / "kind.spacy"
    convert_corpus(QUICKSTART / "kinds" / f"{kind}.jsonl", out)
    docs = read_docs(out, spacy.blank("zh"))
    assert [doc.text for doc in docs] == [row["text"] for row in rows]
    for doc, row in zip(docs, rows, strict=True):
        spans = [[ent.start_char, ent.end_char, ent.label_] for ent in doc.ents]
        assert spans == row["label"]
