"""The settings of a server, with their checks."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BertCrfError
from .batcher import BatchLimits

#: Addresses of this machine only.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class RequestLimits:
    """Bounds of a request.

    chars: largest number of characters of a text.
    texts: largest number of texts of a request.
    body: largest number of bytes of a request.
    stream_body: largest number of bytes of a streamed request.
    streams: largest number of streamed requests at once.
    timeout: seconds in which a request must be received, and again those in which it is answered.
        In a stream, those between two lines.
    """

    chars: int = 10_000
    texts: int = 256
    body: int = 2**20
    stream_body: int = 64 * 2**20
    streams: int = 8
    timeout: float = 60.0


@dataclass(frozen=True)
class ServerSettings:
    """The settings of a server.

    host: address to listen on.
    port: port to listen on; 0 for a free one.
    token: requests must have it; "" for none.
    hosts: names of this server that requests may use. Empty: those of this machine where `host` is
        an address of this machine only, otherwise any.
    requests: bounds of a request.
    batches: bounds of batches and of the queue.
    threads: number of threads of torch; 0: $OMP_NUM_THREADS, or as many as there are cores to use.
    grace: seconds that requests have to end after SIGTERM.

    Raises BertCrfError for a value that can't be.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    hosts: tuple[str, ...] = ()
    requests: RequestLimits = field(default_factory=RequestLimits)
    batches: BatchLimits = field(default_factory=BatchLimits)
    threads: int = 0
    grace: int = 30

    def __post_init__(self) -> None:
        wanted, queue = self.requests, self.batches
        if wanted.texts > queue.queue_texts:
            raise BertCrfError(
                f"a request may have {wanted.texts} texts, but the queue takes only "
                f"{queue.queue_texts}: use --max-texts {queue.queue_texts} or a longer --queue."
            )
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise BertCrfError("the token must be printable ASCII characters on one line.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        return self.host in LOOPBACK

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """Names in the Host header that are answered; empty for all.

        A page of another site can lead a browser to a local server under a name of its own
        ("DNS rebinding"), and is stopped by this.
        """
        if self.hosts:
            return self.hosts
        return (*LOOPBACK, "[::1]") if self.is_local else ()


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The number of cores that this process may use: by its affinity, and by a container's quota.

    torch's own default counts the cores of the machine, also in a container that may use two.

    cgroup: folder of the control group, version 2 or 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for quota_file, period_file in (
        ("cpu.max", ""),
        ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
    ):
        try:
            quota, *rest = (cgroup / quota_file).read_text(encoding="utf8").split()
            period = rest[0] if rest else (cgroup / period_file).read_text(encoding="utf8")
            if quota != "max" and int(quota) > 0:
                return max(1, min(cores or 1, math.floor(int(quota) / int(period))))
        except (OSError, ValueError, IndexError):
            continue
    return cores or 1
