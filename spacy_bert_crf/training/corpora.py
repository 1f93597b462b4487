"""Several training corpora as one, each with the labels that it covers and a weight."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Optional

from spacy.language import Language
from spacy.training import Corpus as DocBinCorpus
from spacy.training import Example
from spacy.util import registry

from ..annotation.coverage.covers import checked, covers_of, set_covers
from ..annotation.coverage.label_map import LabelMap
from ..errors import BertCrfError

Reader = Callable[[Language], Iterable[Example]]
#: Name of the reader.
CORPORA = "spacy_bert_crf.Corpora.v1"
#: Key of `doc.user_data` with the name of a doc's corpus.
NAME = "corpus"


@dataclass(frozen=True)
class _Source:
    """One of the corpora.

    path: its DocBin, or a folder of them. None with a reader.
    reader: a reader in its place.
    covers: the labels that it covers, by their new names, in docs that do not say so themselves.
        None for all.
    weight: how often its texts are drawn, compared with those of the other corpora.
    map: new name of each label that gets one.
    outside: labels that are dropped, and whose tokens are no entity. "*" for all others.
    unknown: labels that are dropped, and whose tokens are unknown. "*" for all others.
    """

    path: Optional[str] = None
    reader: Optional[Reader] = None
    covers: Optional[list[str]] = None
    weight: float = 1.0
    map: Optional[dict[str, str]] = None
    outside: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@registry.readers(CORPORA)
def create_corpora(corpora: dict[str, dict[str, Any]], seed: int = 0) -> Reader:
    """Read several corpora, one after the other.

    Weights are compared with the smallest one. A corpus of three times its weight has each text
    three times in an epoch. Of two and a half times, it has each text twice, and half of the texts
    a third time.

    corpora: settings of each corpus by its name: path or reader, covers, weight, map, outside,
        unknown. Only path (or reader) is needed.
    seed: seed of which texts are drawn once more.
    Raises BertCrfError for a setting that is unknown or out of range.
    """
    if not corpora:
        raise BertCrfError(f"{CORPORA} has no corpora: add [corpora.train.corpora.NAME] with path.")
    sources = {name: _source(name, settings) for name, settings in corpora.items()}
    maps = {
        name: LabelMap.of(each.map, each.outside, each.unknown) for name, each in sources.items()
    }
    least = min(each.weight for each in sources.values())

    def read(nlp: Language) -> Iterator[Example]:
        for name, source in sources.items():
            examples = list(_examples(nlp, name, source, maps[name]))
            times, share = divmod(source.weight / least, 1.0)
            yield from examples
            for _ in range(int(times) - 1):
                yield from map(_again, examples)
            more = random.Random(f"{seed} {name}").sample(examples, round(share * len(examples)))
            yield from map(_again, more)

    return read


def corpus_name(example: Example, otherwise: str) -> str:
    """The name of the corpus that an example comes from."""
    return str(example.reference.user_data.get(NAME, otherwise))


def _source(name: str, settings: Mapping[str, Any]) -> _Source:
    """The settings of a corpus. Raises BertCrfError for those that can't be used."""
    where = f"[corpora.train.corpora.{name}]"
    known = [field.name for field in fields(_Source)]
    if other := sorted(set(settings) - set(known)):
        raise BertCrfError(f"{where} has no setting {other[0]!r}: use {', '.join(known)}.")
    source = _Source(**settings)
    if (source.path is None) == (source.reader is None):
        raise BertCrfError(f"{where} needs either a path or a reader: set one of them.")
    weight = source.weight
    is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if not is_number or not 0 < weight < math.inf:
        raise BertCrfError(f"{where} weight is {weight!r}: it must be above 0.")
    checked(source.covers, f"{where} covers")
    return source


def _examples(nlp: Language, name: str, source: _Source, label_map: LabelMap) -> Iterator[Example]:
    reader = source.reader or DocBinCorpus(source.path)
    for example in reader(nlp):
        doc = example.reference
        label_map.apply_to_doc(doc)
        if source.covers is not None and covers_of(doc) is None:
            set_covers(doc, source.covers)
        doc.user_data[NAME] = name
        yield example


def _again(example: Example) -> Example:
    """The example as another one with the same reference."""
    return Example(example.predicted.copy(), example.reference)
