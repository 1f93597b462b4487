"""Writing that never leaves a half-written file: a temporary name, then a rename."""

import ctypes
import ctypes.util
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BertCrfError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there becomes `path` on success.

    Raises BertCrfError if the file can't be written; the old file is then untouched.
    """
    path = Path(path)
    with _write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        tmp = Path(name)
        try:
            yield tmp
            os.chmod(tmp, 0o666 & ~_umask())
            _sync(tmp)
            os.replace(tmp, path)
        finally:
            tmp.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; what is written there becomes `path` on success.

    An existing folder at `path` is replaced as a whole, on Linux by one atomic exchange.
    """
    path = Path(path)
    with _write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tmp = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            os.chmod(tmp, 0o777 & ~_umask())
            yield tmp
            for file in tmp.rglob("*"):
                if file.is_file():
                    _sync(file)
            if path.is_dir() and not path.is_symlink():
                _exchange(tmp, path)
            else:
                os.replace(tmp, path)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8, LF) by rename."""
    with atomic_file(path) as tmp:
        tmp.write_text(text, encoding="utf8", newline="\n")


def _exchange(tmp: Path, path: Path) -> None:
    """Put the folder `tmp` in the place of the folder `path`; `tmp` is the old one afterwards."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
        if hasattr(libc, "renameat2"):
            done = libc.renameat2(
                _AT_FDCWD, os.fsencode(tmp), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE
            )
            if done == 0:
                return
            if ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    # Elsewhere two renames: between them `path` is missing for a moment, but never half-written.
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    try:
        os.replace(path, old / path.name)
        os.replace(tmp, path)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _sync(file: Path) -> None:
    # Some systems sync only what is open for writing.
    with open(file, "r+b" if os.access(file, os.W_OK) else "rb") as handle:
        os.fsync(handle.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        # Only trouble with the target itself: an unreadable input keeps its own error.
        inside = err.filename is None or Path(os.fsdecode(err.filename)).parent in (
            path.parent,
            *path.parent.parents,
        )
        if inside and not isinstance(err, FileNotFoundError):
            reason = err.strerror or str(err)
            raise BertCrfError(
                f"can't write {path}: {reason}. Nothing was changed there; make room or choose "
                "another place, then run the command again."
            ) from err
        raise
