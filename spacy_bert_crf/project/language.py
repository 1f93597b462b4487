"""Find the language of texts: by their script first, then by the stop words that spaCy ships."""

import math
import pkgutil
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

#: Code of spaCy's language without rules of its own, for texts whose language is not found.
ANY = "xx"
#: Languages by script, as the first word of a character's Unicode name. The first language of a
#: script is taken where no stop word decides. Latin stands for all languages of that script.
SCRIPTS = {
    "LATIN": ("en",),
    "CYRILLIC": ("ru", "uk", "bg", "sr", "mk", "ky", "tt"),
    "ARABIC": ("ar", "fa", "ur"),
    "DEVANAGARI": ("hi", "mr", "ne", "sa"),
    "ETHIOPIC": ("am", "ti"),
    "GREEK": ("el",),
    "HEBREW": ("he",),
    "THAI": ("th",),
    "HANGUL": ("ko",),
    "BENGALI": ("bn",),
    "TAMIL": ("ta",),
    "TELUGU": ("te",),
    "KANNADA": ("kn",),
    "MALAYALAM": ("ml",),
    "GUJARATI": ("gu",),
    "SINHALA": ("si",),
    "ARMENIAN": ("hy",),
    "TIBETAN": ("bo",),
}
#: Letters, or a frequent word, that a language has and those after it and without an entry lack.
MARKS: dict[str, Sequence[str]] = {
    "ur": "ٹڈڑےں",
    "fa": "پچژگ",
    "uk": "ґєії",
    "mk": "ѓќѕ",
    "sr": "ђћ",
    "az": "ə",
    "tr": "ğı",
    "hi": ("है",),
}

_HAN, _KANA = ("CJK",), ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH")
#: About as many characters make a word, so that scripts can be compared.
_WORD_LENGTH = {"CJK": 1.5, "HIRAGANA": 2.0, "KATAKANA": 4.0, "HANGUL": 3.0}
#: Smallest share of kana among kana and hanzi in Japanese. It is near a half in most texts.
_KANA_SHARE = 0.08
#: Smallest share of words that are stop words of the best language, weighted by how few languages
#: have them. Running text of a known language scores 0.3 and more.
_MIN_SCORE = 0.08
#: Largest number of characters to look at.
_SAMPLE = 200_000
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


@dataclass(frozen=True)
class Guess:
    """A language that was found.

    lang: code of a language of spaCy.
    script: name of the most frequent script, such as `LATIN`; empty for texts without letters.
    certain: whether script or stop words decide for this language.
    """

    lang: str
    script: str
    certain: bool


def find_language(texts: Sequence[str]) -> Guess:
    """Find the language of texts, among those that spaCy has stop words for.

    Japanese is told from Chinese by its kana, Persian and Urdu from Arabic by letters of their
    own. Languages of one script are compared by spaCy's stop words. A stop word counts more, the
    fewer languages have it.

    texts: at least one text. About 200,000 characters are read, spread over all texts.
    RETURNS: the language; `xx` if nothing decides.
    """
    sample = _sample(texts)
    counts = Counter(_script(char) for char in sample if char.isalpha())
    kana = sum(counts[name] for name in _KANA)
    han = sum(counts[name] for name in _HAN)
    sizes = Counter({name: n / _WORD_LENGTH.get(name, 5.0) for name, n in counts.items()})
    asian = sum(sizes.pop(name, 0.0) for name in (*_HAN, *_KANA))
    script, size = max(sizes.items(), key=lambda item: item[1], default=("", 0.0))
    if asian and asian >= size:
        is_japanese = kana >= _KANA_SHARE * (kana + han)
        return Guess("ja" if is_japanese else "zh", "KANA" if is_japanese else "CJK", True)
    if script not in SCRIPTS:
        return Guess(ANY, script, False)
    return _by_words(sample, script)


def _by_words(sample: str, script: str) -> Guess:
    langs = latin_languages() if script == "LATIN" else SCRIPTS[script]
    letters = sum(map(str.isalpha, sample))
    for lang in (lang for lang in MARKS if lang in langs):
        own = sum(map(sample.count, MARKS[lang]))
        if own > 0.005 * letters:
            return Guess(lang, script, True)
    langs = tuple(lang for lang in langs if lang not in MARKS)
    if len(langs) == 1:
        return Guess(langs[0], script, True)
    words = Counter(word.lower().replace("’", "'") for word in _WORD.findall(sample))
    scores = _scores(words, langs)
    # Languages with equal lists, such as Indonesian and Malay: the first one.
    best = max(langs, key=lambda lang: scores[lang])
    if scores[best] < _MIN_SCORE:
        return Guess(ANY if script == "LATIN" else SCRIPTS[script][0], script, False)
    return Guess(best, script, True)


def _scores(words: Counter[str], langs: Sequence[str]) -> dict[str, float]:
    """For each language: weights of its stop words among `words`, over the number of words."""
    lists = {lang: stop_words(lang) for lang in langs}
    spread = Counter(word for stops in lists.values() for word in stops if word in words)
    weight = {word: math.log(len(langs) / n) / math.log(len(langs)) for word, n in spread.items()}
    total = sum(words.values()) or 1
    return {
        lang: sum(words[word] * weight[word] for word in stops & words.keys()) / total
        for lang, stops in lists.items()
    }


@lru_cache
def latin_languages() -> tuple[str, ...]:
    """Codes of spaCy's languages in Latin script that have stop words."""
    import spacy.lang

    others = {lang for langs in SCRIPTS.values() for lang in langs} - {"en"}
    found = [
        module.name
        for module in pkgutil.iter_modules(spacy.lang.__path__)
        if module.ispkg and module.name not in {*others, "zh", "ja"}
    ]
    return tuple(lang for lang in found if any(word.isascii() for word in stop_words(lang)))


@lru_cache
def stop_words(lang: str) -> frozenset[str]:
    """spaCy's stop words of a language; none if it has no list."""
    name = f"spacy.lang.{lang}.stop_words"
    if find_spec(name) is None:
        return frozenset()
    return frozenset(word.lower().replace("’", "'") for word in import_module(name).STOP_WORDS)


def _script(char: str) -> str:
    return unicodedata.name(char, "").partition(" ")[0]


def _sample(texts: Sequence[str]) -> str:
    """About _SAMPLE characters, from texts at equal distances."""
    total = sum(map(len, texts))
    step = max(1, total // _SAMPLE)
    return "\n".join(_cut(texts[::step]))


def _cut(texts: Iterable[str]) -> Iterable[str]:
    left = _SAMPLE
    for text in texts:
        if left <= 0:
            return
        yield text[:left]
        left -= len(text)
