"""What sources agree on: properties that hold for all opinions, and cases that show the rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.silver.agreement import (
    AGAINST,
    FOR,
    Agreement,
    Opinion,
    Rule,
    agree,
    unions,
)

LABELS = ("PER", "LOC", "ORG")
N_TOKENS = 12
ALL = Rule.of("all")


def spans(label=st.sampled_from(LABELS)):
    return st.tuples(st.integers(0, N_TOKENS - 1), st.integers(1, 4), label).map(
        lambda span: (span[0], min(span[0] + span[1], N_TOKENS), span[2])
    )


def apart(found):
    """Those that overlap none before them."""
    kept = []
    for span in found:
        if all(span[0] >= other[1] or other[0] >= span[1] for other in kept):
            kept.append(span)
    return tuple(sorted(kept))


opinions = st.builds(
    Opinion,
    st.lists(spans(), max_size=5).map(apart),
    st.none() | st.frozensets(st.sampled_from(LABELS)),
    st.lists(spans().map(lambda span: span[:2]), max_size=2).map(tuple),
    st.frozensets(spans(), max_size=2),
    st.booleans(),
)
rules = st.sampled_from(["all", "majority", "1", "2", "2.5"]).map(Rule.of)
several = st.lists(st.none() | opinions, min_size=1, max_size=4).filter(any)
weighted = st.lists(
    st.tuples(st.none() | opinions, st.sampled_from([0.5, 1.0, 3.0, 0.1])), min_size=1, max_size=4
).filter(lambda pairs: any(opinion for opinion, _ in pairs))


@given(
    st.lists(spans(), max_size=5).map(apart), st.sampled_from(["all", "majority", "1"]).map(Rule.of)
)
def test_a_source_alone_that_covers_all_is_the_annotation(entities, rule):
    assert agree([Opinion(entities)], rule) == Agreement(entities, (), (), None)


@given(opinions, st.integers(1, 4))
def test_sources_that_say_the_same_are_one(opinion, times):
    assert agree([opinion] * times, ALL) == agree([opinion], ALL)


@given(several, rules)
def test_entities_are_apart_in_order_and_said_by_a_source(said, rule):
    found = agree(said, rule)
    assert apart(found.entities) == found.entities
    assert set(found.entities) <= {span for each in said if each for span in each.entities}


@given(several, rules)
def test_unknown_tokens_are_exactly_those_of_disagreement(said, rule):
    found = agree(said, rule)
    inside = {i for start, end, _ in found.entities for i in range(start, end)}
    # A token is in doubt where a source has another entity than the annotation, or is in doubt.
    doubted = set()
    for each in filter(None, said):
        for span in each.entities:
            if span not in found.entities:
                doubted |= set(range(span[0], span[1]))
        for start, end in each.doubts:
            doubted |= set(range(start, end))
    assert set(found.unknown) == doubted - inside
    assert list(found.unknown) == sorted(set(found.unknown))


@given(several)
def test_nobody_is_against_an_entity_of_all(said):
    for span in agree(said, ALL).entities:
        assert {each.stance(span) for each in said if each} <= {FOR, 0}


@given(several)
def test_where_all_agree_on_nothing_it_is_outside(said):
    silent = [each and Opinion((), each.covers) for each in said]
    found = agree(silent, ALL)
    assert found.entities == found.unknown == found.doubts == ()


@given(weighted, rules, st.randoms())
def test_the_order_of_sources_does_not_matter(pairs, rule, random):
    shuffled = random.sample(pairs, len(pairs))
    assert agree(*unzip(pairs, rule)) == agree(*unzip(shuffled, rule))


def unzip(pairs, rule):
    said, weights = zip(*pairs, strict=True)
    return said, rule, weights


@given(several, rules)
def test_a_failed_source_is_as_if_it_was_not_there(said, rule):
    assert agree([*said, None], rule) == agree(said, rule)


@given(st.lists(spans().map(lambda span: span[:2])))
def test_unions_are_apart_and_have_the_same_tokens(parts):
    found = unions(parts)
    tokens = [i for start, end in found for i in range(start, end)]
    assert sorted({i for start, end in parts for i in range(start, end)}) == tokens


# Cases


A = Opinion(((0, 2, "PER"), (4, 6, "LOC")))


@pytest.mark.parametrize(
    ("other", "entities", "unknown"),
    [
        (((0, 2, "PER"), (4, 6, "LOC")), ((0, 2, "PER"), (4, 6, "LOC")), ()),
        (((0, 2, "PER"),), ((0, 2, "PER"),), (4, 5)),  # one has none
        (((0, 2, "PER"), (4, 8, "LOC")), ((0, 2, "PER"),), (4, 5, 6, 7)),  # other borders
        (((0, 2, "PER"), (4, 6, "ORG")), ((0, 2, "PER"),), (4, 5)),  # another label
    ],
)
def test_disagreements_are_unknown(other, entities, unknown):
    found = agree([A, Opinion(other)])
    assert (found.entities, found.unknown, found.covers) == (entities, unknown, None)


def test_silence_counts_only_where_a_label_is_covered():
    places, names = Opinion((), frozenset({"LOC"})), Opinion((), frozenset())
    assert agree([A, places]).entities == ((0, 2, "PER"),)
    assert agree([A, names]).entities == A.entities
    assert agree([places, names]).covers == {"LOC"}
    assert agree([Opinion(A.entities, frozenset())]).covers == frozenset()


def test_a_name_of_another_label_is_against_a_label_that_is_not_covered():
    other = Opinion(((4, 6, "WORK"),), frozenset({"WORK"}))
    assert agree([A, other]).entities == ((0, 2, "PER"),)


def test_a_name_may_be_a_part_of_a_longer_entity():
    names = Opinion(((0, 1, "LOC"), (4, 6, "ORG")), frozenset(), parts=True)
    found = agree([A, names])
    # The first name is in a person; the second has the borders of a place and another label.
    assert found == Agreement(((0, 2, "PER"),), ((4, 6),), (4, 5), None)
    assert agree([A, Opinion(names.entities, frozenset())]).entities == ()
    longer = Opinion(((0, 3, "PER"),), frozenset(), parts=True)
    assert agree([A, longer]).unknown == (0, 1, 2)


def test_what_is_denied_or_in_doubt():
    denied = Opinion((), frozenset(), (), frozenset({(4, 6, "LOC")}))
    assert denied.stance((4, 6, "LOC")) == AGAINST and denied.stance((4, 6, "PER")) == 0
    assert agree([A, denied]).unknown == (4, 5)
    unsure = Opinion((), None, ((3, 5),))
    found = agree([A, unsure])
    assert found.entities == ((4, 6, "LOC"),) and found.unknown == (0, 1, 3)


@pytest.mark.parametrize(
    ("rule", "weights", "entities"),
    [
        ("all", (1, 1, 1), ()),
        ("majority", (1, 1, 1), ((0, 2, "PER"),)),
        ("majority", (1, 1, 2), ()),
        ("majority", (1, 1, 2.5), ((0, 3, "PER"),)),
        ("2", (1, 1, 1), ((0, 2, "PER"),)),
        ("3", (1, 1, 1), ()),
        ("1", (1, 1, 1), ()),  # both would be entities
    ],
)
def test_rules_and_weights(rule, weights, entities):
    said = [Opinion(((0, 2, "PER"),)), Opinion(((0, 2, "PER"),)), Opinion(((0, 3, "PER"),))]
    found = agree(said, Rule.of(rule), weights)
    assert found.entities == entities
    assert {i for s, e, _ in found.entities for i in range(s, e)} | set(found.unknown) == {0, 1, 2}


@pytest.mark.parametrize("text", ["", "most", "0", "-1", "nan", "inf"])
def test_an_unknown_rule_is_refused(text):
    with pytest.raises(BertCrfError, match="majority"):
        Rule.of(text)
