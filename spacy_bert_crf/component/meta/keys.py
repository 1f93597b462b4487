"""How some keys of a meta.json are read."""

from typing import Any

#: Key of a source that says what it is the source of, and its value for an encoder.
PART, ENCODER = "part", "encoder"


def is_encoder(source: dict[str, str]) -> bool:
    """Whether a source is that of an encoder, and not one of the training texts."""
    return source.get(PART) == ENCODER


def named_sources(meta: dict[str, Any]) -> list[dict[str, str]]:
    """The sources of a meta.json as dicts. spaCy also takes a name alone."""
    return [s if isinstance(s, dict) else {"name": s} for s in meta.get("sources") or []]


def text_sources(meta: dict[str, Any]) -> list[dict[str, str]]:
    """The sources of the training texts."""
    return [source for source in named_sources(meta) if not is_encoder(source)]


def labels_of(meta: dict[str, Any]) -> list[str]:
    """The labels of all components of a meta.json, each once, in their order."""
    return list(dict.fromkeys(label for of in meta["labels"].values() for label in of))


def package_name(meta: dict[str, Any]) -> str:
    """Name of the package, by which `spacy.load` finds it."""
    return f"{meta['lang']}_{meta['name']}"
