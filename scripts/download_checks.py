"""Structure checks of downloaded files, and unpacking of checked archives."""

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, cast

from spacy_bert_crf._files import atomic_file
from spacy_bert_crf.encoder.checkpoint_files import AGAIN, read_json, read_tensors
from spacy_bert_crf.errors import BertCrfError

#: Bounds of an archive: bytes when unpacked, and number of members.
MAX_UNPACKED, MAX_MEMBERS = 1 << 28, 10_000

_CHUNK = 1 << 20


def check_checkpoint_file(path: Path) -> None:
    """Raise BertCrfError unless `path` is a whole torch weights file (zip or pre-1.6 format)."""
    tensors = read_tensors(path)
    if not any(tensor.numel() for tensor in tensors.values()):
        raise BertCrfError(f"{path} holds no weights. {AGAIN}.")


def check_json(path: Path) -> None:
    """Raise BertCrfError unless `path` holds a JSON object."""
    read_json(path)


def check_vocab(path: Path) -> None:
    """Raise BertCrfError unless `path` looks like the vocabulary of a BERT."""
    try:
        pieces = path.read_text(encoding="utf8").split("\n")
    except (OSError, UnicodeDecodeError) as err:
        raise BertCrfError(f"{path} can't be read as UTF-8 text ({err}). {AGAIN}.") from err
    lines = len(pieces) - (not pieces[-1])
    if lines < 100 or "[CLS]" not in pieces:
        lacks = "" if "[CLS]" in pieces else " without [CLS]"
        raise BertCrfError(f"{path} is no BERT vocabulary: {lines} lines{lacks}. {AGAIN}.")


def check_tar_gz(path: Path, members: Sequence[str]) -> None:
    """Raise BertCrfError unless `path` is a whole tar.gz with these files (by base name)."""
    try:
        # The whole stream is read first. gzip's checksum is at its end, and tarfile trusts the
        # sizes in headers.
        unpacked = 0
        with gzip.open(path) as stream:
            while data := stream.read(_CHUNK):
                unpacked += len(data)
                if unpacked > MAX_UNPACKED:
                    raise BertCrfError(f"{path} unpacks to more than {MAX_UNPACKED:,} bytes.")
        with tarfile.open(path, "r:gz") as archive:
            _find_members(archive, path, members)
    except BertCrfError:
        raise
    except (
        OSError, EOFError, ValueError, RecursionError, MemoryError, OverflowError, zlib.error,
        tarfile.TarError,
    ) as err:  # fmt: skip
        reason = str(err) or type(err).__name__
        raise BertCrfError(f"{path} is no whole tar.gz archive ({reason}). {AGAIN}.") from err


def extract_tar(path: Path, folder: Path, members: Sequence[str]) -> list[Path]:
    """Unpack the named files of a tar.gz into a folder.

    path: the archive.
    folder: where the files are written.
    members: base names of the files.
    RETURNS: the paths of the files, in the order of `members`.
    Raises BertCrfError for a damaged archive. Also for a member that is missing, there twice, not
    a regular file, outside the archive's own folder or too large.
    """
    check_tar_gz(path, members)
    with tarfile.open(path, "r:gz") as archive:
        for name, member in _find_members(archive, path, members).items():
            with atomic_file(Path(folder) / name) as tmp, open(tmp, "wb") as file:
                shutil.copyfileobj(cast(IO[bytes], archive.extractfile(member)), file, _CHUNK)
    return [Path(folder) / name for name in members]


def _find_members(
    archive: tarfile.TarFile, path: Path, members: Sequence[str]
) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for number, member in enumerate(archive):
        if number >= MAX_MEMBERS:
            raise BertCrfError(f"{path} holds more than {MAX_MEMBERS:,} files. {AGAIN}.")
        name = PurePosixPath(member.name).name
        if name not in members or member.isdir():
            continue
        try:
            tarfile.data_filter(member, str(path.parent))
        except tarfile.FilterError as err:
            raise BertCrfError(f"{path}: {member.name} is refused: {err}.") from err
        if not member.isreg() or member.name.startswith("/"):
            # The filter allows links within the archive, and takes the / off absolute paths.
            raise BertCrfError(f"{path}: {member.name} is refused: a link or an absolute path.")
        if name in found:
            raise BertCrfError(f"{path} has {name} twice: {found[name].name} and {member.name}.")
        found[name] = member
    if missing := [name for name in members if name not in found]:
        raise BertCrfError(f"{path} lacks {', '.join(missing)}. {AGAIN}.")
    if sum(member.size for member in found.values()) > MAX_UNPACKED:
        raise BertCrfError(f"{path} unpacks to more than {MAX_UNPACKED:,} bytes. {AGAIN}.")
    return found
