"""Downloads that go on where they stopped, and checks of what came."""

import gzip
import os
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urljoin

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from spacy_bert_crf._files import atomic_file
from spacy_bert_crf.encoder.checkpoint_files import AGAIN, read_json, read_tensors
from spacy_bert_crf.errors import BertCrfError

from .download_lock import check_recorded, file_sha256, record
from .in_time import InTime, TooLong

#: Seconds before the second attempt; doubled before each further one.
BACKOFF = 0.5
#: No archive may unpack to more bytes than this, or hold more files.
MAX_UNPACKED, MAX_MEMBERS = 1 << 28, 10_000
#: No download may be larger than this, unless its size is said.
MAX_BYTES = 1 << 34
MAX_REDIRECTS = 10
#: Timeouts that all the headers of an answer may take, or one piece of its body.
PATIENCE = 4
#: Bytes a second, over as long as the timeout: what comes more slowly is taken to be stuck.
SLOWEST = 1024

_CHUNK = 1 << 20
_REFUSED = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)


class _TryAgain(Exception):
    """Something that another attempt may put right."""


@dataclass(frozen=True)
class _Download:
    url: str
    dst: Path
    size: int | None
    sha256: str | None
    check: Callable[[Path], None] | None
    timeout: float
    lock: Path | None
    max_bytes: int

    @property
    def part(self) -> Path:
        return self.dst.with_name(f"{self.dst.name}.part")

    @property
    def tag(self) -> Path:
        """Says which version of the file the part is of: its ETag or its date."""
        return self.dst.with_name(f"{self.dst.name}.part.tag")

    def version(self) -> str:
        return self.tag.read_text(encoding="latin1").strip()

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)

    def error(self, reason: str) -> BertCrfError:
        return BertCrfError(
            f"can't get {self.dst.name} from {self.url}: {reason}. Check the address and the "
            f"network, name a mirror, or put the file at {self.dst} yourself."
        )


