"""Wordpieces are those of the Rust tokenizer, whichever of them are looked up in tables."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from spacy_bert_crf._transformers import bert_tokenizer
from spacy_bert_crf.encoder.texts import wordpieces
from spacy_bert_crf.encoder.texts.wordpieces import JoinedTexts, tokenize, tokenize_joined
from support.toys import TEXTS, vocabulary

#: Characters that tokenizers treat in ways of their own.
ODD = "\0\t\n\r \x7f\x85\xa0\xad\u200b\u200d\u2028\u3000\ufe0f\ufeff\ufffd\ue000̸゙〮́̈"
ODD += "aAzé1#[]ß𝐀ΣςİŉﬁⅧ½ＡＢ１，。豈丽𠀀㐀々〇가ᄀ각คำनि👍🏽¿≠ÅÅ·‿$"
characters = st.one_of(
    st.sampled_from(ODD),
    st.sampled_from("王小明昨天在北京参观了清华大学。的一是1998iphone"),
    st.characters(exclude_categories=["Cs"]),
)
parts = st.one_of(
    st.text(characters, max_size=12),
    st.sampled_from(["[MASK]", "[CLS] ", "[UNK]", " [SEP]", "[mask]", "##a", "iPhone", "北京"]),
)
texts_of = st.lists(st.lists(parts, max_size=6).map("".join), max_size=6)


def bert(tmp_path, **options):
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf8")
    return bert_tokenizer(tmp_path / "vocab.txt", **options)


def trained(model, trainer, normalizer=None, pre_tokenizer=None, post=None):
    fast = Tokenizer(model)
    fast.normalizer, fast.pre_tokenizer = normalizer, pre_tokenizer
    fast.train_from_iterator([text for text, _ in TEXTS] * 5, trainer)
    if post is not None:
        fast.post_processor = post
    return PreTrainedTokenizerFast(tokenizer_object=fast)


def unigram():
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False
    )
    return trained(
        models.Unigram(), trainer, normalizers.NFKC(), pre_tokenizers.Metaspace()
    )  # as in XLM-RoBERTa


def byte_level():
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    before = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return trained(models.BPE(), trainer, None, before, processors.ByteLevel())


def other_pieces():
    """WordPiece with a normalizer and a pre-tokenizer that are not BERT's."""
    vocab = {piece: i for i, piece in enumerate(vocabulary())}
    fast = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    fast.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=fast)


def unmarked():
    """BERT's parts, but wordpieces that continue a word look like those that begin one."""
    vocab = {piece: i for i, piece in enumerate(vocabulary())}
    fast = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", continuing_subword_prefix=""))
    fast.normalizer, fast.pre_tokenizer = (
        normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(),
    )  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=fast)


MAKERS = {
    "bert": bert,
    "bert, cased": lambda path: bert(path, do_lower_case=False),
    "bert, accents kept": lambda path: bert(path, strip_accents=False),
    "bert, accents stripped": lambda path: bert(path, do_lower_case=False, strip_accents=True),
    "bert, Chinese joined": lambda path: bert(path, tokenize_chinese_chars=False),
    "unigram": lambda _: unigram(),
    "byte-level BPE": lambda _: byte_level(),
    "another WordPiece": lambda _: other_pieces(),
    "unmarked WordPiece": lambda _: unmarked(),
}
HAVE_TABLES = {name for name in MAKERS if name.startswith("bert")}


@pytest.fixture(scope="module", params=MAKERS)
def tokenizer(request, tmp_path_factory):
    made = MAKERS[request.param](tmp_path_factory.mktemp("tokenizer"))
    made.kind = request.param
    return made


def by_rust(tokenizer, texts):
    encodings = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    return [(e.ids, e.offsets) for e in encodings]


def by_us(tokenizer, texts):
    return [
        (p.ids.tolist(), list(zip(p.starts.tolist(), p.ends.tolist(), strict=True)))
        for p in tokenize(tokenizer, texts)
    ]


