"""Writes what a training knows of its pipeline to the pipeline's meta.json."""

from typing import Any

from spacy.language import Language

from ..._provenance import META
from ..pipelines import entity_labels
from .encoders import describe_encoders
from .keys import labels_of, text_sources

#: spaCy's name of a pipeline that has none, and the one that it gets here.
_UNNAMED, _NAME = "pipeline", "ner_bert_crf"


def describe(nlp: Language, sources: list[dict[str, str]]) -> None:
    """Fill in name, description, sources and encoders in the meta.json of a pipeline.

    A name or description that the pipeline has already stays. spaCy itself writes the labels, and
    the training loop the scores. Nobody but the maker knows the licence.

    nlp: a pipeline with weights.
    sources: origin and licence of the training texts; empty to keep those that are known.
    """
    if nlp.meta.get("name") in ("", None, _UNNAMED):
        nlp.meta["name"] = _NAME
    if not nlp.meta.get("description"):
        nlp.meta["description"] = _description(nlp)
    nlp.meta["sources"] = sources or text_sources(nlp.meta)
    sizes, nlp.meta["sources"] = describe_encoders(nlp)
    own: dict[str, Any] = nlp.meta.setdefault(META, {})
    own["encoders"] = sizes


def _description(nlp: Language) -> str:
    """What a pipeline does, in a sentence. spaCy names the class of a language by the language."""
    written = entity_labels(nlp)
    labels = [label for label in labels_of(nlp.meta) if written is None or label in written]
    texts = "texts of several languages" if nlp.lang == "xx" else f"{type(nlp).__name__} texts"
    return f"Finds named entities ({', '.join(labels)}) in {texts}."
