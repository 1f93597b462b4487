"""Texts and tokens of docs by arrays, and plans of docs."""

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.vocab import Vocab
from transformers import AutoTokenizer

from spacy_bert_crf.encoder.passes import plan_batches, plan_docs, special_ids
from spacy_bert_crf.encoder.texts import doc_texts
from spacy_bert_crf.encoder.texts.doc_texts import (
    DocTexts,
    annotated_starts,
    doc_pieces,
    joined_token_pieces,
    read_texts,
    token_pieces,
)
from spacy_bert_crf.encoder.texts.sentences import sentence_ends
from spacy_bert_crf.encoder.texts.wordpieces import JoinedPieces, JoinedTexts, tokenize

VOCABS = [Vocab(), Vocab(), spacy.blank("zh").vocab]
characters = st.one_of(
    st.sampled_from("王小明在北京。a1 \n\u3000\0😀"), st.characters(exclude_categories=["Cs"])
)
tokens = st.tuples(
    # Names of spaCy's symbols have small numbers.
    st.one_of(characters, st.text(characters, min_size=1), st.sampled_from(["NOUN", "LOC"])),
    st.booleans(),
)
docs_of = st.lists(
    st.tuples(st.sampled_from(VOCABS), st.lists(tokens, max_size=12)).map(
        lambda made: Doc(made[0], [w for w, _ in made[1]], [s for _, s in made[1]])
    ),
    max_size=6,
)


def check(docs):
    found = read_texts(docs)
    text = found.texts.codes.tobytes().decode("utf-32-le")
    assert text == "".join(doc.text + "\n" for doc in docs)
    begins = np.repeat(found.texts.begins, found.counts)
    each = zip(found.texts.begins.tolist(), found.texts.ends.tolist(), strict=True)
    assert [text[begin:end] for begin, end in each] == [doc.text for doc in docs]
    assert found.counts.tolist() == [len(doc) for doc in docs]
    assert (found.starts - begins).tolist() == [token.idx for doc in docs for token in doc]
    assert (found.ends - found.starts).tolist() == [len(token) for doc in docs for token in doc]


@settings(deadline=None, max_examples=300)
@given(docs=docs_of)
def test_texts_and_offsets_are_those_of_the_docs(docs):
    check(docs)


def test_a_small_table_of_strings_gives_the_same(monkeypatch):
    """Strings that share a slot, and a table that is filled several times."""
    monkeypatch.setattr(doc_texts, "_SLOTS", 16)
    monkeypatch.setattr(doc_texts, "_table", doc_texts._StringTable())
    for at in range(0x4E00, 0x4F00, 8):
        words = [chr(code) for code in range(at, at + 8)] * 2 + ["ab", chr(at), "ab"]
        check([Doc(VOCABS[0], words), Doc(VOCABS[1], words[::-1])])
    assert doc_texts._table._used <= 16


def test_changed_tokens(nlp):
    doc = nlp("王小明在北京")
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[0:3])
    check([doc, nlp("a  b")])


@pytest.fixture(scope="module")
def nlp():
    return spacy.blank("zh")


@pytest.fixture(scope="module")
def tokenizer(encoder_path):
    return AutoTokenizer.from_pretrained(encoder_path)


@settings(deadline=None, max_examples=150)
@given(
    docs=docs_of, longest=st.integers(4, 30), overlap=st.integers(0, 20),
    limit=st.integers(1, 120), context=st.sampled_from(["sentences", "fit"]),
    padding=st.booleans(),
)  # fmt: skip
def test_plans_of_docs_are_those_of_each_doc(
    tokenizer, docs, longest, overlap, limit, context, padding
):
    """The tokens of each doc are found alone, and the batches are planned from them."""
    prefix, suffix, pad = special_ids(tokenizer)
    size = longest - len(prefix) - len(suffix)
    pieces = tokenize(tokenizer, [doc.text for doc in docs])
    cuts = [
        np.searchsorted(p.starts, sentence_ends(doc.text)).tolist()
        for doc, p in zip(docs, pieces, strict=True)
    ]
    want = plan_batches(
        [p.ids for p in pieces],
        [doc_pieces(doc, p) for doc, p in zip(docs, pieces, strict=True)],
        cuts, prefix=prefix, suffix=suffix, pad_id=pad, size=size,
        overlap=min(overlap, size - 1), limit=limit, padding=padding, context=context,
    )  # fmt: skip
    plan = plan_docs(
        tokenizer, docs, longest=longest, overlap=overlap, context=context,
        limit=limit, padding=padding,
    )  # fmt: skip
    assert plan.rows.tolist() == want.rows.tolist()
    assert plan.counts.tolist() == want.counts.tolist()
    assert len(plan.batches) == len(want.batches)
    for batch, wanted in zip(plan.batches, want.batches, strict=True):
        assert batch.ids.tolist() == wanted.ids.tolist()
        assert (batch.mask is None) == (wanted.mask is None)
        assert batch.mask is None or batch.mask.tolist() == wanted.mask.tolist()


@given(data=st.data(), is_sorted=st.booleans())
def test_wordpieces_of_tokens_are_those_of_each_doc(data, is_sorted):
    """Also where the offsets of wordpieces go back and forth."""
    lengths = data.draw(st.lists(st.integers(0, 9), max_size=5))
    texts = JoinedTexts.of(["x" * length for length in lengths])
    starts, ends, counts, piece_starts, piece_ends, piece_counts = [], [], [], [], [], []
    want, n_pieces = [], 0
    for begin, length in zip(texts.begins.tolist(), lengths, strict=True):
        span = st.tuples(st.integers(0, length), st.integers(0, length)).map(sorted)
        own = data.draw(st.lists(span, max_size=6))
        pieces = np.array(data.draw(st.lists(span, max_size=6)), dtype=np.int64).reshape(-1, 2)
        if is_sorted:
            pieces = np.sort(pieces, axis=0)
        # Tokens have at least one character.
        own = np.array([s for s in own if s[0] < s[1]], dtype=np.int64).reshape(-1, 2)
        ranges = token_pieces(own[:, 0], own[:, 1], pieces[:, 0], pieces[:, 1])
        want += [[a + n_pieces, b + n_pieces] if b > a else [0, 0] for a, b in ranges.tolist()]
        n_pieces += len(pieces)
        starts += (own[:, 0] + begin).tolist()
        ends += (own[:, 1] + begin).tolist()
        counts.append(len(own))
        piece_starts += (pieces[:, 0] + begin).tolist()
        piece_ends += (pieces[:, 1] + begin).tolist()
        piece_counts.append(len(pieces))
    as_array = [np.array(v, dtype=np.int64) for v in (starts, ends, counts)]
    found = joined_token_pieces(
        DocTexts(texts, *as_array),
        JoinedPieces(
            np.zeros(n_pieces, np.int64),
            *(np.array(v, dtype=np.int64) for v in (piece_starts, piece_ends, piece_counts)),
        ),
    )
    assert found.tolist() == want


def test_annotated_sentences():
    nlp = spacy.blank("en")
    doc = nlp("Good. Bad.")
    assert annotated_starts(doc) is None
    nlp.add_pipe("sentencizer")
    assert annotated_starts(nlp("Good. Bad.")) == [6]
    assert annotated_starts(nlp("Good")) == []
    assert annotated_starts(nlp("")) is None
