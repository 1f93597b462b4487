"""Which tags a token may have: by its gold annotation, by what is on the doc, by its user.

A set of allowed tags is a row of booleans over the tags. The CRF learns from such sets, and
decodes within them.
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
    """Name of the extension of Doc that holds the labels a component may predict."""
    return f"{component}_labels"


def taken_tokens(doc: Doc) -> tuple[BoolArray, BoolArray]:
    """Which tokens belong to an entity or are blocked (`set_ents(blocked=…)`), and which of them
    are blocked. [tokens] each"""
    iob, types = doc.to_array(["ENT_IOB", "ENT_TYPE"]).reshape(len(doc), 2).T
    taken = (iob == 1) | (iob == 3)
    return taken, taken & (types == 0)


def decoding_sets(doc: Doc, tags: TagSet, component: str, keep_ents: bool) -> Optional[BoolArray]:
    """The tags that each token of a doc may have, [tokens, K]; None if all may have all.

    keep_ents: entities that are on the doc are fixed: their tokens have the tags that spell them,
        and the next one must not go on with them. Tokens of entities whose label the component
        does not have, and blocked tokens, are O.
    Tokens that are not fixed may have O and the tags of the labels in the doc's extension (see
    labels_extension), if that is set.
    Raises BertCrfError for labels that the component does not have.
    """
    sets: Optional[BoolArray] = None
    free = np.ones(len(doc), dtype=bool)
    if keep_ents and doc.has_annotation("ENT_IOB"):
        taken, _ = taken_tokens(doc)
        if taken.any():
            free = ~taken
            spans = [(ent.start, ent.end, ent.label_) for ent in doc.ents]
            sets = allowed_tags(Gold(spans, taken, []), tags)
    name = labels_extension(component)
    labels = doc._.get(name) if doc.has_extension(name) else None
    if labels is not None:
        barred = _barred(labels, tags, name)
        if barred.any():
            sets = np.ones((len(doc), len(tags.tags)), dtype=bool) if sets is None else sets
            sets &= ~(free[:, None] & barred)
    return sets


def _barred(labels: Any, tags: TagSet, name: str) -> BoolArray:
    """For each tag: is its label not among these? [K]"""
    if isinstance(labels, str) or not isinstance(labels, Collection):
        raise BertCrfError(f"doc._.{name} is {labels!r}: give a list of labels, or None for all.")
    unknown = sorted(str(label) for label in set(labels) - set(tags.labels))
    if unknown:
        raise BertCrfError(
            f"doc._.{name} has {', '.join(unknown)}: the component's labels are "
            f"{', '.join(tags.labels)}."
        )
    return np.array([label != "" and label not in labels for _, label in tags.roles])


def allowed_tags(gold: Gold, tags: TagSet) -> NDArray[np.bool_]:
    """Which tags each token may have. [n_tokens, n_tags]

    A known token has one. Entities whose label is not of this tag set count as outside. An unknown
    token may have any tag, but for one that would prolong a known entity before it.
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
    """Logarithm of what each tag counts for at tokens whose annotation is unknown. [n_tags]

    share: of the entities of a doc that is annotated in part, how many are annotated. If each is
        with this probability, whatever it is, then one that is not has the factor 1 - share in the
        likelihood of the annotation that there is. 0: as if nothing was known of that.
    """
    if not share:
        return None
    missing = math.log1p(-share)
    return [missing if begins else 0.0 for begins in tags.begins()]