def download(
    url: str,
    dst: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    check: Callable[[Path], None] | None = None,
    retries: int = 3,
    timeout: float = 30,
    lock: Path | None = None,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Get the file at an http(s) address; nothing is fetched if a good one is at `dst`.

    size, sha256, check: what the file must fulfil (`check` raises BertCrfError if it doesn't).
    retries: further attempts after the first. timeout: seconds without any answer.
    lock: file in which the hash of what came is recorded by its address, and checked from then on.
    max_bytes: more is not accepted.
    What came before an interruption stays in `dst`.part and is gone on with, by the next
    attempt or the next call. A file at `dst` that doesn't fulfil the conditions is moved to
    `dst`.bad and removed once a good one is there; but one that only isn't the file recorded in
    `lock` stays where it is, and is an error.
    Raises BertCrfError, with the file, the address and what to do; `dst` is then absent.
    """
    job = _Download(url, Path(dst), size, sha256, check, timeout, lock, max_bytes)
    bad, note = job.dst.with_name(f"{job.dst.name}.bad"), ""
    try:
        if job.dst.exists():
            try:
                _verify(job, job.dst)
            except BertCrfError as err:
                os.replace(job.dst, bad)
                note = f"\nThe file that was there is {bad.name} now, for: {err}"
            else:
                if lock is not None:
                    check_recorded(lock, url, job.dst)
                return
        job.dst.parent.mkdir(parents=True, exist_ok=True)
        if job.part.exists() and not (job.tag.exists() or sha256 or check):
            job.discard()  # Nothing could tell that it is of another version of the file.
        _fetch(job, retries)
        bad.unlink(missing_ok=True)
    except BertCrfError as err:
        raise BertCrfError(f"{err}{note}") from err
    except OSError as err:
        reason = err.strerror or str(err)
        raise BertCrfError(f"can't write {job.dst}: {reason}. Make room or move it.{note}") from err


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
        # To its end, because the checksum stands there, and first, because tarfile trusts sizes.
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


def extract_tar(path: Path, dst_folder: Path, members: Sequence[str]) -> list[Path]:
    """Unpack the named regular files (by base name) of a tar.gz into a folder; their new paths.

    Raises BertCrfError for a damaged archive, and for a member that is missing, there twice, a
    link, outside the archive's own folder or too large.
    """
    check_tar_gz(path, members)
    with tarfile.open(path, "r:gz") as archive:
        for name, member in _find_members(archive, path, members).items():
            stream = archive.extractfile(member)
            assert stream is not None  # It is a regular file.
            with atomic_file(Path(dst_folder) / name) as tmp, open(tmp, "wb") as handle:
                shutil.copyfileobj(stream, handle, _CHUNK)
    return [Path(dst_folder) / name for name in members]


def _find_members(
    archive: tarfile.TarFile, path: Path, members: Sequence[str]
) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for number, member in enumerate(archive):
        if number >= MAX_MEMBERS:
            raise BertCrfError(f"{path} holds more than {MAX_MEMBERS:,} files.")
        inside = PurePosixPath(member.name)
        name = inside.name
        if name not in members or member.isdir():
            continue
        if not member.isreg() or inside.is_absolute() or ".." in inside.parts:
            raise BertCrfError(f"{path}: {member.name} is a link or outside the archive: refused.")
        if name in found:
            raise BertCrfError(f"{path} has {name} twice: {found[name].name} and {member.name}.")
        found[name] = member
    if missing := [name for name in members if name not in found]:
        raise BertCrfError(f"{path} lacks {', '.join(missing)}. {AGAIN}.")
    if sum(member.size for member in found.values()) > MAX_UNPACKED:
        raise BertCrfError(f"{path} unpacks to more than {MAX_UNPACKED:,} bytes.")
    return found


def _fetch(job: _Download, retries: int) -> None:
    reason = ""
    for attempt in range(retries + 1):
        if attempt:
            time.sleep(BACKOFF * 2 ** (attempt - 1))
        try:
            resumed = _attempt(job)
        except _TryAgain as err:
            reason = str(err)
            continue
        try:
            _verify(job, job.part)
            if job.lock is not None:
                check_recorded(job.lock, job.url, job.part)
        except BertCrfError as err:
            job.discard()
            reason = str(err).replace(str(job.part), str(job.dst)).rstrip(".")
            if not resumed:
                break
            continue  # The part may have been of another version: once more from the start.
        with open(job.part, "rb") as handle:
            os.fsync(handle.fileno())
        if job.lock is not None:
            record(job.lock, job.url, job.part)
        os.replace(job.part, job.dst)
        job.tag.unlink(missing_ok=True)
        return
    raise job.error(reason)


def _attempt(job: _Download) -> bool:
    """Fetch what the part lacks; whether something was there already."""
    there = job.part.stat().st_size if job.part.exists() else 0
    # A file that the server compresses on its way has neither a known length nor ranges.
    headers = {"Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
        if job.tag.exists():
            headers["If-Range"] = job.version()
    in_time, close = InTime(PATIENCE * job.timeout), []
    try:
        reply = _open(job, headers, in_time)
        close.append(reply.close)
        return _receive(job, reply, there, in_time)
    except _REFUSED as err:
        raise job.error(str(err)) from err
    except (requests.exceptions.Timeout, TimeoutError) as err:
        raise _TryAgain(f"no answer for {job.timeout:g} seconds") from err
    except TooLong as err:
        raise _TryAgain(f"no whole answer for {in_time.seconds:g} seconds") from err
    except (requests.RequestException, HTTPError) as err:
        # The innermost cause: the outer layers say it with the addresses of their objects.
        cause = getattr(err.args[0] if err.args else err, "reason", err)
        raise _TryAgain(f"no connection ({str(cause).rpartition(': ')[2]})") from err
    finally:
        in_time.end(*close)


class _Session(requests.Session):
    """Sees no redirects. Else requests reads their bodies, without any bound of time or memory,
    even with allow_redirects=False."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def _open(job: _Download, headers: dict[str, str], in_time: InTime) -> requests.Response:
    """The answer at the end of the redirects."""

    def get() -> requests.Response:
        with _Session() as session:
            return session.get(url, headers=headers, stream=True, timeout=job.timeout)

    url = job.url
    for _ in range(MAX_REDIRECTS):
        reply = in_time.do(get)
        if not reply.is_redirect:
            return reply
        in_time.do(reply.close)
        url = urljoin(url, reply.headers["Location"])
    raise job.error(f"more than {MAX_REDIRECTS} redirects")


def _receive(job: _Download, reply: requests.Response, there: int, in_time: InTime) -> bool:
    status = reply.status_code
    span = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)$", reply.headers.get("Content-Range", ""))
    if status == 416 and there:
        if span and span[2] == str(there):
            return True  # All of it had come.
        job.discard()
        raise _TryAgain("the server can't go on with what had come")
    if status in (408, 425, 429) or status >= 500:
        raise _TryAgain(f"the server answers {status} {reply.reason}")
    if status not in (200, 206):
        raise job.error(f"the server answers {status} {reply.reason}")
    if status == 206 and not (there and span and span[1] == str(there) and _is_same(job, reply)):
        job.discard()
        raise _TryAgain("the server sends another part than the one asked for")
    if reply.headers.get("Content-Type", "").startswith("text/html"):
        raise job.error("the server answers with a web page, not with the file")
    coding = reply.headers.get("Content-Encoding", "identity")
    if coding != "identity" and not job.dst.name.endswith("gz"):
        raise job.error(f"the server sends it in another encoding ({coding})")
    start = there if status == 206 else 0
    length = reply.headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else None
    if total is not None and job.size is not None and total != job.size:
        raise job.error(f"it has {total:,} bytes there, not {job.size:,}")
    most = job.max_bytes if job.size is None else job.size
    if total is not None and total > most:
        raise job.error(f"it has {total:,} bytes there, more than {most:,}")
    if not start:
        job.discard()
        if version := _version(reply):
            job.tag.write_text(version, encoding="latin1")
    with (
        open(job.part, "ab" if start else "wb") as handle,
        # disable=None: no bar where nobody watches.
        tqdm(
            desc=job.dst.name,
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            disable=None,
        ) as bar,
    ):
        for data in _pieces(reply, job.timeout, in_time):
            handle.write(data)
            bar.update(len(data))
            if handle.tell() > most:
                break
        came = handle.tell()
    if came > most:
        job.discard()
        raise job.error(f"more than {most:,} bytes came")
    if total is not None and came != total:
        raise _TryAgain(f"only {came:,} of {total:,} bytes came")
    return start > 0


def _pieces(reply: requests.Response, timeout: float, in_time: InTime) -> Iterator[bytes]:
    """The bytes of an answer as they come, while they come fast enough."""
    # Raw: requests would unpack a .gz that the server calls an encoding. read1 gives what there
    # is, where read would wait until a whole chunk is together (and urllib3 1 has no other).
    if hasattr(reply.raw, "read1"):
        pieces = iter(lambda: reply.raw.read1(_CHUNK, decode_content=False), b"")
    else:
        pieces = reply.raw.stream(1 << 12, decode_content=False)
    came, since = 0, time.monotonic()
    while data := in_time.do(lambda: next(pieces, b"")):
        yield data
        came += len(data)
        passed = time.monotonic() - since
        if passed > timeout:
            if came < SLOWEST * passed:
                raise _TryAgain(f"only {came:,} bytes came in {passed:.0f} seconds")
            came, since = 0, time.monotonic()


def _version(reply: requests.Response) -> str:
    tag = reply.headers.get("ETag", "")
    return tag if tag.startswith('"') else reply.headers.get("Last-Modified", "")


def _is_same(job: _Download, reply: requests.Response) -> bool:
    """Whether a part is of the version that we have the beginning of; some don't heed If-Range."""
    version = _version(reply)
    return not version or not job.tag.exists() or version == job.version()


def _verify(job: _Download, path: Path) -> None:
    """Raise BertCrfError unless the file at `path` fulfils the conditions."""
    size = path.stat().st_size
    if job.size is not None and size != job.size:
        raise BertCrfError(f"{path} has {size:,} bytes, not {job.size:,}")
    with open(path, "rb") as handle:
        head = handle.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith((b"<!doctype", b"<html")):
        raise BertCrfError(f"{path} is a web page, not the file")
    if job.sha256 and (digest := file_sha256(path)) != job.sha256.lower():
        raise BertCrfError(f"{path} is another file: sha256 {digest}, not {job.sha256}")
    if job.check is not None:
        job.check(path)
