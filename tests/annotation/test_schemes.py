import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert_crf.annotation.schemes import SCHEMES, Role, TagSet, split_tag, tag_set_from_tags
from spacy_bert_crf.errors import BertCrfError

LABELS = ("LOC", "PER.NOM", "A-B")


@st.composite
def spans_of_text(draw):
    """(spans, length): entities that do not overlap, adjacent ones included."""
    length = draw(st.integers(0, 20))
    spans, at = [], 0
    while at < length:
        if draw(st.booleans()):
            end = draw(st.integers(at + 1, min(length, at + 4)))
            spans.append((at, end, draw(st.sampled_from(LABELS))))
            at = end
        else:
            at += 1
    return spans, length


@given(data=spans_of_text(), scheme=st.sampled_from(sorted(SCHEMES)))
def test_spans_survive_the_round_trip_and_are_legal(data, scheme):
    spans, length = data
    tags = TagSet(LABELS, scheme)
    ids = tags.encode(spans, length)
    assert tags.decode(ids) == spans
    if ids:
        assert tags.legal()[0][ids[0]] and tags.legal()[1][ids[-1]]
    legal = tags.legal()[2]
    assert all(legal[a][b] for a, b in itertools.pairwise(ids))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_legal_sequences_are_exactly_those_of_some_spans(scheme):
    tags = TagSet(("X", "Y"), scheme)
    start, end, legal = tags.legal()
    for path in itertools.product(range(len(tags.tags)), repeat=3):
        allowed = start[path[0]] and end[path[-1]]
        allowed = allowed and all(legal[a][b] for a, b in itertools.pairwise(path))
        assert allowed == (tags.encode(tags.decode(path), 3) == list(path))


def test_tags_stand_in_the_order_of_the_contract():
    tags = TagSet(("LOC", "PER", "ORG"))
    want = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER", "B-ORG", "I-ORG"]
    assert list(tags.tags) == want
    assert tag_set_from_tags(want, "BIO") == tags
    assert TagSet(("X",), "BIOES").tags == ("O", "B-X", "I-X", "E-X", "S-X")
    assert TagSet(("X",), "BMES").ids[Role.INSIDE, "X"] == 2


def test_unconstrained_sequences_are_read_as_conlleval_does():
    tags = TagSet(("X", "Y"))
    assert tags.decode([2, 2, 4, 0, 4]) == [(0, 2, "X"), (2, 3, "Y"), (4, 5, "Y")]
    bioes = TagSet(("X",), "BIOES")
    assert bioes.decode([1, 0, 3, 2]) == [(0, 1, "X"), (2, 3, "X"), (3, 4, "X")]


def test_tags_that_leave_an_entity_as_it_is():
    tags = TagSet(("X", "Y"))
    closing = dict(zip(tags.tags, tags.closing("X"), strict=True))
    assert closing == {"O": True, "B-X": True, "I-X": False, "B-Y": True, "I-Y": True}
    assert all(TagSet(("X", "Y"), "BIOES").closing("X"))  # its last tag says it all


def test_only_the_first_hyphen_counts():
    assert split_tag("B-A-B") == ("B", "A-B")
    assert split_tag("O") == ("O", "")
    for bad in ("B", "B-", "-X", ""):
        with pytest.raises(BertCrfError, match="neither O nor"):
            split_tag(bad)


@pytest.mark.parametrize(
    "labels, scheme, message",
    [(("X",), "IOB", "BIO"), (("X", "X"), "BIO", "twice"), (("",), "BIO", "empty")],
)
def test_bad_tag_sets_are_refused(labels, scheme, message):
    with pytest.raises(BertCrfError, match=message):
        TagSet(labels, scheme)


@pytest.mark.parametrize(
    "span, message",
    [((2, 2, "X"), "outside"), ((0, 9, "X"), "outside"), ((0, 2, "Z"), "not among")],
)
def test_bad_spans_are_refused(span, message):
    with pytest.raises(BertCrfError, match=message):
        TagSet(("X",)).encode([span], 5)
    with pytest.raises(BertCrfError, match="overlaps"):
        TagSet(("X",)).encode([(0, 3, "X"), (2, 4, "X")], 5)


def test_tags_that_fit_no_scheme_are_refused():
    with pytest.raises(BertCrfError, match="not those of scheme"):
        tag_set_from_tags(["O", "I-X", "B-X"], "BIO")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_entity_begins_or_ends_inside_of_an_entity_or_outside(scheme):
    """By the entities of any two tags, legal or not."""
    tags = TagSet(("X", "Y"), scheme)
    inside = tags.inside()
    for a, b in itertools.product(range(len(tags.tags)), repeat=2):
        borders = {edge for span in tags.decode([a, b]) for edge in (span.start, span.end)}
        assert inside[a][b] == (1 not in borders), (tags.tags[a], tags.tags[b])


@given(data=st.data(), scheme=st.sampled_from(sorted(SCHEMES)))
def test_entities_begin_where_decoding_says_so(data, scheme):
    """In any sequence of tags, also one that is not legal."""
    tags = TagSet(LABELS, scheme)
    path = data.draw(st.lists(st.integers(0, len(tags.tags) - 1), min_size=1, max_size=12))
    begun, labels = tags.begun(), tags.label_ids()
    found = [0] if path[0] else []
    found += [i for i in range(1, len(path)) if begun[path[i - 1]][path[i]]]
    assert found == [span.start for span in tags.decode(path)]
    assert [("", *LABELS)[labels[tag]] for tag in path] == [tags.roles[tag][1] for tag in path]
