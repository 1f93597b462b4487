"""Texts of many requests, annotated in common batches by one thread.

The thread takes what is waiting as soon as it is free, so that a text alone never waits for others.
Requests take turns: each gives one text to a batch before one gives a second. So a short request
does not wait for the end of a long one.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from .options import Answer, TextTask


@dataclass(frozen=True)
class BatchLimits:
    """Bounds of batches and of the queue.

    texts: largest number of texts of a batch.
    chars: largest number of characters of a batch. A longer text is a batch of its own.
    wait: after a batch of several requests, seconds to wait for as many again. A request alone
        does not wait.
    queue_texts: largest number of texts that wait.
    queue_chars: largest number of their characters.
    """

    texts: int = 64
    chars: int = 8192
    wait: float = 0.003
    queue_texts: int = 1024
    queue_chars: int = 2_000_000


class QueueFull(Exception):
    """The queue has no place for the texts of a request.

    seconds: estimate of when it has.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the queue is full for about {seconds} s")
        self.seconds = seconds


class Closed(Exception):
    """The batcher takes no more texts."""


class BatchFacts(NamedTuple):
    """What is known of a batch after it.

    pipeline: its pipeline.
    texts: number of texts.
    chars: number of their characters.
    seconds: how long it took.
    waited: seconds that each of its texts waited before.
    entities: number of entities that were found.
    errors: number of texts without an answer.
    """

    pipeline: str
    texts: int
    chars: int
    seconds: float
    waited: list[float]
    entities: int
    errors: int


@dataclass(eq=False)
class _Job:
    """The texts of one request.

    pipeline: the pipeline that annotates them.
    tasks: the texts.
    future: gets the answers. Where it was cancelled, texts that wait are left out.
    since: when the request came, by `time.monotonic`.
    next: number of texts that a batch has taken.
    left: number of texts without an answer.
    """

    pipeline: str
    tasks: Sequence[TextTask]
    future: "Future[list[Answer]]"
    since: float
    next: int = 0
    left: int = 0
    answers: list[Answer] = field(default_factory=list)


#: A text of a batch: its job, and its place there.
_Place = tuple[_Job, int]


