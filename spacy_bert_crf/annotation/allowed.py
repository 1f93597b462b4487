"""The tags that each token may have, in training by the gold and in decoding by the doc.

Allowed tags are a boolean array [tokens, K] over the K tags. The CRF is trained on such arrays, and
they restrict its decoding.
"""

import math
from collections.abc import Collection
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc

from ..errors import BertCrfError
from .gold import Gold
from .schemes import Role, TagSet

BoolArray = NDArray[np.bool_]


def labels_extension(component: str) -> str:
    """The name of the Doc extension that restricts which labels a component may predict."""
    return f"{component}_labels"


def taken_tokens(doc: Doc) -> tuple[BoolArray, BoolArray]:
    """The tokens that are taken, and those of them that are blocked. bool [tokens] each

    A token is taken if it belongs to an entity or is blocked (`Doc.set_ents(blocked=…)`).
    """
    iob, types = doc.to_array(["ENT_IOB", "ENT_TYPE"]).reshape(len(doc), 2).T
    taken = (iob == 1) | (iob == 3)
    return taken, taken & (types == 0)


def allowed_for_decoding(
    doc: Doc, tags: TagSet, component: str, keep_ents: bool
) -> Optional[BoolArray]:
    """The tags that each token of a doc may have in decoding. bool [tokens, K], None for all

    Tokens that are not fixed may have O and the tags of the labels in the extension, if it is set.

    doc: the doc, with entities and extension.
    tags: the K tags.
    component: name of the component, which decides the name of the extension (`labels_extension`).
    keep_ents: whether entities that are on the doc are fixed. Their tokens then have the tags that
        spell them, and the next token can't continue them. Blocked tokens, and those of entities
        with another label than the component's, are O.
    Raises BertCrfError for labels that the component does not have.
    """
    allowed: Optional[BoolArray] = None
    free = np.ones(len(doc), dtype=bool)
    if keep_ents and doc.has_annotation("ENT_IOB"):
        taken, _ = taken_tokens(doc)
        if taken.any():
            free = ~taken
            spans = [(ent.start, ent.end, ent.label_) for ent in doc.ents]
            allowed = allowed_tags(Gold(spans, taken, []), tags)
    name = labels_extension(component)
    labels = doc._.get(name) if doc.has_extension(name) else None
    if labels is not None:
        barred = _barred(labels, tags, name)
        if barred.any():
            if allowed is None:
                allowed = np.ones((len(doc), len(tags.tags)), dtype=bool)
            allowed &= ~(free[:, None] & barred)
    return allowed


def _barred(labels: Any, tags: TagSet, name: str) -> BoolArray:
    """Whether each tag's label is not among these labels. bool [K]"""
    if isinstance(labels, str) or not isinstance(labels, Collection):
        raise BertCrfError(f"doc._.{name} is {labels!r}: give a list of labels, or None for all.")
    unknown = sorted(str(label) for label in set(labels) - set(tags.labels))
    if unknown:
        raise BertCrfError(
            f"doc._.{name} has {', '.join(unknown)}: use only the component's labels "
            f"({', '.join(tags.labels)})."
        )
    return np.array([label != "" and label not in labels for _, label in tags.roles])


def allowed_tags(gold: Gold, tags: TagSet) -> NDArray[np.bool_]:
    """The tags that each token may have by its gold annotation. bool [tokens, K]

    A known token has one tag. It is O where the entity's label is not in the tag set. An unknown
    token may have any tag except one that would continue a known entity before it.

    gold: the annotation.
    tags: the K tags.
    """
    n_tokens = len(gold.known)
    labels = set(tags.labels)
    spans = [span for span in gold.spans if span[2] in labels]
    allowed = np.ones((n_tokens, len(tags.tags)), dtype=bool)
    ids = np.array(tags.encode(spans, n_tokens), dtype=np.int64)
    at = np.flatnonzero(gold.known)
    allowed[at] = False
    allowed[at, ids[at]] = True
    if not tags.has_last:
        inside = [i for i, (role, _) in enumerate(tags.roles) if role is Role.INSIDE]
        for _, end, _ in spans:
            if end < n_tokens and not gold.known[end]:
                allowed[end, inside] = False
    return allowed


def open_weights(share: float, tags: TagSet) -> Optional[list[float]]:
    """Logarithm of each tag's weight at tokens without annotation. [K], None for equal weights

    If each entity is annotated with the probability `share`, the likelihood has a factor of
    1 - share for each entity that is not annotated.

    share: the share of a doc's entities that is annotated, from 0 to below 1. 0 where it is not
        known.
    tags: the K tags.
    """
    if not share:
        return None
    missing = math.log1p(-share)
    return [missing if begins else 0.0 for begins in tags.begins()]
