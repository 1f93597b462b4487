"""Writing that never leaves a half-written file: a temporary name, then a rename.

Temporary names are `.NAME.xxxxxxxx.tmp`, beside their target. A process that writes one holds a
lock on it, so that what a killed process left is known by its free lock: it is removed by the
next write of the same target.
"""

import ctypes
import ctypes.util
import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BertCrfError

if sys.platform != "win32":
    import fcntl

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
#: How libraries in Rust and C++ put a failed write into words: they raise no OSError.
_NO_ROOM = re.compile(
    r"(No space left on device|Disk quota exceeded|File too large|Read-only file system)", re.I
)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there becomes `path` on success.

    Raises BertCrfError if the file can't be written; the old file is then untouched.
    """
    path = Path(path)
    with _write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_read_only(path)
        sweep(path.parent, path.name)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        tmp = Path(name)
        try:
            _lock(handle)
            yield tmp
            os.chmod(tmp, 0o666 & ~_umask())
            _sync(tmp)
            os.replace(tmp, path)
        finally:
            tmp.unlink(missing_ok=True)
            os.close(handle)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; what is written there becomes `path` on success.

    An existing folder at `path` is replaced as a whole, on Linux by one atomic exchange.
    """
    path = Path(path)
    with _write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for present in (path, *path.rglob("*")):
            _refuse_read_only(present)
        sweep(path.parent, path.name)
        tmp = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        handle = _open_folder(tmp)
        try:
            _lock(handle)
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
            # After an exchange the lock is on what lies at `path` now, which is whole.
            if handle is not None:
                os.close(handle)
            shutil.rmtree(tmp, ignore_errors=True)


def remove_folder(path: str | Path) -> None:
    """Remove a folder so that at no moment a part of it lies there: a rename, then the rest."""
    path = Path(path)
    if not path.is_dir():
        return
    with _write_errors(path):
        tmp = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            os.replace(path, tmp)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)


def sweep(folder: str | Path, name: str = "*") -> None:
    """Remove the temporary files and folders in `folder` that no process writes any more.

    name: only those on the way to this file or folder.
    """
    start = "." if name == "*" else f".{name}."
    for tmp in Path(folder).iterdir() if Path(folder).is_dir() else ():
        if not (tmp.name.startswith(start) and re.fullmatch(r"\..+\.\w{8}\.tmp", tmp.name)):
            continue
        if name != "*" and len(tmp.name) != len(start) + len("xxxxxxxx.tmp"):
            continue
        if _is_locked(tmp):
            continue
        if tmp.is_dir():
            shutil.rmtree(tmp, ignore_errors=True)
        else:
            tmp.unlink(missing_ok=True)


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


def _refuse_read_only(path: Path) -> None:
    """A rename would replace a file that its owner protects (and root may write everywhere)."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not mode & _WRITABLE or not os.access(path, os.W_OK):
        raise BertCrfError(
            f"can't write {path}: it is read-only. Nothing was changed there; allow writing to it "
            "or choose another place, then run the command again."
        )


def _open_folder(path: Path) -> int | None:
    return None if sys.platform == "win32" else os.open(path, os.O_RDONLY)


def _lock(handle: int | None) -> None:
    """Hold a lock until the handle is closed, at the latest with the process."""
    if sys.platform == "win32" or handle is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks: nothing is swept there
        return


def _is_locked(path: Path) -> bool:
    """Whether a process writes this; also where nobody can say."""
    if sys.platform == "win32":
        return True
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except BertCrfError:
        raise
    except OSError as err:
        # Only trouble with the target itself: an unreadable input keeps its own error.
        if isinstance(err, FileNotFoundError) or not _concerns(err.filename, path):
            raise
        raise _cant_write(path, err.strerror or str(err)) from err
    except Exception as err:
        if (found := _NO_ROOM.search(str(err))) is None:
            raise
        raise _cant_write(path, found[1]) from err


def _concerns(filename: object, path: Path) -> bool:
    """Whether an error's file is the target, a folder above it, or in a temporary one of it."""
    if not isinstance(filename, (str, bytes, os.PathLike)):
        return True
    file = Path(os.fsdecode(filename))
    above = (path.parent, *path.parent.parents)
    is_ours = any(p.name.startswith(f".{path.name}.") for p in (file, *file.parents))
    return file in (path, *above) or file.parent in above or is_ours


def _cant_write(path: Path, reason: str) -> BertCrfError:
    return BertCrfError(
        f"can't write {path}: {reason}. Nothing was changed there; make room or choose another "
        "place, then run the command again."
    )
