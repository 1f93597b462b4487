"""Scores of a text: how unsure a pipeline is of it, from the exact posterior of the CRF."""

import math
from dataclasses import dataclass

from ...component.reading import Reading
from ...errors import BertCrfError

#: By what texts are scored.
ENTROPY, BEST_PATH, ERRORS, TOKEN_ERRORS = "entropy", "best-path", "errors", "token-errors"
BY = (ENTROPY, BEST_PATH, ERRORS, TOKEN_ERRORS)
#: What a score is for: the power of the number of tokens that it is divided by.
PER = {"token": 1.0, "root": 0.5, "text": 0.0}


@dataclass(frozen=True)
class Figures:
    """How unsure a pipeline is of a text.

    tokens: number of its tokens.
    entropy: entropy of the distribution over tag paths, in nats.
    log_probability: natural logarithm of the best path's probability.
    errors: expected number of wrong entities, if the best path is taken: predicted ones that are
        not there, and those that are there and not predicted.
    token_errors: expected number of tokens with a wrong label, if the best path is taken.
    """

    tokens: int
    entropy: float
    log_probability: float
    errors: float
    token_errors: float

    @classmethod
    def of(cls, reading: Reading) -> "Figures":
        """The figures of a reading with expected numbers, see `BertCrf.read`."""
        sure = sum(entity.probability for entity in reading.entities)
        spurious = len(reading.entities) - sure
        missed = max(reading.expected_entities - sure, 0.0)  # rounding
        return cls(
            len(reading.tags),
            reading.entropy,
            min(reading.log_probability, 0.0),
            spurious + missed,
            reading.expected_wrong,
        )

    def score(self, by: str = ENTROPY, per: str = "token") -> float:
        """The score of the text; higher is less sure. 0 for a text without tokens.

        Entropy and numbers of errors are divided by the number of tokens, by its square root, or
        not at all. Of `best-path` it is one minus the probability of the best path. That is first
        raised to the power of one by the number of tokens (by its square root), which is the
        geometric mean over tokens.

        by: one of BY.
        per: a key of PER.
        """
        if not self.tokens:
            return 0.0
        divisor = self.tokens ** PER[per]
        if by == BEST_PATH:
            return -math.expm1(self.log_probability / divisor)
        found = {ENTROPY: self.entropy, ERRORS: self.errors, TOKEN_ERRORS: self.token_errors}
        return found[by] / divisor


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise BertCrfError if a setting is none of its choices."""
    if value not in choices:
        raise BertCrfError(f"--{name} can't be {value!r}: use one of {', '.join(choices)}.")
