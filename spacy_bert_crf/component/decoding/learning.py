"""How a component learns: from gold, from a teacher, and from what it was before."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Optional, Union

from spacy.pipeline import TrainablePipe
from spacy.training import Example, validate_examples
from thinc.api import Model, Optimizer, set_dropout_rate
from thinc.types import Floats2d

from ...annotation.gold import GoldReader
from ...annotation.schemes import TagSet
from ...model import crf_batches, layers
from ..settings import Settings
from .allowed import GoldTags
from .batch_loss import BatchLoss, Lessons
from .former import Former, RetainingLoss, part_of_the_way_back

if TYPE_CHECKING:
    from .chains import Chains


class Learning(TrainablePipe):
    """The part of a component that learns.

    `nlp.resume_training()` keeps a copy of the model. From then on, `update` lets it stand in for
    labels that a doc does not cover, by the setting `self_distillation`.
    """

    #: The component before it learned more; None if nothing is kept. It is not saved.
    former: Optional[Former] = None
    #: Labels that were added to the trained component, and that no update has seen yet.
    _untrained: tuple[str, ...] = ()

    settings: Settings
    teacher: Optional[Callable[[list[Example]], Lessons]]
    _golds: GoldReader

    @property
    def chains(self) -> "Chains":
        """The CRF with the settings of decoding."""
        raise NotImplementedError

    @property
    def tag_set(self) -> TagSet:
        """The tags in id order."""
        raise NotImplementedError

    @property
    def _rehearsal_model(self) -> Optional[Model]:
        """The model of `former`. `Language.resume_training` sets it."""
        return None if self.former is None else self.former.model

    @_rehearsal_model.setter
    def _rehearsal_model(self, model: Optional[Model]) -> None:
        self.remember(model)

    def remember(self, model: Optional[Model] = None, tags: Optional[TagSet] = None) -> None:
        """Keep the component as it is now, to learn from it in `update` and `rehearse`.

        model: a copy of the model that is kept; None to copy the present one.
        tags: the tags of its head; None for those of the component.
        Nothing is kept before the component is initialised, or where it shares its encoder: a copy
        of that would be needed, too.
        """
        self.former = None
        if not layers.head_of(self.model).is_built or layers.own_encoder_of(self.model) is None:
            return
        model, own = model or layers.copy_of(self.model), tags or self.tag_set
        labels = [label for label in own.labels if label not in self._untrained]
        read = partial(layers.predict_emissions, model)
        self.former = Former(model, layers.crf_of(model), read, own, labels)

    def use_params(self, params: dict[Any, Any]) -> Iterator[None]:
        """Run on other weights, such as the averages of an optimizer, up to the second `next`.

        Where a former model stood in for labels, the own encoder goes part of the way back to it;
        see the setting `former_share`. `Language.use_params` takes it for a context.
        """
        share = self.settings.former_share
        with self.model.use_params(params):
            now, former = layers.own_encoder_of(self.model), self.former
            then = layers.own_encoder_of(former.model) if former and former.has_taught else None
            if now and then and share:
                with part_of_the_way_back(now, then, share):
                    yield
            else:
                yield

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[dict[str, float]] = None,
    ) -> dict[str, float]:
        """Learn from a batch. The loss is the negative log-likelihood, mean over the docs.

        With a `teacher`, the cross-entropy to the teacher is a part of it; see BatchLoss. With a
        former model, so is the cross-entropy to that; see `remember` and RetainingLoss.

        examples: the batch. Examples without a known token do not train the model, and an own
            encoder does not read them. A shared encoder hands out its vectors for a whole batch.
        drop: dropout rate, from 0 to 1.
        sgd: optimizer that steps the parameters; None leaves that to `finish_update`.
        losses: dictionary to which the loss is added under the component's name.
        RETURNS: `losses`, or a new dictionary.
        """
        losses = {} if losses is None else losses
        weight = self.settings.self_distillation
        return self._learn(list(examples), drop, sgd, losses, weight)

    def rehearse(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[dict[str, float]] = None,
        **config: Any,
    ) -> dict[str, float]:
        """Learn from the former model alone what it said of texts. Gold in them is kept to.

        examples: the batch. The references may have no annotation.
        drop: dropout rate, from 0 to 1.
        sgd: see `update`.
        losses: see `update`.
        config: not used.
        RETURNS: `losses`, or a new dictionary.
        Warns, and learns nothing, if no former model is kept; see `remember`.
        """
        losses = {} if losses is None else losses
        if self.former is None:
            warnings.warn(
                f"[{self.name}] keeps no former model, so that nothing is rehearsed: call "
                "nlp.resume_training() first. The component needs an encoder of its own "
                "(spacy_bert_crf.Encoder.v1).",
                stacklevel=3,
            )
            losses.setdefault(self.name, 0.0)
            return losses
        return self._learn(list(examples), drop, sgd, losses, weight=None)

    def get_loss(
        self, examples: Iterable[Example], scores: list[Floats2d]
    ) -> tuple[float, list[Floats2d]]:
        """Loss of emissions and its gradient. The CRF's own gradients stay as they are.

        examples: the batch.
        scores: the emissions of each doc. [tokens, K]
        """
        golds = self._gold_tags(list(examples))
        loss, gradient = self.chains.likelihood(scores, golds, self.settings)
        return float(loss), gradient.split()

    def _learn(
        self,
        examples: list[Example],
        drop: float,
        sgd: Optional[Optimizer],
        losses: dict[str, float],
        weight: Optional[float],
    ) -> dict[str, float]:
        """Learn from a batch, see `update`. weight: of the former model, see RetainingLoss."""
        losses.setdefault(self.name, 0.0)
        validate_examples(examples, "BertCrf.update")
        if not any(len(example.predicted) for example in examples):
            return losses
        set_dropout_rate(self.model, drop)
        docs = [example.predicted for example in examples]
        own, golds = self.settings, self._gold_tags(examples)
        loss: Union[BatchLoss, RetainingLoss]
        if self.former is not None and weight != 0 and self.teacher is None:
            loss = RetainingLoss(self.chains, golds, own, self.former, docs, weight)
        else:
            lessons = self.teacher(examples) if self.teacher else None
            loss = BatchLoss(self.chains, golds, own, lessons)
        part_losses = layers.learn(self.model, docs, loss.members, loss)
        self._untrained = ()
        if sgd not in (None, False):
            self.finish_update(sgd)
        for value in crf_batches.read_losses(part_losses):
            losses[self.name] += value
        return losses

    def _gold_tags(self, examples: list[Example]) -> list[GoldTags]:
        """The tags that the gold of each example allows."""
        golds, chains = self._golds.read_batch(examples, self.tag_set.labels), self.chains
        docs = [example.predicted for example in examples]
        return chains.gold(golds, chains.words(docs) if self.settings.constrain_training else None)
