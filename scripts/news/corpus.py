"""Sentences of the newspaper for a training corpus, and sentences held out to choose by."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import spacy
from spacy.tokens import Doc, DocBin

from spacy_bert_crf._files import atomic_file
from spacy_bert_crf.annotation.docbin import read_docbin
from spacy_bert_crf.errors import BertCrfError

from .annotate import Annotated, Annotator, make_doc
from .left_out import LENGTH, grams, is_left_out, read_left_out, shared
from .words import Sentence, read_line, split_sentences, text_of

#: The held-out sentences are from the last days of the month, this share of the lines.
HELD_OUT = 0.08
#: Sentences for choosing.
DEV = 600
#: Shorter sentences are left out: parts of tables and lists.
MIN_LENGTH = 6
#: A sentence that is unknown to more than this share teaches little.
_MAX_UNKNOWN = 0.5


class Located(NamedTuple):
    """A sentence and its place.

    line: number of the line.
    start: offset of its first character in the line.
    words: its words.
    """

    line: int
    start: int
    words: Sentence


class Mix(NamedTuple):
    """Which sentences are trained on.

    sentences: how many.
    organisations: at least this share of them has an organisation.
    without: at most this share of them has no entity.
    seed: seed of the choice.
    """

    sentences: int
    organisations: float = 0.0
    without: float = 0.4
    seed: int = 1


@dataclass
class News:
    """What was chosen.

    train: sentences to train on.
    dev: sentences to choose by, fully annotated.
    left_out: number of sentences that share a part with the published corpora.
    similar: number of sentences that share a part with held-out ones.
    """

    train: list[Annotated]
    dev: list[Annotated]
    left_out: int
    similar: int


def read_news(path: Path) -> tuple[Located, ...]:
    """The sentences of the newspaper. A file that did not change is read once.

    Raises BertCrfError for a line that can't be read.
    """
    return _read_news(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read_news(path: Path, changed: int) -> tuple[Located, ...]:
    lines = enumerate(path.read_text(encoding="utf8").split("\n"), 1)
    return tuple(
        Located(number, start, words)
        for number, line in lines
        for start, words in split_sentences(read_line(line, f"{path}:{number}"))
    )


def choose(everything: Sequence[Located], mix: Mix, apart: Sequence[str] = ()) -> News:
    """Choose sentences at random. The same arguments give the same choice.

    everything: the sentences of the newspaper.
    mix: how many of which kind to train on.
    apart: texts that no training sentence may share 13 characters in a row with.
    Raises BertCrfError if there are fewer sentences.
    """
    left_out, count = read_left_out(), 0
    lines = everything[-1].line if everything else 0
    known, pools = set[str](), (list[Sentence](), list[Sentence]())
    for line, start, words in everything:
        text = text_of(words)
        if len(text) < MIN_LENGTH or text in known:
            continue
        known.add(text)
        if is_left_out(start, start + len(text), left_out.get(line, ())):
            count += 1
            continue
        pools[line > lines * (1 - HELD_OUT)].append(words)
    rng = random.Random(mix.seed)
    for pool in pools:
        rng.shuffle(pool)
    annotator = Annotator([located.words for located in everything])
    held_out = map(annotator.annotate, pools[1])
    dev = _first((each for each in held_out if not each.unknown), DEV)
    foreign = grams([*apart, *(each.text for each in dev)])
    out = News([], dev, count, 0)
    without = round(mix.sentences * mix.without)
    others = mix.sentences - round(mix.sentences * mix.organisations)
    for words in pools[0]:
        if len(out.train) == mix.sentences:
            break
        if shared(text_of(words), foreign):
            out.similar += 1
            continue
        annotated = annotator.annotate(words)
        labels = {label for *_, label in annotated.entities}
        if (not labels and without == 0) or ("ORG" not in labels and others == 0):
            continue
        if sum(end - start for start, end in annotated.unknown) <= _MAX_UNKNOWN * len(
            annotated.text
        ):
            out.train.append(annotated)
            without -= not labels
            others -= "ORG" not in labels
    if len(out.train) < mix.sentences:
        raise BertCrfError(
            f"the newspaper has {len(out.train):,} sentences for training of this mix, "
            f"{mix.sentences:,} are requested: set corpus.news.sentences in the profile lower."
        )
    return out


def _first(sentences: Iterator[Annotated], count: int) -> list[Annotated]:
    return [each for _, each in zip(range(count), sentences, strict=False)]


def write_news(news: Path, folder: Path, mix: Mix) -> News:
    """Add sentences of the newspaper to FOLDER/train.spacy, and write FOLDER/news-dev.spacy.

    The sentences are shuffled, so that the first of them are a sample of all.

    news: the newspaper, as `fetch_news` writes it.
    folder: folder with train.spacy, dev.spacy and test.spacy of other sentences.
    mix: how many sentences of which kind to add.
    RETURNS: what was chosen.
    Raises BertCrfError for files that can't be read, and if there are fewer sentences.
    """
    nlp = spacy.blank("zh")
    train = list(read_docbin(folder / "train.spacy", nlp.vocab))
    apart = [
        doc.text
        for split in ("dev", "test")
        for doc in read_docbin(folder / f"{split}.spacy", nlp.vocab)
    ]
    chosen = choose(read_news(news), mix, apart)
    _write(folder / "news-dev.spacy", [make_doc(nlp, each) for each in chosen.dev])
    train += [make_doc(nlp, each) for each in chosen.train]
    random.Random(mix.seed).shuffle(train)
    _write(folder / "train.spacy", train)
    return chosen


def _write(path: Path, docs: Sequence[Doc]) -> None:
    with atomic_file(path) as tmp:
        DocBin(docs=docs).to_disk(tmp)


def in_words(news: News) -> str:
    """Counts of what was chosen, as lines."""
    lines = []
    for name, part in (("train", news.train), ("news-dev", news.dev)):
        labels = [label for each in part for *_, label in each.entities]
        counts = ", ".join(f"{label} {labels.count(label):,}" for label in sorted(set(labels)))
        characters = sum(len(each.text) for each in part)
        unknown = sum(end - start for each in part for start, end in each.unknown)
        lines.append(
            f"{name}: {len(part):,} sentences of the newspaper, {characters:,} characters, "
            f"{unknown / max(characters, 1):.1%} unknown; {counts}"
        )
    lines.append(
        f"left out: {news.left_out:,} sentences that share {LENGTH} characters in a row with the "
        f"published dev and test corpora, {news.similar:,} that share as many with held-out ones"
    )
    return "\n".join(lines)
