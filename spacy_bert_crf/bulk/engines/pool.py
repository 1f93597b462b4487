"""Worker processes, and the shards that they annotate.

A worker that dies, stalls or takes too much memory is replaced. `case.py` says what happens to its
shard.
"""

import contextlib
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from ...errors import BertCrfError
from ..commit import Counts
from ..job import Job
from ..rows import SetApart
from ..shards import Shard
from .case import Case, Outcome, order_of
from .worker import Reply, Task, work

if TYPE_CHECKING:
    from spacy.language import Language

#: Seconds between two looks at the workers' memory and progress.
_LOOK = 0.1
#: The time limit is for texts of this length, and longer ones have more. In characters
_LIMIT_CHARACTERS = 100_000
#: So many workers may die in a row before they are ready.
_MAX_STARTS = 3


class Limits(NamedTuple):
    """What a worker may take.

    memory: largest resident memory of a worker in bytes; 0 for no limit.
    seconds: longest time without a finished text, for each 100,000 characters begun of the next
        text; 0 for no limit.
    """

    memory: int = 0
    seconds: float = 0.0


class Finished(NamedTuple):
    """A shard whose file is written.

    shard: the shard.
    counts: what the file holds.
    apart: texts that were set apart.
    """

    shard: Shard
    counts: Counts
    apart: tuple[SetApart, ...]


@dataclass
class _Running:
    """A case, the generator of its tasks, and the task that is next or under way."""

    case: Case
    tasks: Generator[Task, Outcome, None]
    task: Task


@dataclass
class _Worker:
    process: Any
    connection: Connection
    progress: Any
    is_ready: bool = False
    running: Optional[_Running] = None
    #: Finished texts when it was last looked at, and when that changed.
    seen: int = 0
    since: float = 0.0

    @property
    def is_free(self) -> bool:
        return self.is_ready and self.running is None


