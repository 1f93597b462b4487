"""Probabilities, candidates, n-best and constrained decoding of the component, against enumeration
of all tag paths of short docs."""

import warnings

import numpy as np
import pytest
import torch
from spacy.tokens import Doc, Span

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model import crf_batches, layers
from spacy_bert_crf.model.crf_batches import _one_transfer
from support.predictions import SHORT, Truth, make_random
from support.toys import entities

CLOSE = {"rel": 1e-5, "abs": 1e-5}


@pytest.fixture(scope="module", params=["BIO", "BIOES"])
def soft(request, encoder_path):
    return make_random(encoder_path, request.param)


@pytest.fixture(scope="module", params=["BIO", "BIOES", "BIO free", "BIOES free"])
def any_soft(request, encoder_path):
    """The same, also without constraints, where several tag paths spell the same entities."""
    scheme, _, free = request.param.partition(" ")
    return make_random(encoder_path, scheme, constraints=not free)


@pytest.fixture
def random_nlp(encoder_path):
    return make_random(encoder_path)


def check(reading, truth, least):
    """A reading against the truth; `least` as in `read`."""
    log_p, tags, spans = truth.paths[0]
    assert reading.tags.tolist() == tags and [s.span for s in reading.entities] == spans
    assert reading.log_probability == pytest.approx(log_p, **CLOSE)
    assert reading.entropy == pytest.approx(truth.entropy, **CLOSE)
    for entity in (*reading.entities, *reading.candidates):
        assert entity.probability == pytest.approx(truth.entities[tuple(entity.span)], **CLOSE)
    want = sorted(e for e, p in truth.entities.items() if p >= least and e not in set(spans))
    assert [tuple(c.span) for c in reading.candidates] == (want if least else [])


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("least", [0.0, 0.003, 0.2])
def test_a_reading_equals_enumeration(any_soft, temperature, least):
    soft = any_soft
    pipe = soft.get_pipe("bert_crf")
    docs = [soft.make_doc(text) for text in SHORT]
    requested = [
        [(a, b, label) for a in range(len(doc)) for b in range(a + 1, len(doc) + 1)
         for label in pipe.labels]
        for doc in docs
    ]  # fmt: skip
    pipe.temperature = temperature
    readings = pipe.read(docs, candidates=least, requested=requested)
    pipe.temperature = 1.0
    n_candidates = 0
    for doc, reading, spans in zip(docs, readings, requested, strict=True):
        if not len(doc):
            assert (reading.log_probability, reading.entropy, reading.entities) == (0, 0, [])
            continue
        truth = Truth(pipe, doc, temperature)
        check(reading, truth, least)
        n_candidates += len(reading.candidates)
        for span, p in zip(spans, reading.requested, strict=True):
            assert p == pytest.approx(truth.entities[span], **CLOSE)
    assert bool(n_candidates) == bool(least)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_expected_numbers_equal_enumeration(any_soft, temperature):
    pipe = any_soft.get_pipe("bert_crf")
    docs = [any_soft.make_doc(text) for text in SHORT]
    pipe.temperature = temperature
    readings = pipe.read(docs, expected=True)
    pipe.temperature = 1.0
    label_of = {i: label for i, (_, label) in enumerate(pipe.tag_set.roles)}
    for doc, reading in zip(docs, readings, strict=True):
        if not len(doc):
            assert reading.expected_entities == reading.expected_wrong == 0
            continue
        truth = Truth(pipe, doc, temperature)
        want = sum(truth.entities.values())
        assert reading.expected_entities == pytest.approx(want, **CLOSE)
        best = truth.paths[0][1]
        wrong = sum(
            np.exp(log_p) * sum(label_of[a] != label_of[b] for a, b in zip(tags, best, strict=True))
            for log_p, tags, _ in truth.paths
        )
        assert reading.expected_wrong == pytest.approx(wrong, **CLOSE)
    assert sum(reading.expected_entities for reading in readings) > 1


