"""The tags of a model from elsewhere as those of a TagSet: other orders, missing tags, IO.

Pure Python. A model of the scheme IO has one tag for each label, `PER` or `I-PER`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import BertCrfError
from .schemes import SCHEMES, Role, TagSet, split_tag

#: The scheme with one tag for each label, which a TagSet can't have.
IO = "IO"
_PREFIXED = re.compile(r"[A-Za-z]-")


@dataclass(frozen=True)
class TagRows:
    """A TagSet, and where the weights of its K tags are in a model.

    tag_set: its tags.
    rows: row of each tag in the model's classifier; -1 if it has none. [K]
    outside: row of O.
    never: transitions (from, to), ids of the TagSet, that the model can't express.
    """

    tag_set: TagSet
    rows: list[int]
    outside: int
    never: tuple[tuple[int, int], ...] = ()


def tag_rows(tags: Sequence[str], scheme: str = "") -> TagRows:
    """Find the TagSet that has all of these tags; it may have more.

    tags: of the rows of a model, in their order.
    scheme: a key of SCHEMES, or IO; empty if the tags show it. IO becomes BIO: B and I of a label
        share its row, and an entity never follows another one of its label directly. So each path
        of IO tags is one path of BIO tags with the same score.
    Raises BertCrfError if the tags are those of no scheme, or one that entities need is missing.
    """
    if "O" not in tags:
        raise BertCrfError(
            f"there is no tag O among {', '.join(tags)}: name the tags as B-LOC, I-LOC and O."
        )
    others = [tag for tag in tags if tag != "O"]
    is_bare = not any(_PREFIXED.match(tag) for tag in others)
    if scheme == IO or (not scheme and (is_bare or all(tag.startswith("I-") for tag in others))):
        return _io_rows(tags, is_bare)
    scheme = scheme or _guess_scheme(tags)
    labels = tuple(dict.fromkeys(split_tag(tag)[1] for tag in others))
    tag_set = TagSet(labels, scheme)
    odd = [tag for tag in tags if tag not in tag_set.tags]
    if odd or len(set(tags)) != len(tags):
        raise BertCrfError(
            f"tags {', '.join(odd or tags)} are not those of the scheme {scheme} "
            f"({', '.join(SCHEMES[scheme])}), or occur twice. Choose another --scheme, or correct "
            "the tags."
        )
    needed = [(Role.BEGIN, "begins"), *([(Role.LAST, "ends")] if tag_set.has_last else [])]
    for label in labels:
        for role, what in needed:
            if tag_set.tags[tag_set.ids[role, label]] not in tags:
                raise BertCrfError(
                    f"no tag {what} an entity {label!r} ({', '.join(tags)}): the scheme {scheme} "
                    "needs one."
                )
    rows = [tags.index(tag) if tag in tags else -1 for tag in tag_set.tags]
    return TagRows(tag_set, rows, tags.index("O"))


def _io_rows(tags: Sequence[str], is_bare: bool) -> TagRows:
    odd = [tag for tag in tags if not is_bare and tag != "O" and not tag.startswith("I-")]
    if odd or len(set(tags)) != len(tags):
        raise BertCrfError(
            f"tags {', '.join(odd or tags)} are not those of the scheme {IO} (O and one tag for "
            "each label), or occur twice. Choose another --scheme, or correct the tags."
        )
    prefix = "" if is_bare else "I-"
    tag_set = TagSet(tuple(tag.removeprefix(prefix) for tag in tags if tag != "O"), "BIO")
    rows = [
        tags.index("O" if role is Role.OUT else prefix + label) for role, label in tag_set.roles
    ]
    begins = [(label, tag_set.ids[Role.BEGIN, label]) for label in tag_set.labels]
    never = tuple(
        (before, begin)
        for label, begin in begins
        for before in (begin, tag_set.ids[Role.INSIDE, label])
    )
    return TagRows(tag_set, rows, tags.index("O"), never)


def _guess_scheme(tags: Sequence[str]) -> str:
    prefixes = {split_tag(tag)[0] for tag in tags if tag != "O"}
    for scheme, roles in SCHEMES.items():
        if prefixes == set(roles):
            return scheme
    for scheme, roles in SCHEMES.items():
        if prefixes <= set(roles):
            return scheme
    raise BertCrfError(
        f"the tags {', '.join(tags)} are of no scheme known ({', '.join(SCHEMES)}, {IO}): give "
        "--labels and --scheme."
    )
