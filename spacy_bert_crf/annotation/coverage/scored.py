"""Examples without the entities that their annotation does not cover, for any scorer of spaCy."""

from collections.abc import Iterable

from spacy.tokens import Doc
from spacy.training import Example

from .covers import covers_of


def only_covered(examples: Iterable[Example]) -> list[Example]:
    """Examples in which only the labels that a reference covers have entities.

    An entity of another label is neither right nor wrong, whether it is predicted or gold.

    examples: the examples. They are not changed.
    RETURNS: the examples; copies where a reference does not cover all labels.
    """
    out = []
    for example in examples:
        covers = covers_of(example.reference)
        if covers is not None:
            predicted, reference = (
                _of_labels(doc, covers) for doc in (example.predicted, example.reference)
            )
            example = Example(predicted, reference)
        out.append(example)
    return out


def _of_labels(doc: Doc, labels: frozenset[str]) -> Doc:
    """A copy of a doc with the entities of some labels. The tokens of the others are outside."""
    if all(ent.label_ in labels for ent in doc.ents):
        return doc
    out = doc.copy()
    missing = [doc[token.i : token.i + 1] for token in doc if token.ent_iob == 0]
    ents = [ent for ent in doc.ents if ent.label_ in labels]
    out.set_ents(ents, missing=missing, default="outside")
    return out
