"""What a request wants to know of a text, and how a text is refused."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

from ..errors import BertCrfError

if TYPE_CHECKING:
    from ..component.decoding.dictionary import Name

#: Smallest probability of candidates that may be requested. Less probable ones are too many.
MIN_CANDIDATES = 0.001
#: Largest number of readings of a text.
MAX_NBEST = 20
#: Largest number of names that a request may add to the dictionary.
MAX_NAMES = 200
#: An answer in the form of JSON, or the error of the text.
Answer = Union[dict[str, Any], Exception]


class FixedSpan(NamedTuple):
    """An entity that is given with a text.

    start: offset of its first character.
    end: offset after its last character.
    label: its entity type; None if there is no entity here.
    """

    start: int
    end: int
    label: Optional[str]


@dataclass(frozen=True)
class Options:
    """What to compute for a text. None: as the pipeline is set.

    scores: probabilities of entities, and the figures of the text.
    candidates: smallest probability of entities beyond those of the best path; 0 for none.
    threshold: smallest probability of entities.
    nbest: number of readings; 0 for none.
    labels: entity types that may be predicted.
    names: further names of a dictionary, each with its label and mode. They take the place of the
        pipeline's own names of the same text.
    """

    scores: Optional[bool] = None
    candidates: Optional[float] = None
    threshold: Optional[float] = None
    nbest: int = 0
    labels: Optional[tuple[str, ...]] = None
    names: "tuple[Name, ...]" = ()


@dataclass(frozen=True)
class TextTask:
    """A text to annotate.

    text: the text.
    options: what to compute.
    fixed: entities that are given. The rest is decoded around them.
    """

    text: str
    options: Options = Options()
    fixed: tuple[FixedSpan, ...] = ()


class Refused(BertCrfError):
    """A text, or an option of it, that can't be used.

    where: the part of the text's task, such as `entities[0]`; empty for the text itself.
    """

    def __init__(self, where: str, message: str) -> None:
        super().__init__(message)
        self.where = where