@pytest.mark.parametrize("k", [1, 4, 1000])
def test_nbest_equals_enumeration(any_soft, k):
    soft = any_soft
    pipe = soft.get_pipe("bert_crf")
    docs = [soft.make_doc(text) for text in SHORT]
    for doc, found in zip(docs, pipe.nbest(docs, k), strict=True):
        if not len(doc):
            assert found == [((), 1.0)]
            continue
        truth = Truth(pipe, doc)
        assert len(found) == min(k, len(truth.paths))
        for (spans, p), (log_p, _, want) in zip(found, truth.paths, strict=False):
            assert p == pytest.approx(np.exp(log_p), **CLOSE)
            if not any(token.is_space for token in doc):  # which is trimmed
                assert [(s.start, s.end, s.label_) for s in spans] == want
        if len(truth.paths) <= k:
            assert sum(p for _, p in found) == pytest.approx(1.0, **CLOSE)
        if pipe.constraints and not any(token.is_space for token in doc):
            assert len({spans for spans, _ in found}) == len(found)
    with pytest.raises(BertCrfError, match="at least 1, not 0"):
        pipe.nbest(docs, 0)


def fixed(doc, case):
    """Put something on a doc; RETURNS: whether a path agrees with it."""
    spans = {
        "one": [(1, 2, "PER")],
        "two that touch": [(0, 2, "PER"), (2, 3, "PER")],
        "all": [(0, len(doc), "LOC")],
        "of another label": [(1, 3, "X")],
    }.get(case, [])
    blocked = [doc[1:2]] if case == "blocked" else []
    doc.set_ents([Span(doc, *span) for span in spans], blocked=blocked, default="missing")
    out = {i for start, end, label in spans if label == "X" for i in range(start, end)}
    out |= {span.start for span in blocked}
    known = {span for span in spans if span[2] != "X"}

    def keep(found, tags):
        return known <= {tuple(span) for span in found} and all(tags[i] == 0 for i in out)

    return keep


@pytest.mark.parametrize("case", ["one", "two that touch", "all", "of another label", "blocked"])
@pytest.mark.parametrize("text", SHORT[:3])
def test_what_is_on_the_doc_is_kept_exactly(soft, case, text):
    pipe = soft.get_pipe("bert_crf")
    doc, free = soft.make_doc(text), soft.make_doc("张三京")
    keep = fixed(doc, case)
    truth = Truth(pipe, doc, keep=keep)
    # In one batch with a doc that is free.
    reading, other = pipe.read([doc, free], candidates=0.01)
    check(reading, truth, 0.01)
    check(other, Truth(pipe, free), 0.01)
    assert [tags.tolist() for tags in pipe.predict([doc, free])] == [
        reading.tags.tolist(),
        other.tags.tolist(),
    ]
    # Not every tag of the free path may stay; and all paths there are sum to 1.
    (paths,) = pipe.nbest([doc], 10_000)
    assert len(paths) == len(truth.paths)
    before = entities(doc)
    unknown = [span for span in before if span[2] == "X"]
    assert all(set(before) <= {(s.start, s.end, s.label_) for s in p.entities} for p in paths)
    pipe.set_annotations([doc], pipe.predict([doc]))
    assert entities(doc) == sorted([*map(tuple, truth.paths[0][2]), *unknown])
    if case == "blocked":
        assert doc[1].ent_iob_ == "B" and doc[1].ent_type_ == ""


def test_without_constrain_to_ents_prediction_is_free(encoder_path):
    nlp = make_random(encoder_path, constrain_to_ents=False)
    pipe = nlp.get_pipe("bert_crf")
    doc = nlp.make_doc(SHORT[0])
    want = pipe.predict([doc])[0].tolist()
    fixed(doc, "all")
    assert pipe.predict([doc])[0].tolist() == want
    check(pipe.read([doc])[0], Truth(pipe, doc), 0.0)


