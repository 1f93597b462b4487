"""Generated documents written in each format and read again: the same entities."""

import json

import pytest
import spacy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spacy_bert_crf.annotation.convert import convert_corpus
from spacy_bert_crf.annotation.formats import (
    FORMATS,
    AnnotatedText,
    Entity,
    detect_format,
    read_corpus,
    to_docs,
    write_corpus,
)
from support.formats import read_docs

WRITABLE = [name for name, each in FORMATS.items() if each.write]
#: Emoji (also of several code points), combining marks, CJK in and above the BMP, Latin, Arabic.
PIECES = [
    "😀",
    "👨‍👩‍👧",
    "🇨🇳",
    "e\u0301",
    "o\u0302\u0323",
    "北京",
    "𠀀",
    "中",
    "，",
    "Paris",
    "a",
    "İ",
    "ß",
]
PIECES += ["م", "हि", '"', "\\", "'", ",", "|", "#", "{", "&", "\u200d", "\ufe0f", "1998"]
GAPS = [" ", " ", "", "", "。", "\u3000", "\xa0"]
LABELS = ["LOC", "PER.NOM", "人", "A-b-c", "X_1"]


@st.composite
def documents(draw):
    """An annotated text whose entities have no whitespace at their ends."""
    text, entities = "", []
    for piece, label, gap in draw(
        st.lists(
            st.tuples(
                st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join),
                st.none() | st.sampled_from(LABELS),
                st.sampled_from(GAPS),
            ),
            min_size=1,
            max_size=5,
        )
    ):
        if label:
            entities.append(Entity(len(text), len(text) + len(piece), label))
        text += piece + gap
    return AnnotatedText(text, entities)


corpora = st.lists(documents(), min_size=1, max_size=3)
slow = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def content(texts):
    return [(item.text, item.entities, item.partial) for item in texts]


@pytest.mark.parametrize("name", WRITABLE)
@slow
@given(corpora)
def test_out_and_in_and_out_again(tmp_path_factory, name, texts):
    folder = tmp_path_factory.mktemp("trip")
    write_corpus(folder / "one", texts, name, join="")
    if any(item.entities for item in texts):
        # Without entities JSON-MIN looks like doccano.
        assert detect_format(folder / "one") == name
    first = read_corpus(folder / "one", format=name, join="")
    assert content(first.texts) == content(texts)
    assert first.problems == []
    write_corpus(folder / "two", first.texts, name, join="")
    assert content(read_corpus(folder / "two", format=name, join="").texts) == content(texts)


@slow
@given(corpora, st.sampled_from([name for name in WRITABLE if name not in ("columns", "brat")]))
def test_documents_and_partial_annotation_are_kept(tmp_path_factory, texts, name):
    folder = tmp_path_factory.mktemp("trip")
    for index, item in enumerate(texts):
        item.partial, item.document = index % 2 == 0, f"d{index}"
    write_corpus(folder / "one", texts, name, join="")
    again = read_corpus(folder / "one", format=name, join="").texts
    assert content(again) == content(texts)
    assert [item.document for item in again] == [item.document for item in texts]


@pytest.mark.parametrize("name", WRITABLE)
@slow
@given(corpora)
def test_docbin_to_a_format_and_back(tmp_path_factory, name, texts):
    folder = tmp_path_factory.mktemp("trip")
    docs, problems = to_docs(spacy.blank("zh"), texts)
    spacy.tokens.DocBin(docs=docs, store_user_data=False).to_disk(folder / "in.spacy")
    expected = [(d.text, [(e.start_char, e.end_char, e.label_) for e in d.ents]) for d in docs]
    convert_corpus(folder / "in.spacy", folder / "out", to=name, join="")
    convert_corpus(folder / "out", folder / "again.spacy", format=name, join="")
    assert read_docs(folder / "again.spacy") == expected


def units(text, entities, unit):
    """Entities in another unit of offsets."""

    def length(part):
        return len(part.encode("utf-16-le")) // 2 if unit == "UTF-16 units" else len(part.encode())

    return [[length(text[:s]), length(text[:e]), label] for s, e, label in entities]


@pytest.mark.parametrize("unit", ["UTF-16 units", "UTF-8 bytes"])
@slow
@given(corpora)
def test_other_units_are_recognised_and_said(tmp_path_factory, unit, texts):
    # The first document fits in no other unit.
    texts = [AnnotatedText("😀😀北京", [Entity(2, 4, "LOC")]), *texts]
    path = tmp_path_factory.mktemp("units") / "a.jsonl"
    records = [{"text": t.text, "label": units(t.text, t.entities, unit)} for t in texts]
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf8")
    corpus = read_corpus(path)
    assert content(corpus.texts) == content(texts)
    assert corpus.details["offsets"] == unit
    assert [p.message for p in corpus.problems] == [
        f"the offsets count {unit}; they were converted"
    ]


@slow
@given(documents(), st.sampled_from(["utf-16", "bytes"]))
def test_recorded_texts_show_the_unit_even_if_offsets_lie_inside(tmp_path_factory, item, kind):
    unit = {"utf-16": "UTF-16 units", "bytes": "UTF-8 bytes"}[kind]
    # The first entity occurs once, so that its offsets fit in one unit only.
    text = "😀Qx" + item.text + " and a long end that all offsets lie in" * 20
    entities = [Entity(1, 2, "Q")]
    entities += [Entity(s + 3, e + 3, label) for s, e, label in item.entities]
    moved = units(text, entities, unit)
    result = [
        {"value": {"start": s, "end": e, "text": text[a:b], "labels": [label]}}
        for (a, b, label), (s, e, _) in zip(entities, moved, strict=True)
    ]
    path = tmp_path_factory.mktemp("units") / "a.json"
    path.write_text(json.dumps([{"data": {"text": text}, "annotations": [{"result": result}]}]))
    assert read_corpus(path).texts[0].entities == entities
