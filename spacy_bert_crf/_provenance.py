"""Where a result comes from: versions of the packages, and hashes of the settings.

The supported versions are those of setup.py. They are read from the metadata of this package as
it is installed.
"""

import hashlib
import json
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from thinc.api import Config

_NAME = "spacy-bert-crf"

#: Settings that say only where files are. They are left out of hashes.
_LOCATIONS = ("paths.", "system.gpu_allocator", "corpora.train.path", "corpora.dev.path")

_ABSENT = "not installed"

#: The extra that brings spacy-transformers, for an encoder that several components share.
_SHARED = "shared"

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
    wrong, packages = [], []
    for requirement in _requirements():
        present = _installed(requirement.name)
        if _is_supported(present, requirement):
            continue
        needed = _in_words(requirement)
        wrong.append(f"{requirement.name} {present} is installed, {needed} is needed")
        packages.append(f'"{needed}"')
    if wrong:
        raise ImportError(
            f"spacy-bert-crf does not support these versions: {'; '.join(wrong)}. "
            f"Run: pip install {' '.join(packages)}"
        )


def missing_shared(err: BaseException) -> str:
    """What to install, if an error of spaCy is about spacy-transformers, which is missing here.

    err: an error of loading a pipeline or a config.
    RETURNS: a sentence after a space; empty for other errors.
    """
    is_about = re.search(r"'(transformer'|spacy-transformers\.)", str(err).partition("\n")[0])
    if not is_about or _installed("spacy-transformers") != _ABSENT:
        return ""
    return (
        " A shared transformer needs spacy-transformers, which is not installed. "
        f'Run: pip install "{_NAME}[{_SHARED}]"'
    )


def flat_settings(config: "Config") -> Iterator[tuple[str, Any]]:
    """The settings of a config by their full names, such as `training.dropout`."""
    return _flat(config.interpolate())


def settings_of(config: "Config") -> dict[str, Any]:
    """The settings of a config by their full names, without those that only say where files are."""
    return {
        key: json.loads(json.dumps(value, default=str))
        for key, value in flat_settings(config)
        if not key.startswith(_LOCATIONS)
    }


def config_hash(settings: dict[str, Any]) -> str:
    """SHA-256 of settings by their full names, in any order."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf8", "surrogatepass")).hexdigest()


def _flat(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(section, dict) and section:
        for key, value in section.items():
            yield from _flat(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], section


def _requirements() -> list[Requirement]:
    """What setup.py requires of the packages in `_PACKAGES`, with the extra `_SHARED`."""
    try:
        lines = metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:
        return []
    found = [Requirement(line) for line in lines]
    named = [r for r in found if r.name in _PACKAGES]
    return [r for r in named if r.marker is None or r.marker.evaluate({"extra": _SHARED})]


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
        return _ABSENT
