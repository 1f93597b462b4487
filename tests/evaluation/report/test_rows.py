"""The sentences of a report: kinds of errors, probabilities, and their order."""

import math

import pytest
import spacy
from spacy.tokens import Doc

from spacy_bert_crf.evaluation.evaluate import evaluate
from spacy_bert_crf.evaluation.report.entities import KINDS, RIGHT, UNKNOWN, Entity, Row
from spacy_bert_crf.evaluation.report.make import make_report
from support.toys import TEXTS

TEXT, GOLD = TEXTS[0]  # 王小明 PER 昨天在 北京 LOC 参观了 清华大学 ORG


def annotated(nlp, entities, text=TEXT):
    doc = nlp.make_doc(text)
    doc.ents = [doc.char_span(*entity) for entity in entities]
    return doc


def kinds(entities):
    return [(e.start, e.end, e.label, e.kind) for e in entities]


@pytest.fixture
def row_of(trained):
    """The sentence of the first text, whose entities the pipeline finds, with another gold."""

    def make(*entities):
        (row,) = make_report(trained, [annotated(trained, entities)]).rows
        assert [(e.start, e.end, e.label) for e in row.predicted] == GOLD
        return row

    return make


def test_all_right(row_of):
    row = row_of(*GOLD)
    assert kinds(row.gold) == kinds(row.predicted) == [(*span, RIGHT) for span in GOLD]
    assert row.surprise == 0
    for gold, predicted in zip(row.gold, row.predicted, strict=True):
        assert gold.probability == predicted.probability and 0 < gold.probability <= 1


@pytest.mark.parametrize(
    "gold, kind",
    [
        ((6, 8, "ORG"), "other label"),
        ((5, 8, "LOC"), "too short"),
        ((6, 7, "LOC"), "too long"),
        ((7, 9, "LOC"), "shifted"),
        ((7, 9, "ORG"), "other borders and label"),
    ],
)
def test_a_pair_has_one_kind(row_of, gold, kind):
    row = row_of(GOLD[0], gold, GOLD[2])
    assert kinds(row.gold) == [(*GOLD[0], RIGHT), (*gold, kind), (*GOLD[2], RIGHT)]
    assert kinds(row.predicted) == [(*GOLD[0], RIGHT), (*GOLD[1], kind), (*GOLD[2], RIGHT)]
    assert kind in KINDS and row.surprise > 0


def test_missed_and_spurious(row_of):
    row = row_of((3, 5, "LOC"), *GOLD[1:])
    assert kinds(row.gold)[0] == (3, 5, "LOC", "missed")
    assert kinds(row.predicted)[0] == (*GOLD[0], "spurious")


def test_gold_that_is_not_known_is_no_error(trained):
    doc = trained.make_doc(TEXT)
    doc.set_ents([doc.char_span(*GOLD[1])], default="missing")
    (row,) = make_report(trained, [doc]).rows
    assert kinds(row.predicted) == [(*GOLD[0], UNKNOWN), (*GOLD[1], RIGHT), (*GOLD[2], UNKNOWN)]
    assert row.surprise == 0


def test_a_missed_entity_has_the_probability_of_the_crf(trained, row_of):
    row = row_of((3, 5, "LOC"), *GOLD[1:])
    (reading,) = trained.get_pipe("bert_crf").read(
        [trained.make_doc(TEXT)], requested=[[(3, 5, "LOC")]]
    )
    assert row.gold[0].probability == pytest.approx(reading.requested[0])


def test_a_label_that_the_pipeline_does_not_have_has_no_probability(trained):
    doc = annotated(trained, [(3, 5, "TIME"), *GOLD])
    with pytest.warns(UserWarning, match=r"TIME \(1 entity\).*These entities count as missed"):
        report = make_report(trained, [doc])
    assert report.unknown_labels == {"TIME": 1}
    (entity,) = [e for e in report.rows[0].gold if e.kind != RIGHT]
    assert (entity.label, entity.kind, entity.probability) == ("TIME", "missed", None)


def test_gold_that_cuts_a_token_is_missed(trained):
    text = TEXTS[3][0]  # "1998" is one token here
    words = ["1", "998", *text[4:]]
    doc = Doc(trained.vocab, words=words, spaces=[False] * len(words))
    doc.ents = [spacy.tokens.Span(doc, 0, 1, label="PER")]
    (row,) = make_report(trained, [doc]).rows
    assert kinds(row.gold) == [(0, 1, "PER", "missed")]


def test_errors_are_those_of_the_confusion_matrix(trained):
    docs = [
        annotated(trained, [(0, 2, "PER"), (6, 8, "ORG"), (8, 10, "LOC")]),
        annotated(trained, [(0, 4, "ORG"), (9, 10, "PER")], TEXTS[1][0]),
        annotated(trained, [], TEXTS[2][0]),
    ]
    report = make_report(trained, docs)
    counts = evaluate(trained, docs, confusion=True).confusion
    gold = [e.kind for row in report.rows for e in row.gold]
    spurious = [e.kind for row in report.rows for e in row.predicted].count("spurious")
    assert gold.count(RIGHT) == counts.exact
    assert gold.count("missed") == sum(counts.missed.values()) > 0
    assert spurious == sum(counts.spurious.values()) > 0
    assert len(gold) == counts.gold


def test_surprise_is_the_sum_of_the_costs():
    gold = [Entity(0, 1, "A", "missed", 0.25), Entity(2, 3, "A", RIGHT, 0.1)]
    predicted = [Entity(4, 5, "A", "spurious", 0.9), Entity(6, 7, "A", "too long")]
    expected = -math.log(0.25) - math.log(0.1) - math.log(0.5)
    assert Row(0, "", gold, predicted).surprise == pytest.approx(expected)
    certain = Row(0, "", [], [Entity(0, 1, "A", "spurious", 1.0)])
    assert math.isfinite(certain.surprise) and certain.surprise > 10


def test_the_worst_sentence_is_first_and_ties_keep_the_order_of_the_corpus(trained):
    docs = [
        annotated(trained, GOLD),
        annotated(trained, GOLD[:2]),
        annotated(trained, GOLD),
        annotated(trained, []),
    ]
    rows = make_report(trained, docs).rows
    assert [row.number for row in rows] == [3, 1, 0, 2]
    assert [row.surprise for row in rows] == sorted((r.surprise for r in rows), reverse=True)


def test_an_empty_doc_is_a_sentence(trained):
    rows = make_report(trained, [trained.make_doc(""), annotated(trained, GOLD)]).rows
    assert {row.number: (row.text, len(row.gold)) for row in rows} == {0: ("", 0), 1: (TEXT, 3)}
