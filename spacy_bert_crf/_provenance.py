"""Versions of the packages that a result was made with, and a check that they are supported.

The supported ranges are those of setup.py. They are read from the metadata of this package as it
is installed.
"""

import platform
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

_NAME = "spacy-bert-crf"

#: Packages whose versions are recorded with results and checked at import.
_PACKAGES = ("spacy", "thinc", "spacy-transformers", "transformers", "torch", "numpy")

#: Key in a pipeline's meta.json that holds the versions and settings of its training.
META = "spacy_bert_crf"


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the packages that it builds on, by name."""
    return {"python": platform.python_version()} | {n: _installed(n) for n in (_NAME, *_PACKAGES)}


def check_versions() -> None:
    """Check that the installed packages have versions that this package supports.

    Only metadata is read, and nothing is imported. A package that is not installed is ignored
    here: the statement that imports it raises the error. Nothing is checked where this package
    itself is not installed, as in a checkout on PYTHONPATH.

    Raises ImportError, with the version, the supported range and the pip command.
    """
    wrong, wanted = [], []
    for requirement in _requirements():
        present = _installed(requirement.name)
        if _is_supported(present, requirement):
            continue
        needed = _in_words(requirement)
        wrong.append(f"{requirement.name} {present} is installed, {needed} is needed")
        wanted.append(f'"{needed}"')
    if wrong:
        raise ImportError(
            f"spacy-bert-crf does not support these versions: {'; '.join(wrong)}. "
            f"Run: pip install {' '.join(wanted)}"
        )


def _requirements() -> list[Requirement]:
    """What setup.py requires of the packages in `_PACKAGES`, without extras."""
    try:
        lines = metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:
        return []
    found = [Requirement(line) for line in lines]
    return [r for r in found if r.name in _PACKAGES and r.marker is None]


def _is_supported(present: str, requirement: Requirement) -> bool:
    """Whether a version is in the range; True where there is no version that can be read."""
    try:
        # The base version of 2.13.0+cpu is 2.13.0, and that of 3.9.0rc1 is 3.9.0.
        return requirement.specifier.contains(Version(present).base_version)
    except InvalidVersion:
        return True


def _in_words(requirement: Requirement) -> str:
    """The requirement with its lower bound first, as one writes it: `thinc>=8.3.12,<8.4`."""
    bounds = sorted(requirement.specifier, key=lambda bound: bound.operator, reverse=True)
    return requirement.name + ",".join(map(str, bounds))


def _installed(name: str) -> str:
    try:
        return str(metadata.version(name))
    except metadata.PackageNotFoundError:
        return "not installed"
