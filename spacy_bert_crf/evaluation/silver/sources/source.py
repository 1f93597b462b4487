"""What all sources have in common: they say of texts which entities these have."""

from collections.abc import Sequence
from typing import NamedTuple, Optional, Protocol, Union

import numpy as np
from spacy.tokens import Doc

from ....annotation.formats.text import AnnotatedText
from ..agreement import Opinion
from .spec import Spec

#: What a source says of a text, or why it says nothing.
Outcome = Union[Opinion, str]


class Text(NamedTuple):
    """A text of which sources are asked.

    id: its name.
    place: where it was read.
    doc: its tokens, those of the silver annotation.
    has_id: whether a field of the file is its name. Otherwise it is only FILE:NUMBER.
    """

    id: str
    place: str
    doc: Doc
    has_id: bool = False


class Source(Protocol):
    """A source of annotation."""

    spec: Spec

    @property
    def labels(self) -> Optional[list[str]]:
        """Its labels by their old names; None if they are not known."""

    def opinions(self, texts: Sequence[Text]) -> list[Outcome]:
        """What it says of each of a few texts. Raises BertCrfError for damaged input."""

    def close(self, asked: int) -> list[str]:
        """End. RETURNS: remarks for the report.

        asked: of how many texts it was asked.
        Raises BertCrfError if it said nothing of any text because it is of other texts.
        """


def aligned(
    doc: Doc, item: AnnotatedText, covers: Optional[frozenset[str]], shift: int = 0
) -> Opinion:
    """An annotation in characters as an opinion in tokens.

    White space at the ends of entities is left out. Where a border lies inside of a token, the
    tokens are in doubt.

    doc: the tokens.
    item: the annotation, by its new labels.
    covers: labels of which the source finds every entity, if the annotation does not say so itself.
    shift: what is added to the offsets of the annotation.
    """
    array = doc.to_array(["IDX", "LENGTH"]).astype(np.int64).reshape(-1, 2)
    starts = {at: i for i, at in enumerate(array[:, 0].tolist())}
    ends = {at: i + 1 for i, at in enumerate(array.sum(1).tolist())}
    text, entities, doubts = doc.text, [], []
    loose = [(start + shift, end + shift) for start, end in item.unknown]
    for start, end, label in item.entities:
        start, end = start + shift, end + shift
        inside = text[start:end]
        start, end = end - len(inside.lstrip()), start + len(inside.rstrip())
        if start >= end:
            continue
        if start in starts and end in ends:
            entities.append((starts[start], ends[end], label))
        else:
            loose.append((start, end))
    for start, end in loose:
        span = doc.char_span(max(start, 0), min(end, len(text)), alignment_mode="expand")
        if span is not None and len(span):
            doubts.append((span.start, span.end))
    if item.partial:
        covers = frozenset()
    elif item.covers is not None:
        covers = item.covers
    return Opinion(tuple(entities), covers, tuple(doubts))
