"""Gold annotation of a spaCy Example as sets of allowed tags, and what of it can't be placed."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Span
from spacy.training import Example

_O = 2  # spaCy's ENT_IOB: 0 missing, 1 I, 2 O, 3 B (with no type: blocked)


class LostEntity(NamedTuple):
    """A gold entity without a place in the predicted tokens."""

    text: str
    label: str
    start_char: int
    context: str

    def __str__(self) -> str:
        return f"{self.text!r} ({self.label}) at character {self.start_char} of {self.context!r}"


class Gold(NamedTuple):
    """Gold of one Example on its predicted tokens.

    spans: entities as (start, end, label), of all labels.
    known: whether a token's annotation is known. [n_tokens]
    lost: entities that could not be aligned; their tokens are unknown.
    """

    spans: list[tuple[int, int, str]]
    known: NDArray[np.bool_]
    lost: list[LostEntity]


def read_gold(example: Example) -> Gold:
    """The aligned annotation of an Example. A token without annotation is unknown, never O."""
    predicted, reference = example.predicted, example.reference
    n_tokens = len(predicted)
    if not reference.has_annotation("ENT_IOB"):
        return Gold([], np.zeros(n_tokens, dtype=bool), [])
    if n_tokens == len(reference) and _same_tokens(example):
        iob = reference.to_array("ENT_IOB").astype(np.int64)
        spans = [(ent.start, ent.end, ent.label_) for ent in reference.ents]
        lost: list[LostEntity] = []
        known = iob == _O
    else:
        spans, lost, known = [], [], np.zeros(n_tokens, dtype=bool)
        for ent in reference.ents:
            aligned = example.get_aligned_spans_y2x([ent])
            if aligned and not _overlaps(aligned[0], spans):
                spans.append((aligned[0].start, aligned[0].end, ent.label_))
            else:
                lost.append(_lost(ent))
        known[:] = [iob == _O for iob in example.get_aligned("ENT_IOB")]
    # Whitespace is never annotated by hand: outside, as in spaCy's own alignment.
    known |= np.fromiter((token.is_space for token in predicted), dtype=bool, count=n_tokens)
    for start, end, _ in spans:
        known[start:end] = True
    return Gold(spans, known, lost)


def lost_report(lost: list[LostEntity], total: int, most: int = 10) -> str:
    """A warning's text that counts and names the lost entities."""
    names = "; ".join(str(entity) for entity in lost[:most])
    more = f"; and {len(lost) - most} more" if len(lost) > most else ""
    return (
        f"{len(lost)} of {total} gold entities have no place in the predicted tokens and are left "
        f"out (their tokens count as unknown): {names}{more}. Their borders lie inside a token of "
        "the pipeline's tokenizer, or they overlap."
    )


def _overlaps(span: Span, spans: list[tuple[int, int, str]]) -> bool:
    return any(start < span.end and span.start < end for start, end, _ in spans)


def _same_tokens(example: Example) -> bool:
    a, b = example.predicted.to_array("ORTH"), example.reference.to_array("ORTH")
    return bool((a == b).all()) and len(example.predicted.text) == len(example.reference.text)


def _lost(ent: Span) -> LostEntity:
    text = ent.doc.text
    begin = max(0, ent.start_char - 10)
    context = text[begin : ent.end_char + 10].replace("\n", " ")
    return LostEntity(ent.text, ent.label_, ent.start_char, context)
