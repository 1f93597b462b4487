"""Versions: of what a result was made with, and of what this package can work with."""

import platform
import re
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

#: Key of a pipeline's meta.json under which the training says what it was made of.
META = "spacy_bert_crf"

#: First version of each package that works here, and the first that no longer does (empty: none
#: known). The same as in setup.py.
SUPPORTED = {
    "spacy": ("3.8.15", "3.9"),
    "thinc": ("8.3.12", "8.4"),
    "spacy-transformers": ("1.4.0", "1.5"),
    "transformers": ("4.48", "4.53.3"),
    "torch": ("2.6", ""),
    "numpy": ("2.0", ""),
}


def versions() -> dict[str, str]:
    """Version of Python and of each package that takes part."""
    return {"python": platform.python_version()} | {n: _installed(n) for n in _PACKAGES}


def check_versions() -> None:
    """Raise ImportError if a package is installed in a version that this one can't work with.

    Only metadata is read, nothing is imported. A package that is missing says so itself, where it
    is imported.
    """
    wrong, wanted = [], []
    for name, (low, high) in SUPPORTED.items():
        present = _installed(name)
        if not present[0].isdigit() or _is_between(present, low, high):
            continue
        requirement = f"{name}>={low}" + (f",<{high}" if high else "")
        wrong.append(f"{name} {present} is installed, {requirement} is needed")
        wanted.append(f'"{requirement}"')
    if wrong:
        raise ImportError(
            f"spacy-bert-crf can't work with these versions: {'; '.join(wrong)}. "
            f"Run: pip install {' '.join(wanted)}"
        )


def _is_between(version: str, low: str, high: str) -> bool:
    numbers = _numbers(version)
    return _numbers(low) <= numbers and not (high and numbers >= _numbers(high))


def _numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` → (2, 13, 0); what follows the numbers is left out."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(n) for n in found[0].split(".")] if found else [0]
    while len(numbers) > 1 and not numbers[-1]:  # 2.0 is 2
        numbers.pop()
    return tuple(numbers)


def _installed(name: str) -> str:
    try:
        return str(metadata.version(name))
    except metadata.PackageNotFoundError:
        return "not installed"
