import json
import xml.etree.ElementTree as ET
from collections import Counter

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import DocBin, Span

from spacy_bert_crf.evaluation.evaluate import evaluate
from spacy_bert_crf.evaluation.figures import confusion_picture
from spacy_bert_crf.evaluation.scores import (
    LONG,
    SHIFTED,
    SHORT,
    Confusion,
    confusion,
    match,
    score,
)
from support.commands import cli
from support.toys import make_examples

LABELS = ("LOC", "ORG", "PER")


def one(predicted, gold):
    return confusion([(predicted, gold)])


@pytest.mark.parametrize(
    ("gold", "predicted", "where"),
    [
        ((2, 5, "PER"), (2, 5, "PER"), ("same_span", ("PER", "PER"))),
        ((2, 5, "PER"), (2, 5, "ORG"), ("same_span", ("PER", "ORG"))),
        ((2, 5, "PER"), (3, 5, "PER"), ("borders", ("PER", SHORT))),
        ((2, 5, "PER"), (2, 4, "PER"), ("borders", ("PER", SHORT))),
        ((2, 5, "PER"), (2, 6, "PER"), ("borders", ("PER", LONG))),
        ((2, 5, "PER"), (1, 6, "PER"), ("borders", ("PER", LONG))),
        ((2, 5, "PER"), (4, 6, "PER"), ("borders", ("PER", SHIFTED))),
        ((2, 5, "PER"), (1, 3, "PER"), ("borders", ("PER", SHIFTED))),
        ((2, 5, "PER"), (4, 6, "ORG"), ("overlapping", ("PER", "ORG"))),
    ],
)
def test_a_pair_is_in_one_class(gold, predicted, where):
    found = one([predicted], [gold])
    assert getattr(found, where[0]) == Counter({where[1]: 1})
    assert found.gold == found.predicted == 1
    assert not found.missed and not found.spurious


def test_neighbours_do_not_overlap():
    found = one([(2, 4, "PER")], [(0, 2, "PER"), (4, 6, "PER")])
    assert found.missed == Counter(PER=2) and found.spurious == Counter(PER=1)


def test_the_better_partner_is_taken():
    # One long entity over two gold ones: the one that shares more is its partner.
    found = one([(0, 6, "ORG")], [(0, 2, "ORG"), (2, 6, "ORG")])
    pairs, missed, spurious = match([(0, 6, "ORG")], [(0, 2, "ORG"), (2, 6, "ORG")])
    assert pairs == [((2, 6, "ORG"), (0, 6, "ORG"))] and missed == [(0, 2, "ORG")] and not spurious
    assert found.borders == Counter({("ORG", LONG): 1}) and found.missed == Counter(ORG=1)
    # The right label counts for more than what is shared.
    found = one([(0, 6, "ORG")], [(0, 2, "ORG"), (2, 6, "PER")])
    assert found.borders == Counter({("ORG", LONG): 1}) and found.missed == Counter(PER=1)
    # Two short ones in a gold one: the second is spurious.
    found = one([(0, 2, "PER"), (2, 5, "PER")], [(0, 5, "PER")])
    assert found.borders == Counter({("PER", SHORT): 1}) and found.spurious == Counter(PER=1)


def spans(draw_from):
    """Entities of a doc that do not overlap."""

    def build(marks):
        out, at = [], 0
        for gap, length, label in marks:
            out.append((at + gap, at + gap + length, label))
            at += gap + length
        return out

    return st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 4), st.sampled_from(draw_from)), max_size=6
    ).map(build)


