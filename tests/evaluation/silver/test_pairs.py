"""Sources compared two by two."""

from collections import Counter

import pytest

from spacy_bert_crf.evaluation.silver.agreement import Opinion, agree
from spacy_bert_crf.evaluation.silver.pairs import (
    BORDERS,
    FIRST,
    LABEL,
    SAME,
    SECOND,
    compare,
    disagreements,
)

FIRST_ONE = Opinion(((0, 2, "PER"), (4, 6, "LOC")))


@pytest.mark.parametrize(
    ("other", "want"),
    [
        (((0, 2, "PER"), (4, 6, "LOC")), [("LOC", SAME), ("PER", SAME)]),
        (((0, 2, "PER"),), [("LOC", FIRST), ("PER", SAME)]),
        ((*FIRST_ONE.entities, (8, 9, "ORG")), [("LOC", SAME), ("ORG", SECOND), ("PER", SAME)]),
        (((0, 3, "PER"), (4, 6, "LOC")), [("LOC", SAME), ("PER", BORDERS)]),
        (((0, 2, "ORG"), (4, 6, "LOC")), [("LOC", SAME), ("ORG", LABEL), ("PER", LABEL)]),
        (((0, 3, "ORG"), (4, 6, "LOC")), [("LOC", SAME), ("ORG", BORDERS), ("PER", BORDERS)]),
    ],
)
def test_each_span_has_a_kind(other, want):
    assert sorted(compare(FIRST_ONE, Opinion(other))) == want
    swapped = {FIRST: SECOND, SECOND: FIRST}
    back = compare(Opinion(other), FIRST_ONE)
    assert sorted((label, swapped.get(kind, kind)) for label, kind in back) == want


def test_where_a_source_says_nothing_there_is_nothing_to_compare():
    names = Opinion(((0, 2, "PER"),), frozenset())
    assert Counter(compare(FIRST_ONE, names)) == {("PER", SAME): 1}
    assert list(compare(FIRST_ONE, Opinion((), None, ((0, 8),)))) == []
    parts = Opinion(((0, 1, "LOC"),), frozenset(), parts=True)
    assert list(compare(FIRST_ONE, parts)) == list(compare(parts, FIRST_ONE)) == []


def test_a_disagreement_has_what_each_source_says_there():
    other = Opinion(((4, 8, "ORG"),))
    said = [FIRST_ONE, None, other]
    found = disagreements(said, agree(said))
    assert found == [(0, 2, (((0, 2, "PER"),), None, ())), (4, 8, (((4, 6, "LOC"),), None,
                                                                  ((4, 8, "ORG"),)))]  # fmt: skip
