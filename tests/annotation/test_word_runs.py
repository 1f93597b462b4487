"""Which characters make a word: the rule itself, and spaCy's tokenizer of English beside it."""

import re

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_bert_crf.annotation.word_runs import WORD

NLP = spacy.blank("en")
WHOLE = [
    "CEO", "COVID-19", "F-16", "U.S.A", "3.14", "1,000", "1,234,567.8", "google.com", "163.com",
    "O'Neill", "O’Neill", "No.1", "V1.2.3", "Café", "Ａ１", "ＦＧ－１", "３．１４",
    "don't", "don’t", "10km", "lǚ", "e\u0301te\u0301", "McDonald", "A", "7",
]  # fmt: skip
PARTS = {
    "well-known": ["well", "known"],
    "7-Eleven": ["7", "Eleven"],
    "1990-2000": ["1990", "2000"],
    "end.Next": ["end", "Next"],
    "John's": ["John", "s"],
    "John’s 3": ["John", "s", "3"],
    "a..b": ["a", "b"],
    "A,B": ["A", "B"],
    "iPhone,3": ["iPhone", "3"],
    "1.Google": ["1", "Google"],
    "U.S.": ["U.S"],
    "-5": ["5"],
    "'A'": ["A"],
    "阿里巴巴CEO张勇": ["CEO"],
    "2019年3.5万": ["2019", "3.5"],
    "北京": [],
    "x×y÷z": ["x", "y", "z"],
    "中\u0301a": ["a"],
}


@pytest.mark.parametrize("word", WHOLE)
def test_a_word_is_one_match(word):
    assert re.findall(WORD, f"在{word}。") == [word]


@pytest.mark.parametrize("text", PARTS)
def test_what_is_not_joined(text):
    assert re.findall(WORD, text) == PARTS[text]


def joins_otherwise(word):
    """Whether spaCy splits a contraction or a unit, or joins what texts without spaces do not."""
    return (
        re.search(r"(?i)['’](s|m|d|re|ve|ll|t|em|cause|cos|coz|nuff|cuz|bout|til|y)\b|n['’]t", word)
        or re.search(r"[0-9][A-Za-z]+$|^[ap]\.?m\b", word)  # 10km, 5pm
        or re.search(r"[A-Za-z],[0-9]|[0-9],[A-Za-z]|[0-9]\.[A-Z]", word)
        or re.search(r"['’][0-9]|[0-9]['’]", word)
    )


#: A piece of one to three characters of one kind, so that marks stand between all kinds.
PIECE = st.one_of(
    st.text("bdfgkpw", min_size=2, max_size=3),
    st.text("BDFGKPW", min_size=2, max_size=3),
    st.text("0123456789", min_size=1, max_size=3),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECE, min_size=2, max_size=4), st.lists(st.sampled_from("-.,'"), min_size=3))
def test_marks_join_as_in_spacys_tokenizer_of_english(pieces, marks):
    word = pieces[0] + "".join(m + p for m, p in zip(marks, pieces[1:], strict=False))
    # spaCy takes what ends like a domain for an address.
    if joins_otherwise(word) or NLP.tokenizer.url_match(word):
        return
    tokens = [token.text for token in NLP(word) if token.text not in "-.,'"]
    assert re.findall(WORD, word) == tokens


@settings(max_examples=300, deadline=None)
@given(st.text("aBé中国 1０Ｑ.,-'’\n\u0301", max_size=12))
def test_matches_hold_all_letters_and_digits_and_no_white_space(text):
    found = list(re.finditer(WORD, text))
    held = {i for match in found for i in range(*match.span())}
    assert held >= {i for i, char in enumerate(text) if char in "aBé1０Ｑ"}
    for match in found:
        assert match.group()[0] not in ".,-'’\u0301" and match.group()[-1] not in ".,-'’"
        assert not set(match.group()) & set("中国 \n")
