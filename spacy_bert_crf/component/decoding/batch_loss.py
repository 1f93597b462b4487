"""The loss of a batch of an update: by its gold, by a teacher, or by both."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Optional

from thinc.types import Floats2d
from torch import Tensor

from ...model.crf_batches import Emissions, trainable
from ..settings import Settings

if TYPE_CHECKING:
    from ...model.gradients.distilled import Expected
    from .allowed import GoldTags
    from .chains import Chains


class Lessons(NamedTuple):
    """What a teacher says of the docs of a batch.

    expected: what its CRF expects of each doc.
    gold_weight: weight of the likelihood of gold.
    teacher_weight: weight of the cross-entropy to the teacher.
    temperature: by which the scores of teacher and student are divided in the cross-entropy.
    """

    expected: "Sequence[Expected]"
    gold_weight: float
    teacher_weight: float
    temperature: float


class BatchLoss:
    """The loss of a batch and its gradient, part by part.

    Without a teacher, it is the negative log-likelihood of gold, mean over the docs with a known
    token. With one, it is the weighted sum of likelihood and cross-entropy, mean over all docs with
    a token. A doc without gold has no likelihood.

    chains: the CRF that learns, under the settings of decoding.
    golds: the tags that the gold of each doc allows.
    settings: those of the component.
    lessons: what a teacher says; None without a teacher.
    members: the docs that train the model.
    """

    def __init__(
        self,
        chains: "Chains",
        golds: "Sequence[GoldTags]",
        settings: Settings,
        lessons: Optional[Lessons] = None,
    ) -> None:
        self._chains, self._golds, self._settings = chains, golds, settings
        self._lessons = lessons
        self.members = trainable([gold.tags for gold in golds])
        if lessons is not None:
            self.members = [i for i, each in enumerate(lessons.expected) if len(each.tags)]

    def __call__(self, emissions: list[Floats2d], part: list[int]) -> tuple[Tensor, list[Floats2d]]:
        """Loss and gradient of some docs. The gradient of the CRF is added to its parameters.

        emissions: those of the docs. [tokens, K] each
        part: which docs of the batch.
        """
        chains, lessons, n_docs = self._chains, self._lessons, len(self.members)
        golds = [self._golds[i] for i in part]
        if lessons is None:
            loss, gradient = chains.likelihood(emissions, golds, self._settings, n_docs)
            return loss, gradient.split()
        joined = Emissions.of(emissions, chains.crf.transitions.device)
        loss, gradient = chains.cross_entropy(
            joined, [lessons.expected[i] for i in part], self._settings,
            temperature=lessons.temperature, weight=lessons.teacher_weight / n_docs,
        )  # fmt: skip
        if lessons.gold_weight:
            divisor = n_docs / lessons.gold_weight
            more, found = chains.likelihood(joined, golds, self._settings, divisor)
            loss, gradient = loss + more, Emissions(gradient.rows + found.rows, joined.lengths)
        return loss, gradient.split()
