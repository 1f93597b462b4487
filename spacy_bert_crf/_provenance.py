"""Where a result comes from: versions of the packages, and hashes of the settings.

Also the versions of other packages that this one works with.
"""

import hashlib
import json
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thinc.api import Config

_PACKAGES = (
    "spacy-bert-crf",
    "spacy",
    "thinc",
    "spacy-transformers",
    "transformers",
    "torch",
    "numpy",
)

#: Key of a pipeline's meta.json under which the training records its seed, hashes and versions.
META = "spacy_bert_crf"

#: Settings that say only where files are. They are left out of hashes.
_LOCATIONS = ("paths.", "system.gpu_allocator", "corpora.train.path", "corpora.dev.path")

#: For each package the first version that works, and the first later one that does not (empty: none
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
    """Versions of Python and of each package that a result depends on."""
    return {"python": platform.python_version()} | {n: _installed(n) for n in _PACKAGES}


def check_versions() -> None:
    """Raise ImportError if a package is installed in a version that this one can't work with.

    Only metadata is read, nothing is imported. A missing package raises its own error where it is
    imported.
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


def _is_between(version: str, low: str, high: str) -> bool:
    numbers = _numbers(version)
    return _numbers(low) <= numbers and not (high and numbers >= _numbers(high))


def _numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` → (2, 13, 0); anything after the numbers is left out."""
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
