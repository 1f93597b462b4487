"""Write files and folders so that none is ever half-written: a temporary name, then a rename.

Temporary names are `.NAME.xxxxxxxx.tmp`, beside their target. A process that writes one holds a
lock on it. A temporary file without a lock was left by a killed process. The next write of the same
target removes it.
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
#: Messages of failed writes from libraries in Rust and C++, which raise no OSError.
_NO_ROOM = re.compile(
    r"(No space left on device|Disk quota exceeded|File too large|Read-only file system)", re.I
)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. The file written there becomes `path` on success.

    Raises BertCrfError if the file can't be written. The old file is then untouched.
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
    """Yield a temporary folder beside `path`. It becomes `path` on success.

    An existing folder at `path` is replaced as a whole, on Linux by one atomic exchange.
    Raises BertCrfError if the folder can't be written. The old folder is then untouched.
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
            # After an exchange, the lock is on the new folder at `path`, which is complete.
            if handle is not None:
                os.close(handle)
            shutil.rmtree(tmp, ignore_errors=True)


def remove_folder(path: str | Path) -> None:
    """Remove a folder by a rename first, so that at no moment only a part of it is there."""
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
    """Remove temporary files and folders that no process writes any more.

    folder: where to look.
    name: only temporary ones for this target; "*" for all targets.
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
    """Write a text file (UTF-8, LF) by rename. Raises as atomic_file does."""
    with atomic_file(path) as tmp:
        tmp.write_text(text, encoding="utf8", newline="\n")


def _exchange(tmp: Path, path: Path) -> None:
    """Exchange the folders `tmp` and `path`."""
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
    # Some systems sync only files that are open for writing.
    with open(file, "r+b" if os.access(file, os.W_OK) else "rb") as handle:
        os.fsync(handle.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _refuse_read_only(path: Path) -> None:
    """Refuse a read-only file: a rename would replace it, and root may write everywhere."""
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
    """Whether a process writes this file or folder; True where that is unknown."""
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
        # Only errors of the target itself are changed. An unreadable input keeps its own error.
        if isinstance(err, FileNotFoundError) or not _concerns(err.filename, path):
            raise
        raise _cant_write(path, err.strerror or str(err)) from err
    except Exception as err:
        if (found := _NO_ROOM.search(str(err))) is None:
            raise
        raise _cant_write(path, found[1]) from err


def _concerns(filename: object, path: Path) -> bool:
    """Whether an error's file is the target, a folder above it, or one of its temporary files."""
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
