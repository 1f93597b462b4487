import itertools
import math

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_bert_crf.annotation.gold import (
    GoldReader,
    allowed_tags,
    lost_report,
    open_weights,
    read_gold,
)
from spacy_bert_crf.annotation.schemes import SCHEMES, TagSet
from spacy_bert_crf.crf.linear_chain import LinearChainCRF

NLP = spacy.blank("zh")
TAGS = TagSet(("LOC", "PER"))


def example(text, spans=None, words=None):
    doc = Doc(NLP.vocab, words=words, spaces=[False] * len(words)) if words else NLP.make_doc(text)
    if spans is not None:
        doc.ents = [doc.char_span(*span) for span in spans]
    return Example(NLP.make_doc(text), doc)


def tags_of(eg, tags=TAGS):
    """One string a token: its allowed tags."""
    rows = allowed_tags(read_gold(eg), tags)
    return [",".join(tags.tags[i] for i in np.flatnonzero(row)) for row in rows]


ALL = ",".join(TAGS.tags)


def test_known_tokens_have_one_tag():
    assert tags_of(example("张三在京", [(0, 2, "PER"), (3, 4, "LOC")])) == [
        "B-PER", "I-PER", "O", "B-LOC",
    ]  # fmt: skip
    assert tags_of(example("没有", [])) == ["O", "O"]


def test_without_annotation_all_is_unknown():
    assert tags_of(example("没有")) == [ALL, ALL]


def test_missing_tokens_stay_unknown_and_do_not_prolong_an_entity():
    doc = NLP.make_doc("张三在北京")
    doc.set_ents([doc.char_span(0, 2, "PER")], default="missing")
    eg = Example(NLP.make_doc(doc.text), doc)
    free = ",".join(t for t in TAGS.tags if not t.startswith("I-"))
    assert tags_of(eg) == ["B-PER", "I-PER", free, ALL, ALL]
    bioes = TagSet(("PER",), "BIOES")
    assert tags_of(eg, bioes)[:3] == ["B-PER", "E-PER", ",".join(bioes.tags)]


def test_entities_at_unknown_tokens_count_less_the_more_are_annotated():
    for scheme in SCHEMES:
        tags = TagSet(("LOC", "PER"), scheme)
        assert open_weights(0.0, tags) is None
        weights = open_weights(0.75, tags)
        for length in (1, 2, 4):  # each entity once, however long
            spelled = tags.span_tags(length, "PER")
            assert math.exp(sum(weights[tag] for tag in spelled)) == pytest.approx(0.25)
        assert weights[0] == 0


def test_the_likelihood_of_annotation_of_which_a_share_is_missing():
    """Against the sum over all readings, each entity of which is annotated with probability s."""
    share = 0.3
    doc = spacy.blank("zh").make_doc("张三在家")
    reference = doc.copy()
    reference.set_ents([Span(reference, 0, 2, "PER")], default="missing")
    tags = TagSet(("PER",))
    allowed = allowed_tags(read_gold(Example(doc, reference)), tags)
    torch.manual_seed(0)
    crf = LinearChainCRF(3, *tags.legal()).double()
    emissions, mask = torch.randn(1, 4, 3, dtype=torch.float64), torch.ones(1, 4, dtype=torch.bool)
    crf.requires_grad_(False)
    total = 0.0
    for path in itertools.product(range(3), repeat=4):
        found = tags.decode(path)
        score = crf.score(emissions, torch.tensor([path]), mask) - crf.log_partition(
            emissions, mask, True
        )
        if list(path) == tags.encode(found, 4) and (0, 2, "PER") in found:
            total += math.exp(score) * share * (1 - share) ** (len(found) - 1)
    weights = torch.tensor(open_weights(share, tags))
    loss = crf(emissions, torch.tensor(allowed)[None], mask, True, weights)
    # What is annotated has the factor s whatever the model says.
    assert math.exp(-loss) * share == pytest.approx(total)


def test_blocked_tokens_are_unknown():
    doc = NLP.make_doc("张三在")
    doc.set_ents([], blocked=[doc[0:1]], default="outside")
    assert tags_of(Example(NLP.make_doc(doc.text), doc)) == [ALL, "O", "O"]


def test_words_align_to_characters():
    eg = example("北京的人", [(0, 2, "LOC")], words=["北京", "的", "人"])
    assert tags_of(eg) == ["B-LOC", "I-LOC", "O", "O"]


def test_entities_that_cut_a_token_are_lost_and_named():
    words = spacy.blank("en")
    text = "ab cd"
    gold = Doc(words.vocab, words=["a", "b", "cd"], spaces=[False, True, False])
    gold.ents = [gold.char_span(0, 1, "LOC")]
    eg = Example(words.make_doc(text), gold)
    read = read_gold(eg)
    assert [(e.text, e.label, e.start_char) for e in read.lost] == [("a", "LOC", 0)]
    assert tags_of(eg) == [ALL, "O"]
    report = lost_report(read.lost, 1)
    assert "1 of 1" in report and "'a' (LOC)" in report


def test_texts_without_annotation_are_counted():
    reader = GoldReader("ner")
    examples = [example("张三在"), example("张三在", [(0, 2, "PER")]), example("张三在", [])]
    with pytest.warns(UserWarning, match=r"\[ner\] 1 of 3 training texts have no entity annot"):
        corpus = reader.read_corpus(examples)
    assert len(corpus.golds) == 3 and len(corpus.texts) == 1


def test_whitespace_is_outside():
    doc = NLP.make_doc("张三\n在")
    doc.set_ents([doc.char_span(0, 2, "PER")], default="missing")
    assert tags_of(Example(NLP.make_doc(doc.text), doc)) == ["B-PER", "I-PER", "O", ALL]


def test_other_labels_count_as_outside():
    assert tags_of(example("张三在京", [(0, 2, "PER"), (3, 4, "LOC")]), TagSet(("LOC",))) == [
        "O", "O", "O", "B-LOC",
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 12), max_size=6),
    unknown=st.sets(st.integers(0, 11)),
)
def test_agrees_with_spacys_own_alignment(length, cuts, unknown):
    """Where spaCy gives a BILUO tag, the token has exactly this tag; where None, several."""
    text = "一二三四五六七八九十百千"[:length]
    doc = NLP.make_doc(text)
    borders = sorted({c for c in cuts if c <= length})
    spans = [doc.char_span(a, b, "LOC") for a, b in zip(borders[::2], borders[1::2], strict=False)]
    doc.set_ents(spans, default="outside")
    covered = {i for span in spans for i in range(span.start, span.end)}
    missing = [doc[i : i + 1] for i in unknown if i < length and i not in covered]
    doc.set_ents(spans, missing=missing, default="outside")
    eg = Example(NLP.make_doc(text), doc)
    bilou = {"B": "B", "I": "I", "L": "I", "U": "B", "O": "O"}
    for got, want in zip(tags_of(eg), eg.get_aligned_ner(), strict=True):
        if want is None:
            assert "," in got and "O" in got.split(",")
        else:
            assert got == (want if want == "O" else bilou[want[0]] + want[1:])
