"""Decoding, probabilities, n-best and likelihood with whole words, against enumeration."""

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span

from spacy_bert_crf.annotation.gold import Gold
from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.component.decoding.chains import Chains
from spacy_bert_crf.component.decoding.words import breaks
from spacy_bert_crf.component.doc_entities import register_labels
from spacy_bert_crf.component.settings import Settings
from spacy_bert_crf.crf.linear_chain import LinearChainCRF

NLP = spacy.blank("zh")
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
TEXTS = ["AB", "在AB", "A京1", "CEO张", "在F-1", "张三", "A", "", "AB C", "中1.5"]
schemes = pytest.mark.parametrize("scheme", ["BIO", "BIOES", "BMES", "BILUO"])


def make(scheme, labels=("X",), seed=0, scale=1.5, **settings):
    torch.manual_seed(seed)
    tags = TagSet(labels, scheme)
    constrained = settings.pop("constrained", True)
    crf = LinearChainCRF(len(tags.tags), *(tags.legal() if constrained else ()))
    with torch.no_grad():
        for param in crf.parameters():
            param.copy_(torch.randn_like(param) * scale)
    return Chains(crf, tags, constrained, settings.pop("keeps_words", True))


def docs_and_emissions(chains, seed, texts=TEXTS, scale=2.0):
    docs = [NLP.make_doc(text) for text in texts]
    random = np.random.default_rng(seed)
    shape = len(chains.tags.tags)
    rows = [(random.normal(size=(len(doc), shape)) * scale).astype(np.float32) for doc in docs]
    return docs, rows


class Truth:
    """All paths of a doc that keep its words whole, with their scores in float64.

    fixed: entities that all paths have; only others keep words whole.
    allowed: whether a path may be, from its entities and tags.
    """

    def __init__(self, chains, continues, rows, temperature=1.0, fixed=(), allowed=None):
        n, n_tags = rows.shape
        self.tags = chains.tags
        paths = torch.cartesian_prod(*[torch.arange(n_tags)] * n).view(-1, n)
        crf, steps = chains.crf, torch.arange(n)
        legal = crf.legal_start[paths[:, 0]] & crf.legal_end[paths[:, -1]]
        legal &= crf.legal_transitions[paths[:, :-1], paths[:, 1:]].all(1)
        keep, self.spans = [], []
        for i in legal.nonzero().flatten().tolist():
            path = paths[i].tolist()
            spans = [tuple(span) for span in chains.tags.decode(path)]
            new = [span for span in spans if span not in fixed]
            whole = continues is None or not breaks(new, continues)
            if whole and set(fixed) <= set(spans) and (allowed is None or allowed(spans, path)):
                keep.append(i)
                self.spans.append(spans)
        self.paths = paths[keep]
        self.start, self.end, self.pairs = (
            p.detach().double().requires_grad_() for p in crf.parameters()
        )
        self.rows = torch.tensor(rows).double().requires_grad_()
        score = self.rows[steps, self.paths].sum(1)
        score = score + self.pairs[self.paths[:, :-1], self.paths[:, 1:]].sum(1)
        score = score + self.start[self.paths[:, 0]] + self.end[self.paths[:, -1]]
        self.score = score / temperature
        self.log_z = torch.logsumexp(self.score, 0)
        self.p = (self.score - self.log_z).exp().detach().numpy()
        self.order = np.argsort(-self.p, kind="stable")

    def probability(self, span):
        return sum(p for p, spans in zip(self.p, self.spans, strict=True) if tuple(span) in spans)


