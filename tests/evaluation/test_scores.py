import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.evaluation.scores import score

LABELS = ("LOC", "ORG", "PER")


@st.composite
def corpus(draw):
    docs = []
    for _ in range(draw(st.integers(1, 5))):
        length = draw(st.integers(1, 15))
        pair = []
        for _ in range(2):
            spans, at = [], 0
            while at < length:
                if draw(st.booleans()):
                    end = draw(st.integers(at + 1, min(length, at + 3)))
                    spans.append((at, end, draw(st.sampled_from(LABELS))))
                    at = end
                else:
                    at += 1
            pair.append(spans)
        docs.append((*pair, length))
    return docs


@given(corpus())
def test_agrees_with_seqeval(docs):
    tags = TagSet(LABELS)

    def strings(spans, length):
        return [tags.tags[i] for i in tags.encode(spans, length)]

    scores = score(docs, "BIO")
    gold = [strings(g, n) for _, g, n in docs]
    predicted = [strings(p, n) for p, _, n in docs]
    if not scores.entities.gold and not scores.entities.predicted:
        return
    report = classification_report(
        gold, predicted, output_dict=True, mode="strict", scheme=IOB2, zero_division=0
    )
    for label, count in scores.per_type.items():
        for ours, theirs in (("p", "precision"), ("r", "recall"), ("f", "f1-score")):
            assert getattr(count, ours) == pytest.approx(report[label][theirs])
    for ours, theirs in (("p", "precision"), ("r", "recall"), ("f", "f1-score")):
        assert getattr(scores.entities, ours) == pytest.approx(report["micro avg"][theirs])
    # By token as the usual training scripts count: X, Y, Z over tags that are not O.
    flat = [(a, b) for p, g in zip(predicted, gold, strict=True) for a, b in zip(p, g, strict=True)]
    right = sum(a == b for a, b in flat if b != "O")
    made, there = sum(a != "O" for a, _ in flat), sum(b != "O" for _, b in flat)
    assert scores.tokens.f == pytest.approx(2 * right / (made + there))


def test_counts_and_table():
    pairs = [([(0, 2, "PER"), (3, 4, "LOC")], [(0, 2, "PER"), (3, 5, "LOC")], 6)]
    scores = score(pairs, "BIO")
    assert (scores.entities.p, scores.entities.r, scores.entities.f) == (0.5, 0.5, 0.5)
    assert (scores.tokens.right, scores.tokens.predicted, scores.tokens.gold) == (3, 3, 4)
    data = scores.to_dict()
    assert data["ents_per_type"]["PER"] == {"p": 1.0, "r": 1.0, "f": 1.0, "gold": 1}
    assert data["tokens_r"] == 0.75 and data["docs"] == 1
    assert "100.00" in scores.table("test") and "PER" in scores.table("test")


def test_gold_without_a_place_counts_as_missed():
    scores = score([([(0, 1, "PER")], [(0, 1, "PER"), (-1, 0, "LOC")], 3)], "BIO")
    assert scores.entities.r == 0.5 and scores.entities.p == 1.0


def test_nothing_at_all_is_zero():
    scores = score([([], [], 3)], "BIO")
    assert scores.to_dict()["ents_f"] == 0.0