class Pool:
    """Worker processes of this machine.

    job: what they do.
    load: gives the pipeline, in the worker. With the start method "fork" it may return one that is
        loaded already, so that its memory is shared.
    count: number of workers.
    limits: what a worker may take.
    method: start method of `multiprocessing`.
    cores: cores that workers stay on, one each; None for any.

    Use it as a context manager: at its end, workers are ended.
    """

    def __init__(
        self,
        job: Job,
        load: Callable[[], "Language"],
        count: int,
        limits: Limits = Limits(),
        method: str = "fork",
        cores: Optional[Sequence[int]] = None,
    ) -> None:
        self.job, self.load, self.limits = job, load, limits
        self._context: Any = get_context(method)
        self._cores = cores
        self._failed_starts = 0
        self._queue: deque[_Running] = deque()
        self._workers = [self._start(number) for number in range(count)]

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()

    @property
    def is_idle(self) -> bool:
        """No shard is under way."""
        return not self._queue and all(worker.running is None for worker in self._workers)

    @property
    def has_room(self) -> bool:
        """Another shard can be submitted: a worker is free, or none waits for the next one."""
        return len(self._queue) < max(1, sum(w.running is None for w in self._workers))

    @property
    def characters(self) -> int:
        """Characters of the shards under way that are done."""
        return sum(
            int(worker.progress[1])
            for worker in self._workers
            if worker.running is not None and worker.running.task.indices is None
        )

    def submit(self, shard: Shard) -> None:
        """Add a shard."""
        case = Case(shard)
        tasks = case.tasks()
        self._queue.append(_Running(case, tasks, next(tasks)))
        self._send()

    def wait(self, others: Sequence[Connection] = ()) -> list[Finished]:
        """Wait a moment, until a worker or another connection has something.

        RETURNS: the shards that are finished since.
        Raises BertCrfError if a shard can't be written, or if workers can't be started.
        """
        self._send()
        watched: list[Any] = [worker.connection for worker in self._workers]
        watched += [worker.process.sentinel for worker in self._workers]
        wait([*watched, *others], timeout=_LOOK)
        finished: list[Finished] = []
        for number, worker in enumerate(self._workers):
            finished += self._look(number, worker)
        self._send()
        return finished

    def _start(self, number: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        progress = self._context.RawArray("q", 2)
        core = self._cores[number % len(self._cores)] if self._cores else None
        process = self._context.Process(
            target=work,
            args=(self.job, self.load, theirs, progress, core, os.getpid()),
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Worker(process, ours, progress)

    def _send(self) -> None:
        """Give tasks to free workers."""
        for worker in self._workers:
            if not (self._queue and worker.is_free):
                continue
            running = self._queue.popleft()
            worker.running = running
            worker.progress[0] = worker.progress[1] = 0
            worker.seen, worker.since = 0, time.monotonic()
            with contextlib.suppress(OSError):  # it has just died, as `_look` will see
                worker.connection.send(running.task)

    def _look(self, number: int, worker: _Worker) -> list[Finished]:
        """See what a worker sent, and whether it lives and keeps the limits."""
        is_dead = not worker.process.is_alive()  # before its last words are read
        reply = self._receive(worker)
        if reply is not None:
            return self._reply(number, worker, reply)
        if is_dead:
            self._died(number, worker, _cause(worker.process.exitcode))
            return []
        excess = self._excess(worker)
        if excess:
            worker.process.kill()
            worker.process.join()
            self._died(number, worker, excess)
        return []

    def _receive(self, worker: _Worker) -> Optional[Reply]:
        try:
            if worker.connection.poll():
                reply: Reply = worker.connection.recv()
                return reply
        except (EOFError, OSError):  # it ended; its sentinel says so, now or soon
            worker.process.join(1)
        return None

    def _reply(self, number: int, worker: _Worker, reply: Reply) -> list[Finished]:
        if reply.kind == "failed":
            raise BertCrfError(reply.message)
        self._failed_starts = 0
        if reply.kind == "ready":
            worker.is_ready = True
            return []
        running, worker.running = worker.running, None
        if running is None:
            return []
        found: list[Finished] = []
        if not self._go_on(running, Outcome(int(worker.progress[0]))):
            found.append(Finished(running.case.shard, reply.counts, reply.apart))
        if reply.retires:
            worker.process.join()
            self._replace(number)
        return found

    def _go_on(self, running: _Running, outcome: Outcome) -> bool:
        """Queue the next task of a case. RETURNS whether there is one."""
        try:
            running.task = running.tasks.send(outcome)
        except StopIteration:
            return False
        self._queue.appendleft(running)
        return True

    def _died(self, number: int, worker: _Worker, reason: str) -> None:
        running, worker.running = worker.running, None
        if running is not None:
            self._go_on(running, Outcome(int(worker.progress[0]), reason))
        elif not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= _MAX_STARTS * len(self._workers):
                raise BertCrfError(f"a worker can't be started: {reason}.")
        self._replace(number)

    def _replace(self, number: int) -> None:
        self._workers[number].connection.close()
        self._workers[number] = self._start(number)

    def _excess(self, worker: _Worker) -> str:
        """What a worker takes too much of, in words; "" if it keeps the limits."""
        running = worker.running
        if running is None:
            return ""
        if self.limits.memory:
            held = _resident(worker.process.pid)
            if held > self.limits.memory:
                return (
                    f"it took {held / 2**20:,.0f} MiB of memory, and the limit is "
                    f"{self.limits.memory / 2**20:,.0f} MiB"
                )
        done, now = int(worker.progress[0]), time.monotonic()
        if done != worker.seen:
            worker.seen, worker.since = done, now
            return ""
        if not self.limits.seconds or now - worker.since <= self.limits.seconds:
            return ""
        left = order_of(running.task)[done:]
        length = len(running.case.shard.rows[left[0]].text) if left else 0
        limit = self.limits.seconds * max(1, math.ceil(length / _LIMIT_CHARACTERS))
        if now - worker.since > limit:
            return f"it took longer than {limit:g} seconds"
        return ""


def _cause(status: Optional[int]) -> str:
    """Why a process ended, in words."""
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        more = ", as the system does where memory is full" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{more}"
    return f"its process ended with status {status}"


def _resident(pid: int) -> int:
    """Memory of a process in bytes, 0 if it has ended."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
