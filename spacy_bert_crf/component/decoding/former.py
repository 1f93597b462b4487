"""A component as it was before it learned more, which stands in where labels are not annotated.

Gold that does not cover a label leaves open where its entities are. The former model says where it
found them, so that a component that learns new labels does not forget the others. Li & Hoiem
(2016), "Learning without Forgetting"; for tags of entities, Monaikul et al. (2021), "Continual
Learning for Named Entity Recognition".
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d
from torch import Tensor

from ...annotation.schemes import TagSet
from ...crf.linear_chain import LinearChainCRF
from ...model.crf_batches import Emissions, trainable
from ..settings import Settings
from .allowed import Allowed, GoldTags

if TYPE_CHECKING:
    from ...model.gradients.distilled import Expected
    from ...model.shims import EncoderShim
    from .chains import Chains

#: Tags of a doc that are not to be used.
_NONE = GoldTags(np.zeros((0, 0), dtype=bool), None)


class Former:
    """The model of a component before it learned more, and the labels that it knows.

    model: a copy of the model, with its own encoder and a head.
    crf: its CRF.
    read: gives its emissions of docs.
    tags: the tags of its head.
    labels: the labels that it was trained on. Others may have been added to it since.

    `has_taught` says whether the component learned from it since.
    """

    has_taught = False

    def __init__(
        self,
        model: Model,
        crf: LinearChainCRF,
        read: Callable[[list[Doc]], Emissions],
        tags: TagSet,
        labels: Sequence[str],
    ) -> None:
        self.model, self.crf, self.read = model, crf, read
        self.tags, self.labels = tags, tuple(labels)

    def stands_in(self, gold: GoldTags) -> bool:
        """Whether the gold of a doc does not cover all labels that this model knows."""
        return gold.covers is not None and not gold.covers.issuperset(self.labels)

    def chains(self, now: "Chains", rows: Tensor, own: Tensor) -> tuple["Chains", Tensor]:
        """What this model says of docs in the tags of a component that has more labels.

        Tags of the labels that it knows have its scores. A tag of another label has its score of O,
        and the difference that the component sees now between this tag and O.

        now: the CRF of the component, under the settings of decoding.
        rows: the component's emissions. [N, K]
        own: the emissions of this model. [N, K']
        RETURNS: the CRF, and the emissions for it. [N, K]
        """
        device = rows.device
        # The tags of this model, and the component's, that each tag of the component stands on. [K]
        roles, known = now.tags.roles, {"", *self.labels}
        here = torch.tensor([self.tags.ids[r] if r[1] in known else 0 for r in roles])
        base = torch.tensor([i if r[1] in known else 0 for i, r in enumerate(roles)])
        here, base = here.to(device), base.to(device)
        crf = LinearChainCRF(len(roles), *now.tags.legal()).to(device)
        then, scores = self.crf.weights(), now.crf.weights()
        start, end = (
            old.to(device)[here] + new - new[base]
            for old, new in ((then.start, scores.start), (then.end, scores.end))
        )
        pairs = then.transitions.to(device)[here][:, here] + scores.transitions
        pairs = pairs - scores.transitions[base][:, base]
        crf.set_scores(start, pairs, end)
        mixed = own.to(device)[:, here] + rows - rows[:, base]
        return type(now)(crf, now.tags, True, now.keeps_words), mixed

    def expected(
        self, now: "Chains", rows: Tensor, docs: Sequence[Doc], golds: Sequence[GoldTags]
    ) -> "list[Expected]":
        """What is expected of docs where gold leaves their tags open.

        now, rows: see `chains`.
        docs: the docs.
        golds: the tags that their gold allows.
        """
        own = self.read(list(docs))
        chains, mixed = self.chains(now, rows, own.rows)
        allowed = Allowed([gold.both for gold in golds], [gold.whole is not None for gold in golds])
        return chains.expected(Emissions(mixed, own.lengths), allowed, 1.0)


@contextmanager
def part_of_the_way_back(now: "EncoderShim", then: "EncoderShim", share: float) -> Iterator[None]:
    """Within, an encoder is between what it learned and what it was before.

    Between both, much of what is new is there, and more of what was known than at the end of the
    way. Wortsman et al. (2022), "Robust fine-tuning of zero-shot models".

    now: the encoder of a component.
    then: that of its former model.
    share: 0 leaves the encoder as it is, 1 gives the former one.
    """
    before, held = dict(then.module.named_parameters()), []
    now.fast.clear()
    for name, param in now.module.named_parameters():
        held.append((param, param.data))
        param.data = torch.lerp(param.data, before[name].data.to(param.device), share)
    try:
        yield
    finally:
        now.fast.clear()
        for param, data in held:
            param.data = data


class RetainingLoss:
    """The loss of a batch in which a former model stands in for labels that are not covered.

    A doc that covers all labels of the former model has the negative log-likelihood of its gold.
    Another doc has a weighted sum of that and of the cross-entropy to the former model, among the
    paths that its gold allows. The loss is the mean over the docs that train the model.

    chains: the CRF that learns, under the settings of decoding.
    golds: the tags that the gold of each doc allows.
    settings: those of the component.
    former: the former model.
    docs: the batch.
    weight: weight of the cross-entropy, from 0 to 1. None to learn from the former model alone, and
        of all docs.
    members: the docs that train the model.
    """

    def __init__(
        self,
        chains: "Chains",
        golds: Sequence[GoldTags],
        settings: Settings,
        former: Former,
        docs: Sequence[Doc],
        weight: Optional[float],
    ) -> None:
        self._chains, self._golds, self._settings = chains, golds, settings
        self._former, self._docs = former, docs
        self._weight = 1.0 if weight is None else weight
        self._open = {
            i
            for i, gold in enumerate(golds)
            if len(docs[i]) and (weight is None or former.stands_in(gold))
        }
        closed = set() if weight is None else set(trainable([gold.tags for gold in golds]))
        self.members = sorted(self._open | closed)
        former.has_taught |= bool(self._open)

    def __call__(self, emissions: list[Floats2d], part: list[int]) -> tuple[Tensor, list[Floats2d]]:
        """Loss and gradient of some docs. The gradient of the CRF is added to its parameters.

        emissions: those of the docs. [tokens, K] each
        part: which docs of the batch.
        """
        n_docs, chains, settings = len(self.members), self._chains, self._settings
        joined = Emissions.of(emissions, chains.crf.transitions.device)
        member = set(self.members)
        closed = [self._golds[i] if i in member - self._open else _NONE for i in part]
        loss, gradient = chains.likelihood(joined, closed, settings, n_docs)
        at = [k for k, i in enumerate(part) if i in self._open]
        if not at:
            return loss, gradient.split()
        rows = gradient.rows
        golds = [self._golds[part[k]] for k in at]
        if self._weight < 1:
            opened = [self._golds[i] if i in self._open else _NONE for i in part]
            divisor = n_docs / (1 - self._weight)
            more, found = chains.likelihood(joined, opened, settings, divisor)
            loss, rows = loss + more, rows + found.rows
        views = torch.split(joined.rows, joined.lengths)
        own = Emissions(torch.cat([views[k] for k in at]), [joined.lengths[k] for k in at])
        docs = [self._docs[part[k]] for k in at]
        expected = self._former.expected(chains, own.rows.detach(), docs, golds)
        more, found = chains.cross_entropy(
            own, expected, settings, temperature=1.0, weight=self._weight / n_docs
        )
        targets = torch.split(rows, joined.lengths)
        for k, each in zip(at, torch.split(found.rows, own.lengths), strict=True):
            targets[k].add_(each)
        return loss + more, Emissions(rows, joined.lengths).split()