def check(chains, docs, rows, allowed, truths, temperature):
    """All results for docs against the truth of each."""
    every = [
        [(a, b, label) for a in range(len(doc)) for b in range(a + 1, len(doc) + 1)
         for label in chains.tags.labels]
        for doc in docs
    ]  # fmt: skip
    tags, impossible = chains.decode(rows, allowed)
    readings = chains.read(
        rows, allowed, temperature=temperature, min_probability=0.01, requested=every
    )
    best = chains.best_paths(rows, 5, allowed, temperature)
    log_z = chains.log_partitions(rows, temperature, allowed)
    assert impossible == 0
    for i, truth in enumerate(truths):
        if truth is None:
            assert len(tags[i]) == 0 and readings[i].entities == []
            continue
        first = truth.order[0]
        assert tags[i].tolist() == readings[i].tags.tolist() == truth.paths[first].tolist()
        assert [tuple(e.span) for e in readings[i].entities] == truth.spans[first]
        assert readings[i].within_allowed
        np.testing.assert_allclose(log_z[i], truth.log_z.item(), **CLOSE)
        np.testing.assert_allclose(readings[i].log_probability, np.log(truth.p[first]), **CLOSE)
        entropy = -(truth.p * np.log(truth.p)).sum()
        np.testing.assert_allclose(readings[i].entropy, entropy, rtol=1e-4, atol=1e-5)
        want = [truth.probability(span) for span in every[i]]
        np.testing.assert_allclose(readings[i].requested, want, rtol=1e-4, atol=1e-6)
        likely = {s for s, p in zip(every[i], want, strict=True) if p >= 0.01}
        found = {tuple(c.span) for c in readings[i].candidates} | set(truth.spans[first])
        assert likely | set(truth.spans[first]) == found
        assert [path.tags.tolist() for path in best[i]] == truth.paths[truth.order[:5]].tolist()
        got = [path.probability for path in best[i]]
        np.testing.assert_allclose(got, truth.p[truth.order[:5]], rtol=1e-4, atol=1e-6)


@schemes
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 0.7, 2.0]))
def test_results_equal_enumeration(scheme, seed, temperature):
    chains = make(scheme, seed=seed)
    docs, rows = docs_and_emissions(chains, seed)
    words = chains.words(docs)
    assert sum(own is not None for own in words) == 6
    truths = [
        Truth(chains, own, row, temperature) if len(row) else None
        for own, row in zip(words, rows, strict=True)
    ]
    check(chains, docs, rows, chains.only_words(words), truths, temperature)
    check(chains, docs, rows, chains.allowed(docs, "bert_crf", True), truths, temperature)


@schemes
@settings(max_examples=12, deadline=None)
@given(st.data())
def test_with_entities_on_the_doc_and_with_its_labels(scheme, data):
    """Entities on the doc may cut a word; no other entity does."""
    name = "words_component"
    register_labels(name)
    chains = make(scheme, ("X", "Y"), data.draw(st.integers(0, 10_000)))
    docs, rows = docs_and_emissions(chains, data.draw(st.integers(0, 99)), ["CEO张", "A1AB"])
    truths = []
    for doc, own, row in zip(docs, chains.words(docs), rows, strict=True):
        labels = data.draw(st.sampled_from([None, ["X"], []]))
        doc._.set(f"{name}_labels", labels)
        start = data.draw(st.integers(0, 3))
        end = data.draw(st.integers(start, 4))
        label = data.draw(st.sampled_from(["X", "Y", "Z"]))
        fixed = [(start, end, label)] if end > start else []
        doc.set_ents([Span(doc, *span) for span in fixed], default="missing")
        known = [span for span in fixed if span[2] != "Z"]
        out = range(start, end) if fixed and not known else ()

        def may(spans, path, labels=labels, known=known, out=out):
            new = [span for span in spans if span not in known]
            right = labels is None or all(span[2] in labels for span in new)
            return right and all(path[i] == 0 for i in out)

        truths.append(Truth(chains, own, row, fixed=known, allowed=may))
    check(chains, docs, rows, chains.allowed(docs, name, True), truths, 1.0)
    if Doc.has_extension(f"{name}_labels"):
        Doc.remove_extension(f"{name}_labels")


@schemes
def test_without_the_setting_or_constraints_words_may_be_cut(scheme):
    for settings_ in ({"keeps_words": False}, {"constrained": False}):
        chains = make(scheme, seed=1, **settings_)
        docs, rows = docs_and_emissions(chains, 1)
        assert chains.words(docs) == [None] * len(docs)
        allowed = chains.allowed(docs, "bert_crf", True)
        assert allowed.tags == [None] * len(docs) and not any(allowed.words)


