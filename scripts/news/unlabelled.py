"""Sentences of the newspaper without annotation, for a student to learn from its teacher."""

import random
from dataclasses import dataclass
from pathlib import Path

import spacy

from spacy_bert_crf._files import write_text
from spacy_bert_crf.annotation.docbin import read_docbin
from spacy_bert_crf.errors import BertCrfError

from .corpus import MIN_LENGTH, read_news
from .left_out import LENGTH, grams, is_left_out, read_left_out, shared
from .words import text_of

#: Parts of speech of names. A sentence without any teaches little about entities.
_NAMES = frozenset(("nr", "ns", "nt", "nz", "nx", "j"))
#: Splits that a training corpus has been made of, and splits to stay apart from.
_TRAIN, _HELD_OUT = ("train",), ("dev", "test", "news-dev")


@dataclass(frozen=True)
class Unlabelled:
    """What was chosen.

    texts: the sentences.
    left_out: number of sentences that share a part with the published corpora.
    similar: number of sentences that share a part with held-out ones.
    """

    texts: list[str]
    left_out: int
    similar: int

    def __str__(self) -> str:
        characters = sum(map(len, self.texts))
        return (
            f"{len(self.texts):,} sentences of the newspaper without annotation, {characters:,} "
            f"characters\nleft out: {self.left_out:,} sentences that share {LENGTH} characters in "
            f"a row with the published dev and test corpora, {self.similar:,} that share as many "
            "with held-out ones"
        )


def choose_unlabelled(news: Path, folder: Path, sentences: int, seed: int) -> Unlabelled:
    """Choose sentences with a name that are in no split. The same arguments give the same choice.

    news: the newspaper, as `fetch_news` writes it.
    folder: folder of train.spacy, dev.spacy, test.spacy and, if there is one, news-dev.spacy.
    sentences: how many at most.
    seed: seed of the random numbers.
    Raises BertCrfError for files that can't be read, and if no sentence is left.
    """
    vocab = spacy.blank("zh").vocab
    texts = {
        split: [doc.text for doc in read_docbin(path, vocab)]
        for split in (*_TRAIN, *_HELD_OUT)
        if (path := folder / f"{split}.spacy").is_file() or split != "news-dev"
    }
    known = {text for split in _TRAIN for text in texts[split]}
    apart = grams(text for split in _HELD_OUT for text in texts.get(split, ()))
    published, found = read_left_out(), list[str]()
    left_out = similar = 0
    for line, start, words in read_news(news):
        text = text_of(words)
        if len(text) < MIN_LENGTH or text in known or _NAMES.isdisjoint(w.tag for w in words):
            continue
        known.add(text)
        if is_left_out(start, start + len(text), published.get(line, ())):
            left_out += 1
        elif shared(text, apart):
            similar += 1
        else:
            found.append(text)
    if not found:
        raise BertCrfError(f"{news} has no sentence that is in no split: leave student.texts out.")
    random.Random(seed).shuffle(found)
    return Unlabelled(found[:sentences], left_out, similar)


def write_unlabelled(
    news: Path, folder: Path, dst: Path, sentences: int, seed: int = 1
) -> Unlabelled:
    """Write the chosen sentences to a file, one on each line. See `choose_unlabelled`.

    dst: the file to write.
    RETURNS: what was chosen.
    """
    chosen = choose_unlabelled(news, folder, sentences, seed)
    write_text(dst, "".join(f"{text}\n" for text in chosen.texts))
    return chosen
