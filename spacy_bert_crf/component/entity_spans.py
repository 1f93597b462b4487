"""Which tag sequences spell an entity, and the probability that one is there.

Under the constraints of a scheme, one tag sequence spells an entity. Without constraints several
do, since `TagSet.decode` reads any sequence. An entity may then begin with a tag that continues
one, if there is none to continue, and it may lack its last tag.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..annotation.schemes import EntitySpan, Role, TagSet
from ..crf.posterior import Posterior


class Spelling(NamedTuple):
    """Tags of an entity's tokens, and the neighbours with which they spell the entity.

    tags: tag ids of the tokens.
    opens: whether any tag may come before. Otherwise only a tag that they do not continue.
    closes: whether any tag may follow. Otherwise only a tag that does not continue them.
    """

    tags: list[int]
    opens: bool
    closes: bool


def spellings(tag_set: TagSet, length: int, label: str, constrained: bool) -> list[Spelling]:
    """All spellings of an entity of `length` tokens. No two occur at the same time."""
    if constrained:
        return [Spelling(tag_set.span_tags(length, label), True, tag_set.has_last)]
    begin, inside = tag_set.ids[Role.BEGIN, label], tag_set.ids[Role.INSIDE, label]
    starts, ends = [(begin, True), (inside, False)], [(inside, False)]
    single = [Spelling([tag], opens, False) for tag, opens in starts]
    if tag_set.has_last:
        last = tag_set.ids[Role.LAST, label]
        ends.append((last, True))
        single.append(Spelling([tag_set.ids[Role.UNIT, label]], True, True))
        single.append(Spelling([last], False, True))
    if length == 1:
        return single
    middle = [inside] * (length - 2)
    return [
        Spelling([first, *middle, end], opens, closes)
        for first, opens in starts
        for end, closes in ends
    ]


class SpanQueries:
    """Entities of a batch of sequences whose probabilities are requested.

    tag_set: the K tags.
    constrained: whether only legal tag paths count.
    spans: row in the batch and span of each entity, in the order of the requests.
    """

    def __init__(self, tag_set: TagSet, constrained: bool) -> None:
        self.spans: list[tuple[int, EntitySpan]] = []
        self._tag_set, self._constrained = tag_set, constrained
        #: One row for each tag sequence: index of its span, row in the batch, start, end, whether
        #: it closes, tags.
        self._rows: list[tuple[int, int, int, int, bool, list[int]]] = []

    def add(self, row: int, span: EntitySpan) -> None:
        """Request the probability of a span.

        row: row of its sequence in the batch.
        span: the entity, in tokens.
        """
        index, (start, end, label) = len(self.spans), span
        self.spans.append((row, span))
        for tags, opens, closes in spellings(self._tag_set, end - start, label, self._constrained):
            if opens or start == 0:
                self._rows.append((index, row, start, end, closes, tags))
                continue
            for before, (role, other) in enumerate(self._tag_set.roles):
                if other != label or role not in (Role.BEGIN, Role.INSIDE):
                    more = [before, *tags]
                    self._rows.append((index, row, start - 1, end, closes, more))

    def probabilities(self, posterior: Posterior) -> Tensor:
        """The probability of each span. [N]

        posterior: the distribution over the tag paths of the sequences.
        """
        log_z = posterior.log_z
        if not self._rows:
            return log_z.new_zeros(0)
        following = self._following()
        length, n_tags = max(len(row[5]) for row in self._rows), following.shape[1]
        # One transfer for all. Columns: four numbers, the tags, and the tags that may follow.
        table = np.zeros((len(self._rows), 4 + length + n_tags), dtype=np.int64)
        for line, row in zip(table, self._rows, strict=True):
            line[:4] = row[:4]
            line[4 : 4 + len(row[5])] = row[5]
        table[:, 4 + length :] = following
        on_device = torch.from_numpy(table).to(log_z.device, non_blocking=True)
        index, sequence, start, end = on_device[:, :4].unbind(1)
        tags, after = on_device[:, 4:-n_tags], on_device[:, -n_tags:].bool()
        found = posterior.span_probability(sequence, start, end, tags, after)
        return found.new_zeros(len(self.spans)).index_add_(0, index, found)

    def _following(self) -> NDArray[np.bool_]:
        """For each row, the tags that do not continue its entity. [rows, K]"""
        roles = self._tag_set.roles
        closing = {
            label: [role not in (Role.INSIDE, Role.LAST) or other != label for role, other in roles]
            for label in self._tag_set.labels
        }
        every = [True] * len(roles)
        labels = [span.label for _, span in self.spans]
        return np.array([every if row[4] else closing[labels[row[0]]] for row in self._rows])


def candidate_spans(
    marginals: NDArray[np.float32],
    tag_set: TagSet,
    min_probability: float,
    constrained: bool = True,
) -> list[EntitySpan]:
    """Entities whose probability may reach a minimum, by the marginals of their tags.

    An entity is never more probable than any of its tags.

    marginals: probability of each tag at each token. [tokens, K]
    tag_set: the K tags.
    min_probability: the minimum, above 0.
    constrained: whether only legal tag paths count.
    RETURNS: a superset of the entities with this probability, in order.
    """
    min_probability = min_probability * (1 - 1e-5)  # rounding
    out: list[EntitySpan] = []
    for label in tag_set.labels:
        begins, goes_on, ends = _bounds(marginals, tag_set, label, min_probability, constrained)
        units = begins & ends
        if constrained and tag_set.has_last:
            units = marginals[:, tag_set.ids[Role.UNIT, label]] >= min_probability
        out += [EntitySpan(i, i + 1, label) for i in np.flatnonzero(units).tolist()]
        is_last = ends if constrained and tag_set.has_last else ends & goes_on
        for start in np.flatnonzero(begins).tolist():
            for at in range(start + 1, len(marginals)):
                if is_last[at]:
                    out.append(EntitySpan(start, at + 1, label))
                if not goes_on[at]:
                    break
    return sorted(out)


def _bounds(
    marginals: NDArray[np.float32],
    tag_set: TagSet,
    label: str,
    min_probability: float,
    constrained: bool,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Where an entity of this label may begin, go on, and end. [tokens] each"""
    inside = tag_set.ids[Role.INSIDE, label]
    if not constrained:
        mine = [i for i, (_, other) in enumerate(tag_set.roles) if other == label]
        enough = marginals[:, mine].sum(1) >= min_probability
        return enough, enough, enough
    begins = marginals[:, tag_set.ids[Role.BEGIN, label]] >= min_probability
    if tag_set.has_last:
        ends = marginals[:, tag_set.ids[Role.LAST, label]] >= min_probability
    else:
        # An entity ends where the next token does not go on with it.
        ends = np.ones(len(marginals), dtype=bool)
        ends[:-1] = 1 - marginals[1:, inside] >= min_probability
    return begins, marginals[:, inside] >= min_probability, ends
