"""Vocabularies whose wordpieces hold white space, and bytes: each token reads its own wordpieces.

RoBERTa's `Ġ` and XLM-R's `▁` stand for a space at the beginning of a wordpiece. A character that is
not in the vocabulary is several bytes. What is right is what the tokenizers library itself says of
each character of the text.
"""

from unicodedata import combining

import numpy as np
import pytest
import spacy
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers.processors import ByteLevel

from reliability.families.tokenizers import make_tokenizer
from spacy_bert_crf.encoder.passes import plan_docs, special_ids
from spacy_bert_crf.encoder.texts.doc_texts import joined_token_pieces, read_texts
from spacy_bert_crf.encoder.texts.wordpieces import backend, tokenize_joined


def _offsets_with_spaces(tokenizer):
    """Byte-level pieces whose offsets hold the space before the word, as some are published."""
    tokenizer.backend_tokenizer.post_processor = ByteLevel(trim_offsets=False)
    return tokenizer


TOKENIZERS = {
    "Ġ": make_tokenizer("bytes", "RobertaTokenizerFast"),
    "Ġ in the offsets": _offsets_with_spaces(make_tokenizer("bytes", "GPT2TokenizerFast")),
    "▁": make_tokenizer("sentencepiece", "XLMRobertaTokenizerFast"),
    "▁, NFKC by T5": make_tokenizer("right sentencepiece", "T5TokenizerFast"),
    "▁, bytes of unknown characters": make_tokenizer("byte fallback", "PreTrainedTokenizerFast"),
}
PIPELINES = {"zh": spacy.blank("zh"), "en": spacy.blank("en")}
#: Words of the vocabularies, white space of several kinds, emoji of several code points, combining
#: marks, and characters that NFKC makes one or several of.
PARTS = ["北京", "张三", "新华", "iphone", "ab", "武汉", "。", " ", "  ", "\n", "\t"]
PARTS += ["\u3000", "\xa0", "👍", "👩\u200d👩\u200d👧\u200d👦", "🇨🇳", "👍🏽", "é", "e\u0301"]
PARTS += ["a\u0323\u0302", "Å", "ﬁ", "㈱", "龘", "1998", "ก็"]
texts_of = st.lists(st.sampled_from(PARTS) | st.characters(exclude_categories=["Cs"]), max_size=12)


@pytest.mark.parametrize("lang", PIPELINES)
@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(deadline=None, max_examples=60)
@given(texts=st.lists(texts_of.map("".join), min_size=1, max_size=3))
@example(texts=["  北京 iphone", "ab  ab\n武汉", "👩‍👩‍👧‍👦 e\u0301", ""])
def test_a_token_reads_the_wordpieces_of_its_characters(kind, lang, texts):
    tokenizer, nlp = TOKENIZERS[kind], PIPELINES[lang]
    docs = [nlp.make_doc(text) for text in texts]
    tokens = read_texts(docs)
    pieces = tokenize_joined(tokenizer, tokens.texts)
    ranges = joined_token_pieces(tokens, pieces).tolist()
    before, at = 0, 0
    for doc in docs:
        encoding = backend(tokenizer).encode(doc.text, add_special_tokens=False)
        for token in doc:
            first, last = ranges[at]
            at += 1
            if token.is_space:
                continue
            own = [
                encoding.char_to_token(i) for i in range(token.idx, token.idx + len(token))
                if not doc.text[i].isspace()
            ]  # fmt: skip
            own = [before + piece for piece in own if piece is not None]
            assert set(own) <= set(range(first, last)), (token.text, own, first, last)
            # Each of them holds some of the token, and not just the space beside it.
            for piece in range(first - before, last - before):
                start, end = encoding.offsets[piece]
                inside = doc.text[max(start, token.idx) : min(end, token.idx + len(token))]
                assert inside.strip() or start == end, (token.text, encoding.tokens[piece])
        before += len(encoding.ids)
    assert at == len(ranges) and before == len(pieces.ids)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_character_has_a_wordpiece(kind):
    """Also an emoji, and one that is not in the vocabulary.

    NFKC joins a combining mark with the letter before it, so that the mark alone may have none.
    """
    text = "北京 👍 e\u0301 龘 ab"
    doc = PIPELINES["zh"].make_doc(text)
    plan = plan_docs(
        TOKENIZERS[kind], [doc], longest=40, overlap=4, context="sentences", limit=1000
    )
    missing = [token.text for token, n in zip(doc, plan.counts, strict=True) if not n]
    assert all(word.isspace() or combining(word) for word in missing)
    prefix, suffix, _ = special_ids(TOKENIZERS[kind])
    (batch,) = plan.batches
    n_pieces = batch.ids.shape[1] - len(prefix) - len(suffix)
    assert plan.rows.min() >= len(prefix) and plan.rows.max() < len(prefix) + n_pieces
    assert np.unique(plan.rows).size > len("北京👍龘")
