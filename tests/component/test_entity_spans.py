"""Spellings of entities against a reading of all tag sequences."""

import itertools
import sys

import numpy as np
import pytest
import torch

from spacy_bert_crf.annotation.schemes import EntitySpan, Role, TagSet
from spacy_bert_crf.component import entity_spans
from spacy_bert_crf.component.entity_spans import candidate_spans, spellings
from support.toys import TEXTS


def spelled(tags, tag_set, span, constrained):
    """The spellings of a span that a tag sequence has there, by the definition of Spelling."""
    begin, inside = tag_set.ids[Role.BEGIN, span.label], tag_set.ids[Role.INSIDE, span.label]
    continuing = {inside} | ({tag_set.ids[Role.LAST, span.label]} if tag_set.has_last else set())
    found = []
    for ids, opens, closes in spellings(tag_set, span.end - span.start, span.label, constrained):
        before = tags[span.start - 1] if span.start else 0
        after = tags[span.end] if span.end < len(tags) else 0
        is_there = list(tags[span.start : span.end]) == ids
        is_apart = (opens or before not in (begin, inside)) and (closes or after not in continuing)
        if is_there and is_apart:
            found.append(ids)
    return found


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_a_sequence_has_an_entity_if_it_has_one_of_its_spellings(scheme, constrained):
    tag_set = TagSet(("A", "B"), scheme)
    n, length = len(tag_set.tags), 4
    start, end, pairs = tag_set.legal()
    spans = [
        EntitySpan(a, b, label)
        for a in range(length) for b in range(a + 1, length + 1) for label in tag_set.labels
    ]  # fmt: skip
    seen = 0
    for tags in itertools.product(range(n), repeat=length):
        legal = start[tags[0]] and end[tags[-1]]
        legal = legal and all(pairs[a][b] for a, b in itertools.pairwise(tags))
        if constrained and not legal:
            continue
        entities = tag_set.decode(tags)
        for span in spans:
            assert len(spelled(tags, tag_set, span, constrained)) == (span in entities)
            seen += span in entities
    assert seen > 100


def test_candidates_are_found_where_marginals_allow_them():
    tag_set = TagSet(("A",), "BIO")
    marginals = np.array([[0.1, 0.9, 0.0], [0.2, 0.1, 0.7], [0.95, 0.0, 0.05]], dtype=np.float32)
    found = {least: candidate_spans(marginals, tag_set, least) for least in (0.5, 0.25, 0.04)}
    assert found[0.5] == [EntitySpan(0, 2, "A")]
    assert found[0.25] == [EntitySpan(0, 1, "A"), EntitySpan(0, 2, "A")]
    assert EntitySpan(0, 3, "A") in found[0.04] and EntitySpan(1, 2, "A") in found[0.04]
    assert EntitySpan(2, 3, "A") not in found[0.04]


def test_what_the_device_needs_is_one_copy(trained, monkeypatch):
    """Each array that becomes a tensor is a copy to the device."""
    tables = []
    real = torch.from_numpy
    spans = [[(0, 3, "PER"), (6, 8, "LOC"), (0, 1, "ORG")], []]
    docs = [trained.make_doc(text) for text, _ in TEXTS[:2]]
    pipe = trained.get_pipe("bert_crf")
    want = pipe.read(docs, requested=spans)

    def from_numpy(array):
        if sys._getframe(1).f_globals["__name__"] == entity_spans.__name__:
            tables.append(array)
        return real(array)

    monkeypatch.setattr(torch, "from_numpy", from_numpy)
    assert [each.requested for each in pipe.read(docs, requested=spans)] == [
        each.requested for each in want
    ]
    assert len(tables) == 1
