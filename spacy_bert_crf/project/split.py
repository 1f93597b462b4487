"""Divide annotated texts into train, dev and test: whole documents, with all labels in each part.

The method is iterative stratification (Sechidis, Tsoumakas and Vlahavas, On the Stratification of
Multi-Label Data, 2011), over groups of texts that must stay together.
"""

import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import BertCrfError

if TYPE_CHECKING:
    from ..annotation.formats import AnnotatedText

#: Shares of dev and of test where they are split off.
SHARES = {"dev": 0.1, "test": 0.1}
#: With fewer documents than this, texts of one document may stand in several parts.
MIN_DOCUMENTS = 10


@dataclass(frozen=True)
class Split:
    """Indices of the texts of each part.

    parts: the indices by the name of the part, in the order of the corpus. `train` is the first.
    by_document: whether all texts of a document are in one part.
    """

    parts: dict[str, list[int]]
    by_document: bool


def split_texts(
    texts: "Sequence[AnnotatedText]", *, shares: Mapping[str, float], seed: int = 0
) -> Split:
    """Divide texts at random, so that each part has about its share of the entities of each label.

    Texts of one document stay together, unless there are fewer than MIN_DOCUMENTS. Texts that are
    equal, white space aside, always stay together. Same texts, shares and seed give the same parts.

    texts: the texts.
    shares: share of each part beside train, such as {"dev": 0.1, "test": 0.1}.
    seed: seed of the random order.
    RETURNS: the parts. None of them is empty.
    Raises BertCrfError if there are too few texts that differ.
    """
    documents = {text.document for text in texts if text.document}
    by_document = len(documents) >= MIN_DOCUMENTS
    groups = _groups(texts, by_document)
    names = ["train", *shares]
    if len(groups) < len(names):
        raise BertCrfError(
            f"{len(groups)} different text(s) can't be divided into {', '.join(names)}: add texts, "
            "or name files of their own with --dev and --test."
        )
    rates = {"train": 1.0 - sum(shares.values()), **shares}
    random.Random(seed).shuffle(groups)
    labels = [Counter(e[2] for i in group for e in texts[i].entities) for group in groups]
    placed = _distribute(groups, labels, rates)
    _fill_empty(placed, groups, names)
    parts = {
        name: sorted(i for at, part in placed.items() if part == name for i in groups[at])
        for name in names
    }
    return Split(parts, by_document and bool(documents))


def text_key(text: str) -> str:
    """A text without differences in white space. Texts with equal keys count as equal."""
    return " ".join(text.split())


def _groups(texts: "Sequence[AnnotatedText]", by_document: bool) -> list[list[int]]:
    """Indices of texts that stay together: of one document, or equal, and so on from these."""
    above = list(range(len(texts)))

    def root(i: int) -> int:
        while above[i] != i:
            above[i] = above[above[i]]
            i = above[i]
        return i

    first: dict[Hashable, int] = {}
    for i, text in enumerate(texts):
        keys: list[Hashable] = [("text", text_key(text.text))]
        if by_document and text.document:
            keys.append(("document", text.document))
        for key in keys:
            above[root(i)] = root(first.setdefault(key, i))
    groups: dict[int, list[int]] = {}
    for i in range(len(texts)):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())


def _distribute(
    groups: Sequence[list[int]], labels: Sequence[Counter[str]], rates: Mapping[str, float]
) -> dict[int, str]:
    """The part of each group: rare labels first, each to the part that lacks most of its share."""
    n_texts = sum(map(len, groups))
    totals = sum(labels, Counter[str]())
    wanted = {
        part: {label: rate * n for label, n in totals.items()} for part, rate in rates.items()
    }
    room = {part: rate * n_texts for part, rate in rates.items()}
    holders: dict[str, list[int]] = {label: [] for label in totals}
    for at, counts in enumerate(labels):
        for label in counts:
            holders[label].append(at)
    placed: dict[int, str] = {}

    def place(at: int, label: str | None) -> None:
        def need(part: str) -> tuple[float, float]:
            return (wanted[part][label] if label else 0.0, room[part])

        part = max(rates, key=need)
        placed[at] = part
        room[part] -= len(groups[at])
        for name, n in labels[at].items():
            wanted[part][name] -= n

    # The order of labels with equal counts is that of their names, not of the hash.
    for label in sorted(totals, key=lambda label: (totals[label], label)):
        for at in sorted(holders[label], key=lambda at: -len(groups[at])):
            if at not in placed:
                place(at, label)
    for at in sorted(range(len(groups)), key=lambda at: -len(groups[at])):
        if at not in placed:
            place(at, None)
    return placed


def _fill_empty(placed: dict[int, str], groups: Sequence[list[int]], names: Sequence[str]) -> None:
    """Give every empty part the smallest group of the part with most groups."""
    for name in names:
        if name in placed.values():
            continue
        largest = Counter(placed.values()).most_common(1)[0][0]
        at = min((at for at in placed if placed[at] == largest), key=lambda at: len(groups[at]))
        placed[at] = name