@schemes
def test_docs_without_words_do_not_notice(scheme):
    chains, free = make(scheme, seed=2), make(scheme, seed=2, keeps_words=False)
    docs, rows = docs_and_emissions(chains, 2, ["张三在北京", "A", "南京 B 1"])
    found, want = (
        each.read(rows, each.allowed(docs, "bert_crf", True), min_probability=0.01)
        for each in (chains, free)
    )
    for a, b in zip(found, want, strict=True):
        assert a.tags.tolist() == b.tags.tolist()
        assert (a.entities, a.candidates) == (b.entities, b.candidates)
        assert (a.log_probability, a.entropy) == (b.log_probability, b.entropy)


GOLD = {
    "AB": [(0, 2, "X")], "在AB": [(0, 1, "X")], "A京1": [(0, 2, "X")], "CEO张": [(1, 4, "X")],
    "在F-1": [], "张三": [(0, 2, "X")], "AB C": [(0, 3, "X")], "中1.5": [(1, 4, "X")],
}  # fmt: skip


@schemes
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_the_likelihood_equals_enumeration(scheme, partial, share):
    chains = make(scheme, seed=4, scale=0.7)
    docs, rows = docs_and_emissions(chains, 4, scale=1.0)
    known = [np.ones(len(doc), dtype=bool) for doc in docs]
    golds = [Gold(GOLD.get(doc.text, []), own, []) for doc, own in zip(docs, known, strict=True)]
    if partial:
        for doc, gold in zip(docs, golds, strict=True):
            inside = {i for start, end, _ in gold.spans for i in range(start, end)}
            gold.known[[i for i in range(len(doc)) if i not in inside]] = False
    words = chains.words(docs)
    settings_ = Settings(constrain_training=True, annotated_share=share)
    found = chains.gold(golds, words)
    assert [gold.whole is not None for gold in found] == [
        own is not None and doc.text != "CEO张" for doc, own in zip(docs, words, strict=True)
    ]
    loss, gradient = chains.likelihood(rows, found, settings_)
    n, total, sides = 0, 0.0, []
    weight = np.log1p(-share)
    for gold, own, row in zip(golds, words, rows, strict=True):
        if not gold.known.any():
            sides.append(None)
            continue
        n += 1
        own = None if own is None or breaks(gold.spans, own) else own
        truth = Truth(chains, own, row)
        right = []
        for i, spans in enumerate(truth.spans):
            open_spans = [s for s in spans if s not in gold.spans]
            touches = any(gold.known[s:e].any() for s, e, _ in open_spans)
            if set(gold.spans) <= set(spans) and not touches:
                right.append(truth.score[i] + weight * len(open_spans))
        total = total + truth.log_z - torch.logsumexp(torch.stack(right), 0)
        sides.append(truth)
    (total / n).backward()
    np.testing.assert_allclose(float(loss), total.item() / n, rtol=1e-5)
    for truth, got in zip(sides, gradient.split(), strict=True):
        want = np.zeros_like(got) if truth is None else truth.rows.grad.numpy()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in chains.crf.parameters())
    chains.likelihood(rows, found, settings_, n)
    for k, p in enumerate(chains.crf.parameters()):
        want = sum((t.start, t.end, t.pairs)[k].grad for t in sides if t is not None)
        np.testing.assert_allclose(p.grad.numpy(), want.numpy(), rtol=1e-4, atol=1e-5)


def test_the_likelihood_without_words_is_that_of_the_crf():
    chains = make("BIO", seed=5)
    docs, rows = docs_and_emissions(chains, 5)
    golds = [Gold(GOLD.get(doc.text, []), np.ones(len(doc), dtype=bool), []) for doc in docs]
    free = chains.gold(golds)
    assert all(gold.whole is None for gold in free)
    loss, _ = chains.likelihood(rows, free, Settings(constrain_training=True))
    whole, _ = chains.likelihood(
        rows, chains.gold(golds, chains.words(docs)), Settings(constrain_training=True)
    )
    assert float(whole) < float(loss)  # fewer paths beside the gold