@settings(max_examples=200, deadline=None)
@given(texts=texts_of)
@example(texts=[])
@example(texts=["", "", ""])
@example(texts=["中́文", "a\u0301̸中〮", "\ufffd中\0文", "[MA", "SK]", "x" * 150 + "中"])
@example(texts=["中[MASK]国", "[CLS] 中", "iphone1998年"])
def test_equal_to_the_rust_tokenizer(tokenizer, texts):
    assert by_us(tokenizer, texts) == by_rust(tokenizer, texts)


def test_each_character_between_others(tokenizer):
    """The first plane, or a part of it, between a Latin and a Chinese character."""
    step = 1 if tokenizer.kind == "bert" else 7
    codes = [*range(0, 0xD800, step), *range(0xE000, 0x10000, step)]
    for at in range(0, len(codes), 4096):
        texts = [f"a{chr(code)}b中{chr(code)}国" for code in codes[at : at + 4096]]
        assert by_us(tokenizer, texts) == by_rust(tokenizer, texts)


def test_only_proved_tokenizers_have_tables(tokenizer):
    tokenize(tokenizer, ["中国"])
    has_table = wordpieces._tables[tokenizer][1] is not None
    assert has_table == (tokenizer.kind in HAVE_TABLES)


def test_tables_are_used(tmp_path, monkeypatch):
    tokenizer = bert(tmp_path)
    text = "王小明，在北京。iphone 1998年"
    want = by_us(tokenizer, [text])
    monkeypatch.setattr(wordpieces, "_encode", None)  # nothing is left for the Rust tokenizer
    assert by_us(tokenizer, [text, text[::-1][:0], text]) == [want[0], ([], []), want[0]]


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("content", ["北京", "天", "iphone", "年 1"])
def test_added_tokens_count_as_soon_as_they_are_added(tmp_path, content, normalized):
    tokenizer = bert(tmp_path)
    texts = ["他在北京。", "今天好", "1998年 1 iphone", "iphone", "IPHONE"]
    before = by_us(tokenizer, texts)
    assert before == by_rust(tokenizer, texts)
    tokenizer.add_tokens([AddedToken(content, normalized=normalized, lstrip=True)])
    after = by_us(tokenizer, texts)
    assert after == by_rust(tokenizer, texts)
    # Some of the others change nothing, since they are wordpieces already.
    assert after != before or content in ("天", "iphone")


def test_a_changed_normalizer_counts(tmp_path):
    tokenizer = bert(tmp_path)
    by_us(tokenizer, ["IPHONE"])
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    assert by_us(tokenizer, ["IPHONE"]) == by_rust(tokenizer, ["IPHONE"])


def test_few_words_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(wordpieces, "_WORDS", 10)
    tokenizer = bert(tmp_path)
    texts = [f"a{i} b{i}" for i in range(40)] + ["c" * 200]
    for _ in range(2):
        for at in range(0, len(texts), 4):
            part = texts[at : at + 4]
            assert by_us(tokenizer, part) == by_rust(tokenizer, part)
    table = wordpieces._tables[tokenizer][1]
    assert 0 < len(table._words) <= 10


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises((TypeError, UnicodeEncodeError)):
        tokenize(tokenizer, ["a\ud800"])


def test_joined_pieces_are_those_of_each_text(tokenizer):
    texts = ["", "北京 iphone", "1998年", "", "。"]
    joined = JoinedTexts.of(texts)
    pieces = tokenize_joined(tokenizer, joined)
    alone = tokenize(tokenizer, texts)
    assert pieces.counts.tolist() == [len(p.ids) for p in alone]
    assert pieces.ids.tolist() == [i for p in alone for i in p.ids.tolist()]
    shift = np.repeat(joined.begins, pieces.counts)
    assert (pieces.starts - shift).tolist() == [i for p in alone for i in p.starts.tolist()]
    assert (pieces.ends - shift).tolist() == [i for p in alone for i in p.ends.tolist()]