class Batcher:
    """A bounded queue of texts, and the thread that annotates them.

    annotate: annotates texts by the pipeline of a name. It is called in the thread, and gives an
        answer or an error for each.
    limits: bounds of batches and of the queue.
    begin: called once in the thread before any batch, for example to load the pipelines.
    after: called in the thread after each batch.
    """

    def __init__(
        self,
        annotate: Callable[[str, list[TextTask]], list[Answer]],
        limits: BatchLimits = BatchLimits(),
        *,
        begin: Optional[Callable[[], None]] = None,
        after: Optional[Callable[[BatchFacts], None]] = None,
    ) -> None:
        self._annotate, self.limits = annotate, limits
        self._begin, self._after = begin, after
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._waiting_texts = self._waiting_chars = 0
        #: Characters a second of the last batches, for the estimate of QueueFull.
        self._speed = 1000.0
        self._busy_since: Optional[float] = None
        #: The error of `begin`, or None.
        self.failure: Optional[BaseException] = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="annotate", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, pipeline: str, tasks: Sequence[TextTask]) -> "Future[list[Answer]]":
        """Queue the texts of a request.

        pipeline: name of the pipeline.
        tasks: the texts, at most as many as the queue takes.
        RETURNS: the answers, in the order of the texts. Cancel it to leave out what still waits.
        Raises QueueFull, or Closed after `close`.
        """
        chars = _chars(tasks)
        job = _Job(pipeline, tasks, Future(), time.monotonic(), 0, len(tasks))
        if not tasks:
            job.future.set_result([])
            return job.future
        job.answers = [RuntimeError("not annotated")] * len(tasks)
        with self._changed:
            if self._is_closed:
                raise Closed
            has_room = (
                self._waiting_texts + len(tasks) <= self.limits.queue_texts
                and self._waiting_chars + chars <= self.limits.queue_chars
            )
            if self._jobs and not has_room:
                raise QueueFull(self._seconds_to_empty())
            self._jobs.append(job)
            self._waiting_texts += len(tasks)
            self._waiting_chars += chars
            self._changed.notify()
        return job.future

    @property
    def waiting(self) -> tuple[int, int]:
        """How many texts wait, and how many characters they have."""
        return self._waiting_texts, self._waiting_chars

    @property
    def is_ready(self) -> bool:
        """Whether `begin` is done and texts are taken."""
        return self._begun.is_set() and self.failure is None and not self._is_closed

    def wait_ready(self, timeout: Optional[float] = None) -> None:
        """Wait until `begin` is done. Raises the error that it raised."""
        self._begun.wait(timeout)
        if self.failure is not None:
            raise self.failure

    def busy_seconds(self) -> float:
        """For how long the batch in work has been in work; 0 if there is none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self, timeout: Optional[float] = None) -> None:
        """Take no more texts, annotate those that wait, and end the thread.

        timeout: seconds to wait for the end; None without bound.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            if self._begin is not None:
                self._begin()
        except BaseException as err:
            self.failure = err
            return
        finally:
            self._begun.set()
        last_end, last_jobs = 0.0, 1
        while True:
            places = self._next_batch(last_end + self.limits.wait, last_jobs)
            if places is None:
                return
            if places:
                self._work(places)
                last_end, last_jobs = time.monotonic(), len({id(job) for job, _ in places})

    def _next_batch(self, until: float, expected: int) -> Optional[list[_Place]]:
        """The texts of the next batch; None after the last one.

        until: when to begin at the latest, if a request waits by then.
        expected: number of requests with which a batch begins at once.
        """
        with self._changed:
            while not self._jobs:
                if self._is_closed:
                    return None
                self._changed.wait()
            while expected > 1 and len(self._jobs) < expected and not self._is_closed:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            return self._take()

    def _take(self) -> list[_Place]:
        """Take texts of one pipeline, one of each request in turn."""
        for job in [job for job in self._jobs if job.future.cancelled()]:
            self._drop(job)
        if not self._jobs:
            return []
        pipeline, limits = self._jobs[0].pipeline, self.limits
        places: list[_Place] = []
        chars = 0
        able = [job for job in self._jobs if job.pipeline == pipeline]
        while able and len(places) < limits.texts:
            still = []
            for job in able:
                n_chars = len(job.tasks[job.next].text)
                fits = len(places) < limits.texts and chars + n_chars <= limits.chars
                if places and not fits:
                    continue
                places.append((job, job.next))
                chars += n_chars
                job.next += 1
                if job.next < len(job.tasks):
                    still.append(job)
            able = still
        self._waiting_texts -= len(places)
        self._waiting_chars -= chars
        # Who has given texts goes to the end of the line.
        given = {id(job) for job, _ in places}
        rest = [job for job in self._jobs if id(job) not in given]
        more = [job for job in self._jobs if id(job) in given and job.next < len(job.tasks)]
        self._jobs = deque([*rest, *more])
        return places

    def _drop(self, job: _Job) -> None:
        self._jobs.remove(job)
        self._waiting_texts -= len(job.tasks) - job.next
        self._waiting_chars -= _chars(job.tasks[job.next :])

    def _work(self, places: list[_Place]) -> None:
        pipeline = places[0][0].pipeline
        tasks = [job.tasks[i] for job, i in places]
        begin = self._busy_since = time.monotonic()
        try:
            answers = self._annotate(pipeline, tasks)
        except BaseException as err:  # the thread must go on
            answers = [RuntimeError(str(err) or type(err).__name__)] * len(tasks)
        finally:
            self._busy_since = None
        seconds, chars = time.monotonic() - begin, _chars(tasks)
        self._speed += 0.2 * (chars / max(seconds, 1e-6) - self._speed)
        for (job, i), answer in zip(places, answers, strict=True):
            job.answers[i] = answer
            job.left -= 1
            if not job.left and job.future.set_running_or_notify_cancel():
                job.future.set_result(job.answers)
        if self._after is not None:
            found = [answer for answer in answers if not isinstance(answer, Exception)]
            waited = [begin - job.since for job, _ in places]
            n_entities = sum(len(answer["entities"]) for answer in found)
            self._after(BatchFacts(
                pipeline, len(tasks), chars, seconds, waited, n_entities, len(tasks) - len(found)
            ))  # fmt: skip

    def _seconds_to_empty(self) -> int:
        return min(max(math.ceil(self._waiting_chars / max(self._speed, 1.0)), 1), 60)


def _chars(tasks: Sequence[TextTask]) -> int:
    return sum(len(task.text) for task in tasks)
