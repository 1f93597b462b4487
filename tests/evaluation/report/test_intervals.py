"""Bootstrap intervals: exact cases, the order of bounds, and a slow computation of one's own."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_bert_crf.evaluation.report.intervals import Interval, Intervals, bootstrap
from spacy_bert_crf.evaluation.scores import score

A, B = (0, 1, "A"), (0, 1, "B")
spans = st.lists(
    st.tuples(st.integers(0, 3), st.integers(4, 6), st.sampled_from("AB")), unique=True, max_size=3
)
corpora = st.lists(st.tuples(spans, spans), max_size=12)


def of(ours, gold):
    """Precision, recall and F1 from the counts of the scorer."""
    count = score([(*pair, 9) for pair in zip(ours, gold, strict=True)], "BIO").entities
    return count.p, count.r, count.f


def test_the_same_result_in_every_doc_leaves_no_doubt():
    found = bootstrap([([A, (3, 4, "A")], [A])] * 7)
    assert found[""] == found["A"]
    bounds = [(0.5, 0.5), (1.0, 1.0), (2 / 3, 2 / 3)]
    assert list(found[""]) == [pytest.approx(bound) for bound in bounds]


def test_bounds_of_a_coin_are_those_of_the_binomial():
    """Half of 100 docs are right: the 2.5 % and 97.5 % quantiles of B(100, 0.5) are 40 and 60."""
    low, high = bootstrap([([A], [A]), ([B], [A])] * 50)["A"].r
    assert low == pytest.approx(0.40, abs=0.011) and high == pytest.approx(0.60, abs=0.011)


def test_the_quantiles_are_those_of_resampled_corpora():
    """The same corpora, drawn one doc after the other and scored by `score`."""
    rng = random.Random(1)
    pairs = [
        ([(i, i + 1, rng.choice("AB")) for i in range(3)], [(i, i + 1, "A") for i in range(2)])
        for _ in range(40)
    ]
    values = []
    for _ in range(2000):
        drawn = rng.choices(pairs, k=len(pairs))
        values.append(of(*zip(*drawn, strict=True)))
    for found, each in zip(bootstrap(pairs)[""], zip(*values, strict=True), strict=True):
        ordered = sorted(each)
        assert found.low == pytest.approx(ordered[50], abs=0.02)
        assert found.high == pytest.approx(ordered[-51], abs=0.02)


@settings(max_examples=50)
@given(corpora)
def test_bounds_are_in_order_and_labels_are_complete(pairs):
    found = bootstrap(pairs)
    assert set(found) == {"", *(s[2] for pair in pairs for side in pair for s in side)}
    for each in found.values():
        assert isinstance(each, Intervals)
        assert all(0 <= low <= high <= 1 for low, high in each)
    assert found == bootstrap(pairs)


def test_one_doc_has_its_own_score_only_and_no_doc_has_none():
    pair = ([A, (2, 3, "A")], [A, (4, 5, "B")])
    assert [interval.low for interval in bootstrap([pair])[""]] == pytest.approx(
        list(of([pair[0]], [pair[1]]))
    )
    assert bootstrap([]) == {"": Intervals(*[Interval(0.0, 0.0)] * 3)}


def test_many_docs_are_drawn_in_parts(monkeypatch):
    """Parts bound the memory. They are draws of the same kind."""
    from spacy_bert_crf.evaluation.report import intervals

    pairs = [([A], [A]), ([B], [A])] * 50
    whole = bootstrap(pairs)["A"].r
    monkeypatch.setattr(intervals, "_CELLS", 1000)
    assert bootstrap(pairs)["A"].r == pytest.approx(whole, abs=0.021)
