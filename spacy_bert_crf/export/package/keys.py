"""How meta.json, model card and wheel read some keys of a meta.json."""

from typing import Any

#: Key of a source that says what it is the source of, and its value for an encoder.
PART, ENCODER = "part", "encoder"


def is_encoder(source: dict[str, str]) -> bool:
    """Whether a source is that of an encoder, and not one of the training texts."""
    return source.get(PART) == ENCODER


def package_name(meta: dict[str, Any]) -> str:
    """Name of the package, by which `spacy.load` finds it."""
    return f"{meta['lang']}_{meta['name']}"
