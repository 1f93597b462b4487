"""Read a stream of texts with a pipeline, and keep the most unsure ones.

Of the texts that are read, only the highest scores are kept, with their texts. So the memory does
not grow with the input.
"""

import heapq
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Union

import xxhash
from spacy.language import Language
from tqdm import tqdm

from ...component.pipelines import docs_before
from ...errors import BertCrfError
from .uncertainty import Figures

if TYPE_CHECKING:
    from ...component.pipe import BertCrf

#: Texts and characters of a batch, whichever is reached first.
_BATCH_TEXTS, _BATCH_CHARACTERS = 256, 32_768
#: A longer text is left out.
MAX_CHARACTERS = 100_000

#: A text, or its name and the text.
AnyText = Union[str, tuple[str, str]]


@dataclass(frozen=True)
class Candidate:
    """A text that may be chosen.

    index: its place in the input, from 0.
    name: its name in the input.
    text: the text.
    figures: how unsure the pipeline is of it.
    score: its score.
    """

    index: int
    name: str
    text: str
    figures: Figures
    score: float


@dataclass
class Pool:
    """The candidates with the highest scores, and counts of the input.

    candidates: by falling score, then in the order of the input.
    texts: number of texts in the input.
    characters: number of their characters.
    left_out: number of texts that were left out, by reason.
    """

    candidates: list[Candidate] = field(default_factory=list)
    texts: int = 0
    characters: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def digest(text: str) -> int:
    """A number for a text, equal for texts that differ in white space only."""
    plain = "".join(text.split())
    return int(xxhash.xxh3_128_intdigest(plain.encode("utf8", "surrogatepass")))


def read_pool(
    nlp: Language,
    pipe: "BertCrf",
    texts: Iterable[AnyText],
    *,
    by: str,
    per: str,
    size: int,
    excluded: Container[int] = frozenset(),
    progress: bool = False,
) -> Pool:
    """Score texts, each by one pass of the encoder, and keep those with the highest scores.

    Left out are empty texts, those above MAX_CHARACTERS, those that the pipeline does not take,
    excluded ones, and all but the first of equal ones.

    nlp: the pipeline.
    pipe: its component.
    texts: the texts. Each is read once, so that they may be a generator.
    by: a score, one of uncertainty.BY.
    per: a key of uncertainty.PER.
    size: largest number of texts that are kept.
    excluded: digests of texts that are left out.
    progress: show a progress bar on stderr, if that is a terminal.
    """
    pool = Pool()
    kept: list[tuple[float, int, Candidate]] = []
    known: set[int] = set()
    with tqdm(unit=" texts", disable=None if progress else True) as bar:
        for batch in _batches(_usable(texts, pool, excluded)):
            for (index, name, text), figures in _read(nlp, pipe, batch, pool):
                # Scores of equal texts differ in the last digits, by what else is in the batch.
                score = round(figures.score(by, per), 9)
                key = (score, -index)
                if digest(text) in known:
                    pool.left_out["equal to another text"] += 1
                elif len(kept) < size or key > kept[0][:2]:
                    found = (*key, Candidate(index, name, text, figures, score))
                    known.add(digest(text))
                    if len(kept) < size:
                        heapq.heappush(kept, found)
                    else:
                        known.discard(digest(heapq.heapreplace(kept, found)[2].text))
            bar.update(len(batch))
    pool.candidates = [found[2] for found in sorted(kept, reverse=True)]
    return pool


_Numbered = tuple[int, str, str]


def _usable(texts: Iterable[AnyText], pool: Pool, excluded: Container[int]) -> Iterator[_Numbered]:
    """The texts with their place and name, but for those that can be left out unread."""
    for index, item in enumerate(texts):
        name, text = (str(index + 1), item) if isinstance(item, str) else item
        pool.texts += 1
        pool.characters += len(text)
        if not text.strip():
            pool.left_out["empty"] += 1
        elif len(text) > MAX_CHARACTERS:
            pool.left_out[f"longer than {MAX_CHARACTERS:,} characters"] += 1
        elif digest(text) in excluded:
            pool.left_out["excluded"] += 1
        else:
            yield index, name, text


def _batches(texts: Iterable[_Numbered]) -> Iterator[list[_Numbered]]:
    batch: list[_Numbered] = []
    size = 0
    for item in texts:
        if batch and (len(batch) == _BATCH_TEXTS or size + len(item[2]) > _BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item[2])
    if batch:
        yield batch


def _read(
    nlp: Language, pipe: "BertCrf", batch: list[_Numbered], pool: Pool
) -> Iterator[tuple[_Numbered, Figures]]:
    """The texts of a batch that the pipeline takes, with their figures."""
    try:
        docs = docs_before(nlp, pipe.name, [text for _, _, text in batch])
    except BertCrfError:
        if len(batch) == 1:
            pool.left_out["not taken by the pipeline"] += 1
            return
        for item in batch:
            yield from _read(nlp, pipe, [item], pool)
        return
    for item, reading in zip(batch, pipe.read(docs, expected=True), strict=True):
        yield item, Figures.of(reading)
