"""Show how far a run is: characters, characters a second and the time left."""

import logging
import sys
import time
from typing import Any, Optional

import tqdm

from .commit import Counts
from .rows import SetApart

LOG = logging.getLogger(__name__)
#: Seconds between two messages where there is no terminal, as in the log of a batch job.
_PAUSE = 60.0


class Progress:
    """What is done of a run. On a terminal it is a bar, and elsewhere a message each minute.

    size: bytes of the input. The number of characters is estimated from those that were read.
    show: whether it is shown.

    counts: what this run did.
    before: what was committed before.
    apart: what was set apart, by the name of the shard.
    """

    def __init__(self, size: int, show: bool) -> None:
        self.counts, self.before = Counts(), Counts()
        self.apart: dict[str, tuple[SetApart, ...]] = {}
        self._size, self._read = size, 0
        self._began = self._last = time.monotonic()
        self._show = show
        self._bar: Any = None
        if show and sys.stderr.isatty():
            # Its monitor would be a thread, and a process with threads should not fork.
            tqdm.tqdm.monitor_interval = 0
            self._bar = tqdm.tqdm(unit="chars", unit_scale=True, desc="annotating", total=0)

    def skip(self, name: str, counts: Counts, apart: tuple[SetApart, ...], read: int) -> None:
        """A shard was committed before."""
        self.before = self.before.plus(counts)
        self._add(name, apart, read)
        if self._bar is not None:
            self._bar.initial += counts.characters

    def finish(self, name: str, counts: Counts, apart: tuple[SetApart, ...], read: int) -> None:
        """A shard was done."""
        self.counts = self.counts.plus(counts)
        self._add(name, apart, read)
        for each in apart:
            LOG.warning("set apart: %s: %s", each.where, each.reason)

    def tick(self, under_way: int = 0) -> None:
        """Update what is shown.

        under_way: characters that are done of shards that are not.
        """
        now = self.counts.characters + under_way
        total = self.total
        if self._bar is not None:
            done = self.before.characters + now
            self._bar.total = max(total or 0, done)
            self._bar.update(done - self._bar.n)
        elif self._show and time.monotonic() - self._last >= _PAUSE:
            self._last = time.monotonic()
            speed = now / (self._last - self._began)
            left = ""
            if total is not None and speed:
                seconds = max(0, total - self.before.characters - now) / speed
                left = f", about {tqdm.tqdm.format_interval(seconds)} left"
            LOG.info("%s characters, %s a second%s", f"{now:,}", f"{speed:,.0f}", left)

    @property
    def total(self) -> Optional[int]:
        """Estimated number of characters of the input; None while nothing was read."""
        seen = self.counts.characters + self.before.characters
        return int(seen * self._size / self._read) if self._read else None

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def _add(self, name: str, apart: tuple[SetApart, ...], read: int) -> None:
        self._read += read
        if apart:
            self.apart[name] = apart
