"""New labels for a component that is trained already and goes on with another corpus."""

import logging
import warnings
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Any

from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training import Example
from spacy.util import get_sourced_components, registry, resolve_dot_names
from thinc.api import Config

from ..component.pipe import BertCrf

logger = logging.getLogger("spacy_bert_crf.training")

#: Examples of a streamed corpus that are read for labels; as many as spaCy initialises with.
_STREAMED = 100


@registry.callbacks("spacy_bert_crf.learn_new_labels.v1")
def create_learn_new_labels() -> Callable[[Language], Language]:
    """Create a callback for `[initialize.after_init]`, so that `spacy train` learns new labels.

    `bert-crf train` does this by itself.
    """

    def after_init(nlp: Language) -> Language:
        config = nlp.config.interpolate()
        settings: Any = registry.resolve(config["training"], schema=ConfigSchemaTraining)
        (corpus,) = resolve_dot_names(config, [settings["train_corpus"]])
        # spaCy disables the components that it does not initialise: the sourced and the frozen.
        sourced = set(nlp.disabled) - set(settings["frozen_components"])
        limit = _STREAMED if settings["max_epochs"] == -1 else None
        for message in _add(nlp, sourced, islice(corpus(nlp), limit)):
            logging.getLogger("spacy").info(message)
        return nlp

    return after_init


def learn_new_labels(
    nlp: Language, config: Config, corpus: Callable[[Language], Iterable[Example]]
) -> None:
    """Add labels of the training corpus to a component that is sourced and not frozen.

    Its tags and their weights stay, and those of the new labels come after them. A message says
    what was added. A label that another component of the pipeline writes is not new.

    nlp: the pipeline, before the first update.
    config: its config, not interpolated, with `source` in the sections of components.
    corpus: gives the training examples.
    Warns, and adds nothing, if several components could learn the labels.
    """
    config = config.interpolate()
    frozen = nlp.config["training"]["frozen_components"]
    sourced = set(get_sourced_components(config)) - set(frozen)
    limit = _STREAMED if nlp.config["training"]["max_epochs"] == -1 else None
    for message in _add(nlp, sourced, islice(corpus(nlp), limit)):
        logger.info(message)


def _add(nlp: Language, sourced: Collection[str], examples: Iterable[Example]) -> list[str]:
    """Add new labels to the sourced component. RETURNS: messages."""
    pipes = [(name, pipe) for name, pipe in nlp.components if name in sourced]
    pipes = [(name, pipe) for name, pipe in pipes if isinstance(pipe, BertCrf)]
    if not pipes:
        return []
    known: set[str] = set()
    for name, other in nlp.components:
        if "doc.ents" in nlp.get_pipe_meta(name).assigns:
            known.update(getattr(other, "labels", ()))
    found = {ent.label_ for example in examples for ent in example.reference.ents}
    new = sorted(found - known)
    if not new:
        return []
    listed = ", ".join(new)
    if len(pipes) > 1:
        names = ", ".join(name for name, _ in pipes)
        warnings.warn(
            f"the training corpus has new labels ({listed}), and several components could learn "
            f"them: {names}. None does. Call add_label on one of them in its source pipeline.",
            stacklevel=4,
        )
        return []
    name, pipe = pipes[0]
    before = ", ".join(pipe.labels)
    for label in new:
        pipe.add_label(label)
    return [f"[{name}] learns new labels: {listed}. It keeps the weights of {before}."]
