"""Likelihood and gradient of docs that cover some of the labels, against enumeration.

The truth is computed from the entities of each path and never from tags: a path is right if its
entities of covered labels are those of gold, wherever the annotation is known.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_bert_crf.annotation.gold import Gold
from spacy_bert_crf.component.decoding.chains import trainable
from spacy_bert_crf.component.decoding.words import breaks
from spacy_bert_crf.component.settings import Settings

from .test_chains import NLP, Truth, make

LABELS = ("X", "Y")
TEXTS = ["张三京", "在AB", "京", "李四"]
SCHEMES = ["BIO", "BIOES", "BMES", "BILUO"]


def is_right(gold, spans):
    """Whether a path with these entities may be the annotation of a doc with this gold."""
    others = [span for span in spans if span not in gold.spans]
    return set(gold.spans) <= set(spans) and not any(
        gold.is_covered(label) and gold.known[start:end].any() for start, end, label in others
    )


@st.composite
def golds(draw, length):
    spans, at = [], 0
    while at < length and draw(st.booleans()):
        start = draw(st.integers(at, length - 1))
        at = draw(st.integers(start + 1, length))
        spans.append((start, at, draw(st.sampled_from(LABELS))))
    known = np.array(draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    known |= draw(st.booleans())
    for start, end, _ in spans:
        known[start:end] = True
    covers = draw(st.none() | st.frozensets(st.sampled_from([*LABELS, "Z"])))
    return Gold(spans, known, [], covers)


@settings(max_examples=12)
@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("scheme", SCHEMES)
@given(data=st.data(), seed=st.integers(0, 99))
def test_the_likelihood_of_mixed_coverage_equals_enumeration(scheme, share, data, seed):
    chains = make(scheme, LABELS, seed=seed, scale=0.7)
    docs = [NLP.make_doc(text) for text in TEXTS]
    random = np.random.default_rng(seed)
    rows = [
        random.normal(size=(len(doc), len(chains.tags.tags))).astype(np.float32) for doc in docs
    ]
    own = [data.draw(golds(len(doc))) for doc in docs]
    words = chains.words(docs)
    options = Settings(constrain_training=True, annotated_share=share)
    allowed = chains.gold(own, words)
    members = trainable(allowed)
    if not members:
        return
    total, sides, weight = 0.0, [None] * len(docs), np.log1p(-share)
    for i in members:
        whole = None if words[i] is None or breaks(own[i].spans, words[i]) else words[i]
        truth = sides[i] = Truth(chains, whole, rows[i])
        right = []
        for score, spans in zip(truth.score, truth.spans, strict=True):
            if is_right(own[i], spans):
                # An entity of a covered label that is not annotated has a weight below one.
                missing = [s for s in spans if s not in own[i].spans and own[i].is_covered(s[2])]
                right.append(score + weight * len(missing))
        total = total + truth.log_z - torch.logsumexp(torch.stack(right), 0)
    n = len(members)
    (total / n).backward()
    loss, gradient = chains.likelihood(rows, allowed, options, n)
    np.testing.assert_allclose(float(loss), total.item() / n, rtol=1e-5, atol=1e-6)
    for truth, got in zip(sides, gradient.split(), strict=True):
        want = np.zeros_like(got) if truth is None else truth.rows.grad.numpy()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    for k, p in enumerate(chains.crf.parameters()):
        want = sum((t.start, t.end, t.pairs)[k].grad for t in sides if t is not None)
        np.testing.assert_allclose(p.grad.numpy(), want.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_covering_all_labels_is_covering_as_ever(scheme):
    chains = make(scheme, LABELS, seed=3)
    rows = [np.random.default_rng(0).normal(size=(4, len(chains.tags.tags))).astype(np.float32)]
    plain = Gold([(0, 2, "X")], np.ones(4, dtype=bool), [])
    losses = [
        float(chains.likelihood(rows, chains.gold([gold]), Settings())[0])
        for gold in (plain, plain._replace(covers=frozenset(LABELS)))
    ]
    assert losses[0] == losses[1]
    part = chains.gold([plain._replace(covers=frozenset("X"))])
    assert float(chains.likelihood(rows, part, Settings())[0]) < losses[0]
    nothing = chains.gold([Gold([], np.ones(4, dtype=bool), [], frozenset())])
    assert trainable(nothing) == []
