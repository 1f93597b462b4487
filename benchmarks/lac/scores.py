"""Corpora with gold entities, and scores of what systems find in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spacy
from spacy.tokens import Doc

from benchmarks.harness.common import Entities, Failed, entities_of, read_docs, say
from spacy_bert_crf.annotation.convert import convert_corpus
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.report.intervals import bootstrap
from spacy_bert_crf.evaluation.scores import score

#: The entities of each doc.
Found = list[Entities]
#: Labels that are scored. Entities of another label in gold or predicted ones do not count.
LABELS = ("PER", "LOC", "ORG")


@dataclass(frozen=True)
class Corpus:
    """Docs with gold entities.

    name: in tables. data: name of the --data that it came from. docs: none is empty.
    """

    name: str
    data: str
    docs: list[Doc]

    @property
    def gold(self) -> Found:
        """The gold entities of each doc."""
        return [entities_of(doc) for doc in self.docs]

    def describe(self) -> dict[str, Any]:
        """Name and counts."""
        return {
            "name": self.name,
            "data": self.data,
            "texts": len(self.docs),
            "characters": sum(len(doc.text) for doc in self.docs),
            "entities": sum(map(len, self.gold)),
        }


def read_corpora(data: Sequence[tuple[str, Path]], work: Path) -> list[Corpus]:
    """Read each file; of a folder, each .jsonl and .spacy file as a corpus of its own.

    data: names and paths. work: a folder for converted files. Raises Failed.
    """
    corpora: list[Corpus] = []
    for name, path in data:
        files = [path]
        if path.is_dir():
            files = sorted(f for f in path.iterdir() if f.suffix in (".jsonl", ".spacy"))
        if not files:
            raise Failed(f"{path} has no .jsonl and no .spacy file: name a folder with some.")
        for number, file in enumerate(files):
            if file.suffix != ".spacy":
                converted = work / f"{len(corpora)}-{number}.spacy"
                try:
                    convert_corpus(file, converted)
                except BertCrfError as err:
                    raise Failed(str(err)) from None
            else:
                converted = file
            docs = read_docs(converted, spacy.blank("zh"), 0)
            label = f"{name}/{file.stem}" if path.is_dir() else name
            say(f"{label}: {len(docs):,} texts")
            corpora.append(Corpus(label, name, docs))
    return corpora


def score_all(corpora: list[Corpus], found: dict[str, list[Found]]) -> dict[str, Any]:
    """Scores by corpus and system. Several corpora of one --data have a row together as well.

    found: the entities of each corpus, by system.
    """
    groups: dict[str, list[int]] = {}
    for name in dict.fromkeys(corpus.data for corpus in corpora):
        places = [i for i, corpus in enumerate(corpora) if corpus.data == name]
        groups |= {corpora[i].name: [i] for i in places}
        if len(places) > 1:
            groups[f"{name}, together"] = places
    golds = [corpus.gold for corpus in corpora]
    return {
        name: {
            system: score_one(
                [spans for i in places for spans in parts[i]],
                [spans for i in places for spans in golds[i]],
            )
            for system, parts in found.items()
        }
        for name, places in groups.items()
    }


def score_one(found: Found, gold: Found) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 with a 95 % interval, in percent, for each label and "all"."""
    pairs = [(sorted(_known(a)), sorted(_known(b))) for a, b in zip(found, gold, strict=True)]
    counts = score(((a, b, max((e for _, e, _ in (*a, *b)), default=0)) for a, b in pairs), "BIO")
    intervals = bootstrap(pairs)
    rows = {"all": (counts.entities, intervals[""])}
    for label in LABELS:
        if label in intervals:
            rows[label] = (counts.per_type[label], intervals[label])
    return {
        label: {
            "p": 100 * count.p,
            "r": 100 * count.r,
            "f": 100 * count.f,
            "low": 100 * interval.f.low,
            "high": 100 * interval.f.high,
            "gold": count.gold,
        }
        for label, (count, interval) in rows.items()
    }


def _known(spans: Entities) -> Entities:
    return {span for span in spans if span[2] in LABELS}
