"""Download a file over HTTP. It is renamed to its name after it has passed its checks.

The library pooch downloads, and bounds of size and time are added here. Files of a model hub come
the same way, since any file server with the same paths must do. huggingface_hub refuses a plain
server: it needs the header X-Repo-Commit.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pooch
import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from spacy_bert_crf._files import atomic_file
from spacy_bert_crf.errors import BertCrfError, first_line

from .download_lock import check_recorded, read_lock, record

#: Seconds before the second attempt. They double before each further one.
BACKOFF = 0.5
#: Default limits of a download, in bytes and in seconds.
MAX_BYTES, MAX_SECONDS = 1 << 34, 2 * 3600.0

_CHUNK = 1 << 16
_BAD_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.TooManyRedirects,
)

pooch.get_logger().setLevel(logging.WARNING)


class _TooLong(Exception):
    """The time limit is reached. Not an OSError, which libraries treat as a failed connection."""


def download(
    url: str,
    dst: Path,
    *,
    check: Callable[[Path], None] | None = None,
    lock: Path | None = None,
    max_bytes: int = MAX_BYTES,
    timeout: float = 30,
    max_seconds: float = MAX_SECONDS,
    retries: int = 3,
) -> None:
    """Download the file at an http(s) address, unless `dst` has passed the checks already.

    url: the address.
    dst: path of the file.
    check: raises BertCrfError for a file that must not be used.
    lock: file that records the hash of each first download; later ones are compared with it.
    max_bytes: a larger file is refused.
    timeout: seconds that the server may send nothing.
    max_seconds: limit for all attempts together.
    retries: further attempts after a broken connection or a server error, each from the start.
    Raises BertCrfError, with the file, the address and what to do. No half-written file is left
    then, and a file that was at `dst` is unchanged.
    """
    dst, note = Path(dst), ""
    if dst.exists():
        try:
            _verify(dst, check)
        except BertCrfError as err:
            note = f"\nThe file that is there can't be used: {err}"
        else:
            if lock is not None:
                check_recorded(lock, url, dst)
            return
    known = read_lock(lock).get(url, {}).get("sha256") if lock else None
    with atomic_file(dst) as tmp, _folder_beside(dst) as work:
        new = work / dst.name
        try:
            with _time_limit(max_seconds):
                _fetch(url, new, known, _Downloader(dst.name, max_bytes, timeout), retries)
            _verify(new, check)
        except (BertCrfError, _TooLong) as err:
            reason = str(err).replace(str(new), str(dst)).rstrip(".")
            if "known hash" in reason:
                reason += f". It is recorded in {lock}: if the new file is right, delete the entry"
            raise BertCrfError(
                f"can't get {dst.name} from {url}: {reason}. Check the address and the network, "
                f"name a mirror, or put the file at {dst} yourself.{note}"
            ) from err
        if lock is not None:
            record(lock, url, new)
        os.replace(new, tmp)


def _fetch(url: str, new: Path, known: str | None, downloader: "_Downloader", retries: int) -> None:
    reason = ""
    for attempt in range(retries + 1):
        if attempt:
            time.sleep(BACKOFF * 2 ** (attempt - 1))
        try:
            pooch.retrieve(url, known, new.name, new.parent, downloader=downloader)
            return
        except requests.HTTPError as err:
            reason = f"the server answers {err.response.status_code} {err.response.reason}"
            if err.response.status_code < 500 and err.response.status_code not in (408, 425, 429):
                raise BertCrfError(reason) from err
        except _BAD_ADDRESS as err:
            raise BertCrfError(str(err)) from err
        except requests.Timeout:
            reason = f"no answer for {downloader.kwargs['timeout']:g} seconds"
        except (requests.RequestException, HTTPError) as err:
            # The innermost cause. The outer errors name objects by their address in memory.
            cause = getattr(err.args[0] if err.args else err, "reason", err)
            reason = f"no connection ({str(cause).rpartition(': ')[2]})"
        except ValueError as err:  # pooch: another hash; requests: an answer that can't be read
            raise BertCrfError(first_line(err)) from err
    raise BertCrfError(reason)


class _Downloader(pooch.HTTPDownloader):  # type: ignore[misc]
    """Downloads at most `max_bytes`, as they are sent. It is also the file that pooch writes to."""

    def __init__(self, name: str, max_bytes: int, timeout: float) -> None:
        headers, hooks = {"Accept-Encoding": "identity"}, {"response": self._look_at}
        super().__init__(chunk_size=_CHUNK, timeout=timeout, headers=headers, hooks=hooks)
        self.name, self.max_bytes = name, max_bytes

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        # disable=None: no bar where the output is no terminal.
        bar = tqdm(desc=self.name, unit="B", unit_scale=True, disable=None)
        with open(output_file, "wb") as self._file, bar as self._bar:
            super().__call__(url, self, pooch)

    def write(self, data: bytes) -> None:
        self._check_size(self._file.tell() + len(data), "arrived")
        self._file.write(data)
        self._bar.update(len(data))

    def flush(self) -> None:
        """No action. pooch calls it after each piece."""

    def _check_size(self, size: int, what: str) -> None:
        if size > self.max_bytes:
            raise BertCrfError(f"{size:,} bytes {what}, more than {self.max_bytes:,}")

    def _look_at(self, reply: requests.Response, **settings: Any) -> None:
        """Look at the headers of an answer, redirects included, before its body is read."""
        if reply.is_redirect:
            reply.close()  # requests reads the body of a redirect without any bound
            return
        reply.raise_for_status()
        if reply.status_code != 200:
            raise BertCrfError(f"the server answers {reply.status_code} {reply.reason}")
        if reply.headers.get("Content-Type", "").startswith("text/html"):
            raise BertCrfError("the server answers with a web page, not with the file")
        coding = reply.headers.get("Content-Encoding", "identity")
        if coding != "identity":
            if not self.name.endswith("gz"):
                raise BertCrfError(f"the server sends it in another encoding ({coding})")
            del reply.raw.headers["Content-Encoding"]  # else requests would unpack the archive
        length = reply.headers.get("Content-Length", "")
        if length.isdecimal():
            self._check_size(int(length), "were announced")
        else:
            reply.headers.pop("Content-Length", None)  # pooch takes it for a number


@contextmanager
def _folder_beside(dst: Path) -> Iterator[Path]:
    """A temporary folder that the next download to `dst` removes if this process is killed."""
    with TemporaryDirectory(prefix=f".{dst.name}.", suffix=".tmp", dir=dst.parent) as name:
        yield Path(name)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _TooLong in the block after so many seconds, even while it waits.

    It needs the interval timer of POSIX systems and the main thread. Elsewhere there is no limit.
    """

    def stop(*_: object) -> None:
        raise _TooLong(f"it took more than {seconds:g} seconds")

    is_main = threading.current_thread() is threading.main_thread()
    if not (is_main and hasattr(signal, "setitimer")):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    # Again each second, in case the first exception was lost where exceptions are ignored.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _verify(path: Path, check: Callable[[Path], None] | None) -> None:
    """Raise BertCrfError for a web page and for a file that fails the check."""
    with open(path, "rb") as file:
        head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith((b"<!doctype", b"<html")):
        raise BertCrfError(f"{path} is a web page, not the file")
    if check is not None:
        check(path)
