"""Entities of the tags of many docs at once, in numpy.

`TagSet.decode` reads one doc in Python, a tag at a time. Nearly all tags are O, which numpy skips.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .schemes import Role, TagSet

IntArray = NDArray[np.int64]


class JoinedEntities(NamedTuple):
    """Entities of several docs, doc after doc. E entities in all.

    docs: number of the doc of each. [E]
    starts: its first token, counted over all docs. [E]
    ends: the token after its last one. [E]
    labels: place of its label in `TagSet.labels`. [E]
    """

    docs: IntArray
    starts: IntArray
    ends: IntArray
    labels: IntArray


def decode_joined(tag_set: TagSet, tags: IntArray, counts: IntArray) -> JoinedEntities:
    """Entities of several docs, those that `TagSet.decode` finds in each.

    tag_set: the K tags.
    tags: tag id of each token, doc after doc. [N]
    counts: number of tokens of each doc, which add up to N. [docs]
    """
    stops = np.cumsum(counts)
    is_first = np.zeros(len(tags) + 1, dtype=bool)
    is_first[stops - counts] = True
    # Only tokens of entities are looked at from here on. shape of each: [tokens of entities]
    places = np.flatnonzero(tags)
    found = tags[places]
    label_of, is_inside, is_open = _tables(tag_set)
    labels = label_of[found]
    begins = np.ones(len(places), dtype=bool)
    begins[1:] = ~(
        is_inside[found[1:]]
        & is_open[found[:-1]]
        & (labels[1:] == labels[:-1])
        & (places[1:] == places[:-1] + 1)
        & ~is_first[places[1:]]
    )
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(places)) - 1 if len(first) else first
    starts = places[first]
    docs = np.searchsorted(stops, starts, side="right")
    return JoinedEntities(docs, starts, places[last] + 1, labels[first])


@lru_cache(maxsize=64)
def _tables(tag_set: TagSet) -> tuple[IntArray, NDArray[np.bool_], NDArray[np.bool_]]:
    """What each tag is. [K] each

    RETURNS: the place of its label (-1 for O), whether it may continue an entity, and whether an
        entity may go on after it.
    """
    places = {label: i for i, label in enumerate(tag_set.labels)}
    roles = [role for role, _ in tag_set.roles]
    return (
        np.array([places.get(label, -1) for _, label in tag_set.roles], dtype=np.int64),
        np.array([role in (Role.INSIDE, Role.LAST) for role in roles]),
        np.array([role in (Role.BEGIN, Role.INSIDE) for role in roles]),
    )
