"""Which tokens of docs continue a word, for many docs at once and for one by itself."""

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.vocab import Vocab

from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.annotation.word_runs import inner_borders
from spacy_bert_crf.component.decoding.words import breaks, continuations, whole_words

NLP = spacy.blank("zh")
MIXED = st.text("阿里CEOe1０.,-'’ \n\u0301é😀", max_size=14)


def pieces(doc):
    """The tokens of a doc, with those that continue a word joined to the one before."""
    (continues,) = continuations([doc])
    continues = np.zeros(len(doc), dtype=bool) if continues is None else continues
    out = []
    for token, joined in zip(doc, continues, strict=True):
        out[-1:] = [out[-1] + token.text] if joined else [*out[-1:], token.text]
    return out


@pytest.mark.parametrize(
    "text, want",
    [
        ("阿里CEO张勇", ["阿", "里", "CEO", "张", "勇"]),
        ("LeBron James", ["LeBron", "James"]),
        ("用COVID-19的3.14万", ["用", "COVID-19", "的", "3.14", "万"]),
        ("Ｆ１ A", ["Ｆ１", "A"]),
        ("在U.S.A.", ["在", "U.S.A", "."]),
        ("北京。", ["北", "京", "。"]),
        ("", []),
    ],
)
def test_runs_of_characters(text, want):
    assert pieces(NLP.make_doc(text)) == want


def test_docs_without_words_have_none():
    docs = [NLP.make_doc(text) for text in ("北京", "", "A B", "1。2", "CEO")]
    found = continuations(docs)
    assert [own is None for own in found] == [True, True, True, True, False]
    assert continuations([]) == []


def test_tokens_of_several_characters_are_no_part_of_a_word():
    doc = Doc(Vocab(), ["C", "EO", "a", "b", "c", "d"], [False, False, False, True, False, False])
    (continues,) = continuations([doc])
    assert continues.tolist() == [False, False, False, True, False, True]
    english = spacy.blank("en")("I am A.B. O'Neill - a 3.14 man")
    assert continuations([english]) == [None]


@settings(max_examples=200, deadline=None)
@given(st.lists(MIXED, max_size=5))
def test_many_docs_at_once_equal_one_border_after_the_other(texts):
    docs = [NLP.make_doc(text) for text in texts]
    for doc, found in zip(docs, continuations(docs), strict=True):
        want = inner_borders(doc, range(len(doc) + 1))
        assert want == (set() if found is None else set(np.flatnonzero(found).tolist()))
        assert found is None or found.any()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=5), st.sampled_from(["BIOES", "BILUO"]))
def test_tags_that_keep_words_whole(continues, scheme):
    tags = TagSet(("X",), scheme)
    continues = np.array([False, *continues[1:]])
    allowed = whole_words(continues, tags)
    n = len(continues)
    for start in range(n):
        for end in range(start + 1, n + 1):
            span = [(start, end, "X")]
            keeps = allowed[np.arange(n), tags.encode(span, n)].all()
            assert keeps == (not breaks(span, continues))
