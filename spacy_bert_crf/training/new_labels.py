"""A component that is trained already and goes on with another corpus, perhaps with new labels."""

import logging
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training import Example
from spacy.util import get_sourced_components, load_model, registry, resolve_dot_names
from thinc.api import Config

from ..annotation.coverage.covers import covers_of
from ..component.pipelines import is_bert_crf, load_pipeline
from ..errors import BertCrfError, first_line

if TYPE_CHECKING:
    from ..component.pipe import BertCrf

logger = logging.getLogger("spacy_bert_crf.training")

#: Examples of a streamed corpus that are read for labels; as many as spaCy initialises with.
_STREAMED = 100


@registry.callbacks("spacy_bert_crf.learn_new_labels.v1")
def create_learn_new_labels(
    self_distillation: Optional[float] = None,
    former_share: Optional[float] = None,
) -> Callable[[Language], Language]:
    """Create a callback for `[initialize.after_init]`, so that `spacy train` learns new labels.

    `bert-crf train` does this by itself.

    self_distillation: sets this setting of the sourced components, see Settings. None leaves it.
    former_share: the same.
    """

    def after_init(nlp: Language) -> Language:
        config = nlp.config.interpolate()
        settings: Any = registry.resolve(config["training"], schema=ConfigSchemaTraining)
        (corpus,) = resolve_dot_names(config, [settings["train_corpus"]])
        # spaCy disables the components that it does not initialise: the sourced and the frozen.
        sourced = set(nlp.disabled) - set(settings["frozen_components"])
        limit = _STREAMED if settings["max_epochs"] == -1 else None
        for _, pipe in _learners(nlp, sourced):
            if self_distillation is not None:
                pipe.self_distillation = self_distillation
            if former_share is not None:
                pipe.former_share = former_share
        for message in _add(nlp, sourced, list(islice(corpus(nlp), limit))):
            logging.getLogger("spacy").info(message)
        return nlp

    return after_init


def learn_new_labels(
    nlp: Language,
    config: Config,
    corpus: Callable[[Language], Iterable[Example]],
    *,
    is_resumed: bool = False,
) -> None:
    """Add labels of the training corpus to a component that is sourced and not frozen.

    Its tags and their weights stay, and those of the new labels come after them. A message says
    what was added. A label that another component of the pipeline writes is not new.

    Where texts do not cover all labels that the component knows, it keeps its former model, which
    stands in for them; see the setting `self_distillation`.

    nlp: the pipeline, before the first update.
    config: its config, not interpolated, with `source` in the sections of components.
    corpus: gives the training examples.
    is_resumed: whether the pipeline was in training before. It has all labels then, and the former
        models are taken from the sources.
    Warns, and adds nothing, if several components could learn the labels.
    Raises BertCrfError if a source can't be loaded again.
    """
    config = config.interpolate()
    frozen = nlp.config["training"]["frozen_components"]
    sources = get_sourced_components(config)
    sourced = set(sources) - set(frozen)
    limit = _STREAMED if nlp.config["training"]["max_epochs"] == -1 else None
    if not _learners(nlp, sourced):
        return
    examples = list(islice(corpus(nlp), limit))
    if not is_resumed:
        for message in _add(nlp, sourced, examples):
            logger.info(message)
        return
    for name, pipe in _learners(nlp, sourced):
        if not _needs_former(pipe, examples):
            continue
        source = sources[name]
        former = load_source(source["source"]).get_pipe(source.get("component", name))
        pipe.remember(former.model, former.tag_set)


def _learners(nlp: Language, sourced: Collection[str]) -> list[tuple[str, "BertCrf"]]:
    """The bert_crf components among those that are sourced."""
    own = [name for name in nlp.component_names if name in sourced and is_bert_crf(nlp, name)]
    return [(name, pipe) for name, pipe in nlp.components if name in own]


def _needs_former(pipe: "BertCrf", examples: Iterable[Example]) -> bool:
    """Whether a text does not cover all labels of the component, and its former model may."""
    if not pipe.settings.self_distillation:
        return False
    covers = {covers_of(example.reference) for example in examples}
    return any(each is not None and not each.issuperset(pipe.labels) for each in covers)


def load_source(source: str) -> Language:
    """The pipeline that a component is sourced from. Raises BertCrfError if it can't be loaded."""
    if Path(source).is_dir():
        return load_pipeline(Path(source))
    try:
        return load_model(source)
    except Exception as err:
        raise BertCrfError(f"can't load the pipeline {source}: {first_line(err)}.") from err


def _add(nlp: Language, sourced: Collection[str], examples: Sequence[Example]) -> list[str]:
    """Add new labels to the sourced component, and let it keep its former model.

    RETURNS: messages.
    """
    pipes = _learners(nlp, sourced)
    messages = []
    for name, pipe in pipes:
        if _needs_former(pipe, examples):
            pipe.remember()
            if pipe.former is None:
                warnings.warn(
                    f"[{name}] shares its encoder, so no former model can be kept. Labels that "
                    "a text does not cover are learned from its gold alone, and may be forgotten.",
                    stacklevel=5,
                )
                continue
            messages.append(
                f"[{name}] keeps its former model, which stands in where texts do not cover its "
                f"labels (self_distillation = {pipe.settings.self_distillation:g})."
            )
    return messages + _add_labels(nlp, pipes, examples)


def _add_labels(
    nlp: Language, pipes: Sequence[tuple[str, "BertCrf"]], examples: Sequence[Example]
) -> list[str]:
    """Add new labels to the sourced component. RETURNS: messages."""
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
