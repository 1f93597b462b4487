"""Sentences of a report with their entities: the data that `rows` makes and `page` shows."""

import math
from dataclasses import dataclass
from typing import Optional

from ..scores import LONG, SHIFTED, SHORT

RIGHT, OTHER_LABEL, BOTH = "right", "other label", "other borders and label"
MISSED, SPURIOUS = "missed", "spurious"
#: Not compared, because the gold is not known there.
UNKNOWN = "gold not known"
#: The kinds of errors, in the order in which a page lists them.
KINDS = (OTHER_LABEL, SHORT, LONG, SHIFTED, BOTH, MISSED, SPURIOUS)
#: Probabilities are kept away from 0 and 1 by so much, where their logarithm is needed.
_MIN_PROBABILITY = 1e-6


@dataclass
class Entity:
    """An entity of a sentence.

    start: offset of its first character in the text.
    end: offset after its last character.
    label: its entity type.
    kind: RIGHT, UNKNOWN, or one of KINDS.
    probability: from 0 to 1; None if it is not known. That of a gold entity is the CRF's, that of
        a predicted one is as the component writes it.
    """

    start: int
    end: int
    label: str
    kind: str
    probability: Optional[float] = None


@dataclass(frozen=True)
class Row:
    """A sentence (a doc of the corpus).

    number: number of the doc among the annotated ones, from 0.
    text: its text.
    gold: gold entities, by their start.
    predicted: predicted entities, by their start.
    """

    number: int
    text: str
    gold: list[Entity]
    predicted: list[Entity]

    @property
    def surprise(self) -> float:
        """How sure the pipeline was of the errors, in nats; 0 without errors.

        It is the sum of -log p over the gold entities that were not found, and of -log(1 - p) over
        the wrong predicted entities. An entity without a probability counts as p = 0.5.
        """
        gold = sum(_cost(e.probability) for e in self.gold if e.kind in KINDS)
        wrong = (e.probability for e in self.predicted if e.kind in KINDS)
        return gold + sum(_cost(None if p is None else 1 - p) for p in wrong)


def _cost(probability: Optional[float]) -> float:
    p = 0.5 if probability is None else min(max(probability, _MIN_PROBABILITY), 1.0)
    return -math.log(p)
