"""Reads lines of words with their parts of speech, such as `江/nr  泽民/nr  发表/v`."""

from collections.abc import Iterator
from typing import NamedTuple

from spacy_bert_crf.encoder.texts.sentences import sentence_ends
from spacy_bert_crf.errors import BertCrfError

#: Full-width letters and digits, which become half-width. Other full-width signs stay.
_FOLDED = {
    full: full - 0xFEE0
    for first, last in ("０９", "ＡＺ", "ａｚ")
    for full in range(ord(first), ord(last) + 1)
}


class Word(NamedTuple):
    """A word of a sentence.

    text: its characters, folded.
    tag: its part of speech, in the tag set of Peking University (`nr`, `ns`, `nt`, `n`, ...).
    start: offset of its first character in the sentence.
    """

    text: str
    tag: str
    start: int

    @property
    def end(self) -> int:
        """Offset after its last character in the sentence."""
        return self.start + len(self.text)


Sentence = list[Word]


def fold(text: str) -> str:
    """The text with half-width letters and digits. Its length stays the same."""
    return text.translate(_FOLDED)


def text_of(words: Sentence) -> str:
    """The text of a sentence."""
    return "".join(word.text for word in words)


def read_line(line: str, place: str = "") -> Sentence:
    """The words of a line, without its line break.

    line: words with their tags, separated by spaces.
    place: the file and the line, as messages name it.
    Raises BertCrfError for a word without a tag.
    """
    words, at = [], 0
    for item in line.split():
        text, slash, tag = item.rpartition("/")
        if not (text and slash and tag.isalpha() and tag.isascii()):
            raise BertCrfError(f"{place}: {item!r} is no word with its tag, such as 发表/v.")
        words.append(Word(fold(text), tag, at))
        at += len(text)
    return words


def split_sentences(words: Sentence) -> Iterator[tuple[int, Sentence]]:
    """The sentences of a line, as (offset in the line, words with offsets in the sentence).

    A sentence ends where the encoder's rule ends one, if that is between two words.
    """
    ends = {int(end) for end in sentence_ends(text_of(words))}
    first, start = 0, 0
    for number, word in enumerate(words, 1):
        if word.end in ends or number == len(words):
            yield start, [Word(w.text, w.tag, w.start - start) for w in words[first:number]]
            first, start = number, word.end
