"""The tags that the tokens of a doc may have in decoding.

Entities on the doc, the labels that it may have, and words that stay whole decide them.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from spacy.tokens import Doc

from ...annotation.gold import BoolArray, Gold, allowed_tags
from ...annotation.schemes import TagSet
from ...errors import BertCrfError
from .dictionary import Bonus, Match, fixed, without
from .words import whole_words


class Allowed(NamedTuple):
    """The tags that the tokens of docs may have.

    tags: of each doc, bool [tokens, K], None for all. Docs with a word that stays whole have
        [tokens, K'] over `TagSet.marking_last`.
    words: whether each doc has a word that stays whole.
    bonus: what soft names of a dictionary add to the emissions of all docs; None for nothing.
    """

    tags: list[Optional[BoolArray]]
    words: list[bool]
    bonus: Optional[Bonus] = None


class GoldTags(NamedTuple):
    """The tags that the gold of one doc allows.

    tags: bool [tokens, K]; [tokens, K'] over `TagSet.marking_last` if `whole` is not None.
    whole: the tags that keep words whole [tokens, K'], to which the likelihood keeps. None if it
        counts all paths.
    covers: the labels that the gold covers; None for all.
    """

    tags: BoolArray
    whole: Optional[BoolArray]
    covers: Optional[frozenset[str]] = None

    @property
    def both(self) -> BoolArray:
        """The tags that gold allows and that keep words whole. [tokens, K or K']"""
        return self.tags if self.whole is None else self.tags & self.whole


def labels_extension(component: str) -> str:
    """The name of the Doc extension that restricts which labels a component may predict."""
    return f"{component}_labels"


def taken_tokens(doc: Doc) -> Optional[tuple[BoolArray, BoolArray]]:
    """The tokens that are taken, and those of them that are blocked. bool [tokens] each

    A token is taken if it belongs to an entity or is blocked (`Doc.set_ents(blocked=…)`).
    RETURNS: None if no token is taken.
    """
    if not len(doc) or not doc.has_annotation("ENT_IOB"):
        return None
    iob, types = doc.to_array(["ENT_IOB", "ENT_TYPE"]).reshape(len(doc), 2).T
    taken = (iob == 1) | (iob == 3)
    return (taken, taken & (types == 0)) if taken.any() else None


def allowed_for_decoding(
    doc: Doc,
    tags: TagSet,
    component: str,
    keep_ents: bool,
    continues: Optional[BoolArray] = None,
    names: Sequence[Match] = (),
) -> Optional[BoolArray]:
    """The tags that each token of a doc may have in decoding. bool [tokens, K], None for all

    Tokens that are not fixed may have O and the tags of the labels in the extension, if it is set.
    None of them is the first or the last of an entity inside a word. All of them may be O, so that
    whole words never leave a doc without a path.

    doc: the doc, with entities and extension.
    tags: the K tags.
    component: name of the component, which decides the name of the extension (`labels_extension`).
    keep_ents: whether entities that are on the doc are fixed. Their tokens then have the tags that
        spell them, and the next token can't continue them. Blocked tokens, and those of entities
        with another label than the component's, are O.
    continues: whether each token continues a word that stays whole, None if none does. `tags` mark
        the last token of an entity then. [tokens]
    names: names of a dictionary in the doc. Hard ones are fixed as entities on the doc are, where
        they overlap none of these. What is no name of a label is not one.
    Raises BertCrfError for labels that the component does not have.
    """
    allowed: Optional[BoolArray] = None
    free: Any = True
    taken: Optional[BoolArray] = None
    spans: list[tuple[int, int, str]] = []
    if keep_ents and (found := taken_tokens(doc)) is not None:
        taken = found[0]
        spans = [(ent.start, ent.end, ent.label_) for ent in doc.ents]
    for start, end, label in fixed(names) if names else ():
        taken = np.zeros(len(doc), dtype=bool) if taken is None else taken
        if not taken[start:end].any():
            taken[start:end] = True
            spans.append((start, end, label))
    if taken is not None:
        free = ~taken
        allowed = allowed_tags(Gold(spans, taken, []), tags)
    if names and (rest := without(names, len(doc), tags)) is not None:
        rest |= ~np.broadcast_to(free, len(doc))[:, None]
        allowed = rest if allowed is None else allowed & rest
    name = labels_extension(component)
    labels = _extension(doc, name)
    if labels is not None:
        barred = _barred(labels, tags, name)
        if barred.any():
            if allowed is None:
                allowed = np.ones((len(doc), len(tags.tags)), dtype=bool)
            # shape: (tokens, K)
            allowed &= ~(np.broadcast_to(free, len(doc))[:, None] & barred)
    if continues is not None:
        whole = whole_words(continues, tags) | ~np.broadcast_to(free, len(doc))[:, None]
        allowed = whole if allowed is None else allowed & whole
    return allowed


def _extension(doc: Doc, name: str) -> Any:
    """The value of an extension of a doc, None if there is no such extension."""
    if not Doc.has_extension(name):
        return None
    # This question costs far less than the answer, for which spaCy makes an object.
    if not doc.user_data and Doc.get_extension(name) == (None, None, None, None):
        return None
    return doc._.get(name)


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
