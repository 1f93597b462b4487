"""Languages are found: in spaCy's own example sentences, and in mixed texts."""

from importlib import import_module

import pytest

from spacy_bert_crf.project.language import find_language

LANGS = ["zh", "en", "de", "fr", "ja", "ko", "ru", "ar", "fa", "ur", "uk", "es", "it", "pt", "nl"]
LANGS += ["pl", "cs", "sv", "da", "fi", "tr", "vi", "id", "hi", "he", "el", "bg", "ro", "hu", "ta"]


@pytest.mark.parametrize("lang", LANGS)
def test_example_sentences(lang):
    sentences = import_module(f"spacy.lang.{lang}.examples").sentences
    guess = find_language(sentences)
    assert (guess.lang, guess.certain) == (lang, True)


@pytest.mark.parametrize(
    "lang, text",
    [
        ("zh", "苹果公司发布了iPhone和MacBook，の字也常见于招牌，价格是100元。" * 3),
        ("ja", "東京都千代田区で開かれた国際会議に出席した。"),
        ("ja", "トヨタ自動車 平成十年 東京本社 設立"),
        ("ko", "서울특별시에서 열린 國際會議에 Samsung 대표가 참석했다."),
        ("ru", "Компания Apple представила в Москве новый iPhone."),
        ("ar", "أعلنت شركة Apple في القاهرة عن جهاز جديد من المنتجات."),
        ("de", "Angela Merkel sprach gestern in Berlin mit dem Präsidenten von Frankreich."),
        ("fr", "Le président de la République est arrivé hier à Berlin avec ses ministres."),
        ("en", "The company said on Tuesday that it would open an office in Paris."),
    ],
)
def test_short_and_mixed_texts(lang, text):
    assert find_language([text]).lang == lang


@pytest.mark.parametrize("texts", [["1998", "!?"], ["Xqz Wvut Zzyx Qwrt Plmk"], [""]])
def test_nothing_decides(texts):
    guess = find_language(texts)
    assert (guess.lang, guess.certain) == ("xx", False)


def test_a_large_corpus_is_sampled_over_its_length():
    german = "Wir haben das nicht gewusst, und es ist auch so."
    assert find_language(["1234567890 " * 10] * 5000 + [german] * 20000).lang == "de"
