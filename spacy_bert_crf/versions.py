"""Versions of what a result was made with."""

import platform
from importlib import metadata

_PACKAGES = (
    "spacy-bert-crf",
    "spacy",
    "thinc",
    "spacy-transformers",
    "transformers",
    "torch",
    "numpy",
)


def versions() -> dict[str, str]:
    """Version of Python and of each package that takes part."""
    out = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = "not installed"
    return out
