"""Checks before the first epoch: on the dev corpus, and on settings without effect."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from spacy.language import DEFAULT_CONFIG, Language
from spacy.tokens import Doc

from ..component.pipe import BertCrf
from ..component.pipelines import check_labels
from ..errors import BertCrfError
from ..model.optimizer import GroupedAdamW

#: Settings of spaCy's own loop that `train` does not use, and what it does instead.
_UNUSED = {"eval_frequency": "the pipeline is evaluated at the end of every epoch"}


@contextmanager
def same_random() -> Iterator[None]:
    """Restore Python's random state at the end of the block."""
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)


def warn_unused(settings: dict[str, Any]) -> None:
    """Warn of each setting in [training] that was changed and has no effect on `train`.

    settings: the section [training]. spaCy writes its defaults to every config, so a setting that
        has its default is not warned about.
    """
    for name, instead in _UNUSED.items():
        if settings.get(name) != DEFAULT_CONFIG["training"][name]:
            warnings.warn(
                f"[training] {name} = {settings.get(name)!r} has no effect: {instead}.",
                stacklevel=2,
            )


def can_keep_state(optimizer: Any) -> bool:
    """Whether the state of an optimizer can be saved. Warns if it can't."""
    if isinstance(optimizer, GroupedAdamW):
        return True
    warnings.warn(
        f"the state of a {type(optimizer).__name__} can't be saved, so an interrupted training "
        "can't go on: use the optimizer spacy_bert_crf.AdamW.v1.",
        stacklevel=3,
    )
    return False


def check_dev(nlp: Language, docs: list[Doc]) -> None:
    """Check that the dev corpus can be scored.

    nlp: the pipeline in training.
    docs: the annotated docs of the dev corpus.
    Warns of labels that the pipeline does not have.
    Raises BertCrfError if nothing can be scored: no docs, no annotation, or no known label.
    """
    if not docs:
        raise BertCrfError("the dev corpus has no examples: check [corpora.dev] and its path.")
    if not any(isinstance(pipe, BertCrf) for _, pipe in nlp.pipeline):
        return
    if not any(doc.has_annotation("ENT_IOB") for doc in docs):
        raise BertCrfError(
            "no doc of the dev corpus has entity annotation, so that no epoch can be scored "
            "(doc.ents must be set, to [] where there is none)."
        )
    check_labels(nlp, docs, "the dev corpus")
