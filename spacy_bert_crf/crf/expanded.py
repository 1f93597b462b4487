"""The same CRF over more tags: several tags share the scores of one.

BIO does not mark the last token of an entity, so that no tag says where an entity ends. With the
tags of BIOES it does. If E has the scores of I, and S those of B, each legal path of BIO is one
legal path of BIOES with the same score. All algorithms of the CRF then serve both.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .linear_chain import LinearChainCRF


class ExpandedCRF(LinearChainCRF):
    """A CRF over K' tags that have the scores of the K tags of another CRF.

    It has no parameters of its own. Those of the other CRF get the gradients, and are set there.

    base: the other CRF. It stays the same object.
    columns: the tag of `base` that each tag has the scores of. [K']
    legal_start: whether a sequence may begin with each tag. [K']
    legal_end: whether a sequence may end with each tag. [K']
    legal_transitions: [from][to], whether the second tag may follow the first. [K', K']
    Raises ValueError for masks of other sizes.
    """

    columns: Tensor

    def __init__(
        self,
        base: LinearChainCRF,
        columns: Sequence[int],
        legal_start: Sequence[bool],
        legal_end: Sequence[bool],
        legal_transitions: Sequence[Sequence[bool]],
    ) -> None:
        nn.Module.__init__(self)  # without parameters
        self.base, self.n_tags = base, len(columns)
        device = base.transitions.device
        self.register_buffer("columns", torch.tensor(columns, device=device), persistent=False)
        self.set_legal(legal_start, legal_end, legal_transitions)

    def _chain_scores(self) -> tuple[Tensor, Tensor, Tensor]:
        start, end, transitions = self.base._chain_scores()
        own = self.columns
        return start[own], end[own], transitions[own][:, own]
