"""A teacher: says what its CRF expects of the training texts, each once as long as memory lasts."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from spacy.tokens import Doc
from spacy.training import Example
from tqdm import tqdm

from ...component.decoding.batch_loss import Lessons
from ...model import layers
from ...model.gradients.distilled import Expected
from .settings import Distillation

if TYPE_CHECKING:
    from ...component.pipe import BertCrf

#: Largest number of texts that the teacher reads together.
_BATCH = 256
logger = logging.getLogger("spacy_bert_crf.training")


class Teacher:
    """What a trained component expects of texts.

    Its CRF is that of decoding: without what the tag scheme forbids, and with whole words. Entities
    on the docs, and the temperature that `calibrate` fitted, have no influence. Its own
    `quantize` has none either: the setting `teacher_quantize` counts.

    pipe: the component.
    settings: the settings of the distillation.
    constrain: leave out what the tag scheme forbids, even where decoding does not. A student that
        leaves it out in training can't learn it.
    """

    def __init__(self, pipe: "BertCrf", settings: Distillation, constrain: bool) -> None:
        pipe.quantize = settings.teacher_quantize
        if constrain and not pipe.settings.constraints:
            pipe.settings.constraints = True
            layers.set_legal(pipe.model, len(pipe.tag_set.tags), pipe.tag_set.legal())
        self.pipe, self._settings = pipe, settings
        #: What is expected of the reference of an example, by its id. The examples are kept alive.
        self._known: dict[int, Expected] = {}
        self._examples: Sequence[Example] = ()

    def read(self, examples: Sequence[Example]) -> None:
        """Read training examples until the memory for them is full, short texts first.

        Texts of similar length are read together, because padding costs time. What is known of a
        text does not depend on the order of the batches, so that a training that was interrupted
        goes on with the same numbers.
        """
        self._examples = examples
        by_length = sorted(examples, key=lambda example: len(example.predicted))
        room = self._settings.cache_mb * 1_000_000
        logger.info("the teacher reads %d texts", len(examples))
        with tqdm(total=len(examples), unit="text", leave=False, disable=None) as bar:
            for first in range(0, len(examples), _BATCH):
                some = by_length[first : first + _BATCH]
                found = self.expect([example.predicted for example in some])
                room -= sum(each.nbytes for each in found)
                if room < 0:
                    logger.info(
                        "the teacher keeps %d of %d texts in memory and reads the others in each "
                        "epoch: raise cache_mb if there is room",
                        first, len(examples),
                    )  # fmt: skip
                    return
                for example, each in zip(some, found, strict=True):
                    self._known[id(example.reference)] = each
                bar.update(len(some))

    def __call__(self, examples: list[Example]) -> Lessons:
        """What the teacher says of a batch."""
        known = [self._known.get(id(example.reference)) for example in examples]
        missing = [i for i, each in enumerate(known) if each is None]
        if missing:
            found = self.expect([examples[i].predicted for i in missing])
            for i, each in zip(missing, found, strict=True):
                known[i] = each
        own = self._settings
        expected = [each for each in known if each is not None]
        return Lessons(expected, own.gold_weight, own.teacher_weight, own.temperature)

    def expect(self, docs: Sequence[Doc]) -> list[Expected]:
        """What the CRF expects of docs. They are not changed."""
        chains = self.pipe.chains
        emissions = layers.predict_emissions(self.pipe.model, list(docs)).to_crf()
        allowed = chains.only_words(chains.words(docs))
        return chains.expected(emissions.wait(), allowed, self._settings.temperature)