@pytest.mark.parametrize("labels", [["PER"], {"LOC"}, (), ["LOC", "PER"], None])
@pytest.mark.parametrize("text", SHORT[:3])
def test_allowed_labels_of_a_doc(soft, labels, text):
    pipe = soft.get_pipe("bert_crf")
    doc, free = soft.make_doc(text), soft.make_doc("张三京")
    doc._.bert_crf_labels = labels
    wanted = set(pipe.labels if labels is None else labels)
    truth = Truth(pipe, doc, keep=lambda spans, _: {s.label for s in spans} <= wanted)
    reading, other = pipe.read([doc, free], candidates=0.01)
    check(reading, truth, 0.01)
    check(other, Truth(pipe, free), 0.01)
    assert pipe.predict([doc])[0].tolist() == truth.paths[0][1]
    # An entity on the doc counts for more.
    fixed(doc, "one")
    (tags,) = pipe.predict([doc])
    assert (1, 2, "PER") in pipe.tag_set.decode(tags.tolist())


@pytest.mark.parametrize("labels, match", [("PER", "give a list"), (["PER", "X"], "has X")])
def test_bad_allowed_labels_are_refused(random_nlp, labels, match):
    doc = random_nlp.make_doc("张三")
    doc._.bert_crf_labels = labels
    with pytest.raises(BertCrfError, match=match):
        random_nlp.get_pipe("bert_crf").predict([doc])


@pytest.mark.parametrize("scores", [False, True])
def test_where_no_path_is_left_the_sets_are(random_nlp, scores):
    """Only with scores of -inf, as a foreign model may have."""
    pipe = random_nlp.get_pipe("bert_crf")
    pipe.scores = scores
    doc = random_nlp.make_doc("张三在")
    with torch.no_grad():
        layers.head_of(pipe.model).module.crf.start_transitions[0] = -torch.inf
    free = random_nlp.make_doc("张三在")
    doc._.bert_crf_labels = []
    assert len(pipe.nbest([doc], 3)[0]) == 3
    with pytest.warns(UserWarning, match="1 of the docs.*without these restrictions.*once"):
        pipe.set_annotations([doc, free], pipe.predict([doc, free]))
    assert entities(doc) == entities(free) != []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe.predict([doc])


def test_only_the_best_path_is_computed_when_all_is_off(random_nlp, monkeypatch):
    pipe = random_nlp.get_pipe("bert_crf")
    restricted = []
    decode = crf_batches.decode

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    def spy(crf, emissions, allowed=()):
        restricted.append(any(own is not None for own in allowed))
        return decode(crf, emissions, allowed)

    monkeypatch.setattr("spacy_bert_crf.component.reading.read", refuse)
    monkeypatch.setattr("spacy_bert_crf.model.crf_batches.decode", spy)
    docs = list(random_nlp.pipe(SHORT))
    assert not any(doc.spans or doc.user_data for doc in docs)
    for setting, value in (("scores", True), ("candidates", 0.1), ("threshold", 0.1)):
        old = getattr(pipe, setting)
        setattr(pipe, setting, value)
        with pytest.raises(AssertionError, match="computed"):
            random_nlp(SHORT[0])
        setattr(pipe, setting, old)
    assert restricted and not any(restricted)
    doc = random_nlp.make_doc("张三在")
    fixed(doc, "one")
    pipe.predict([doc])
    assert restricted[-1]


def test_requested_labels_must_be_known(random_nlp):
    doc = random_nlp.make_doc("张三")
    with pytest.raises(BertCrfError, match="no labels ORG"):
        random_nlp.get_pipe("bert_crf").read([doc], requested=[[(0, 1, "ORG")]])


def test_an_unknown_doc_is_no_annotated_one(random_nlp):
    """Docs that are annotated as without entities are free."""
    pipe = random_nlp.get_pipe("bert_crf")
    doc: Doc = random_nlp.make_doc(SHORT[0])
    want = pipe.predict([doc])[0].tolist()
    doc.set_ents([], default="outside")
    assert pipe.predict([doc])[0].tolist() == want


def test_what_leaves_another_device_in_one_transfer():
    tags = torch.tensor([[0, 3, 41]])
    tensors = [tags, torch.tensor([-torch.inf, 0.5]), torch.zeros(0), torch.rand(2, 3, 4)]
    for array, tensor in zip(_one_transfer(tensors), tensors, strict=True):
        assert array.shape == tuple(tensor.shape)
        np.testing.assert_array_equal(array, tensor.numpy())