@given(st.lists(st.tuples(spans(LABELS), spans(LABELS)), max_size=4))
def test_sums_add_up(docs):
    found = confusion(docs)
    told = found.to_dict()
    paired = (
        told["exact"] + told["same_span_other_label"] + told["other_borders_other_label"]
        + sum(told["other_borders_same_label"].values())
    )  # fmt: skip
    assert paired + told["missed"] == told["gold"] == sum(len(gold) for _, gold in docs)
    assert paired + told["spurious"] == told["predicted"] == sum(len(ours) for ours, _ in docs)
    scores = score(((ours, gold, 99) for ours, gold in docs), "BIO")
    assert told["exact"] == scores.entities.right
    for label in LABELS:
        of_gold = (
            sum(told["same_span_by_label"].get(label, {}).values())
            + sum(told["borders_by_label"].get(label, {}).values())
            + sum(told["overlapping_by_label"].get(label, {}).values())
            + told["missed_by_label"].get(label, 0)
        )
        assert of_gold == scores.per_type[label].gold
    for ours, gold in docs:
        pairs, missed, spurious = match(ours, gold)
        assert sorted([a for a, _ in pairs] + missed) == sorted(gold)
        assert sorted([b for _, b in pairs] + spurious) == sorted(ours)
        assert not any(a < d and c < b for a, b, _ in missed for c, d, _ in spurious)


def numbers(picture):
    root = ET.fromstring(picture)
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    return Counter(int(text) for text in texts if text.isdigit())


def test_the_picture_tells_all_numbers():
    found = Confusion(
        Counter({("A<&", "A<&"): 101, ("A<&", "人名"): 102, ("人名", "人名"): 103}),
        Counter({("人名", SHORT): 104, ("人名", LONG): 105, ("A<&", SHIFTED): 106}),
        Counter({("A<&", "人名"): 107}),
        Counter({"人名": 108}),
        Counter({"A<&": 109}),
    )
    picture = confusion_picture(found, "a < b & c")
    cells = [101, 102, 103, 106 + 107, 104 + 105, 108, 109]
    assert numbers(picture) == Counter([*cells, 104, 105, 106, 107])
    assert "a &lt; b &amp; c" in picture and picture == confusion_picture(found, "a < b & c")


def test_the_picture_of_nothing_can_be_drawn():
    assert numbers(confusion_picture(Confusion(), "nothing")) == Counter({0: 4})


def test_evaluate_tells_confusion(trained_path, tmp_path):
    nlp = spacy.load(trained_path)
    docs = [example.reference for example in make_examples(nlp)]
    docs[0].ents = [Span(docs[0], 0, 3, label="ORG"), Span(docs[0], 6, 9, label="LOC")]
    DocBin(docs=docs).to_disk(tmp_path / "d.spacy")
    text = cli(
        "evaluate", trained_path, tmp_path / "d.spacy", "--confusion", tmp_path / "c.svg",
        "--output", tmp_path / "m.json", "--dev", tmp_path / "d.spacy",
    )  # fmt: skip
    metrics = json.loads((tmp_path / "m.json").read_text("utf8"))
    told = metrics["confusion"]
    assert told == metrics["dev"]["confusion"]
    assert told["same_span_by_label"]["ORG"]["PER"] == 1
    assert told["other_borders_same_label"] == {SHORT: 1, LONG: 0, SHIFTED: 0}
    assert told["spurious_by_label"] == {"ORG": 1} and told["missed"] == 0
    assert told["gold"] == sum(len(doc.ents) for doc in docs)
    assert "same span, other label" in text
    assert f"{told['gold']} gold entities" in (tmp_path / "c.svg").read_text("utf8")
    assert "confusion" not in evaluate(nlp, docs).to_dict()


def test_predictions_where_gold_is_unknown_are_left_out(trained):
    from spacy_bert_crf.evaluation.evaluate import aligned_spans

    gold = trained.make_doc("张三和李四都喜欢南京。")
    gold.set_ents([Span(gold, 0, 2, label="PER")], default="missing")
    ours = trained(gold.text)
    assert len(ours.ents) == 3
    found = confusion((a, b) for a, b, _ in aligned_spans([ours], [gold]))
    assert (found.exact, found.gold, found.predicted) == (1, 1, 1)


def test_another_kind_of_picture_is_refused(trained_path, tmp_path):
    text = cli(
        "evaluate", trained_path, tmp_path / "d.spacy", "--confusion", tmp_path / "c.png", code=1
    )
    assert "must be an .svg" in text and not (tmp_path / "c.png").exists()
