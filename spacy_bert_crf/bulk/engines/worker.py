"""A process that annotates shards, one after the other, and writes their files.

The process that started it may end without notice, so a thread of the worker watches for that.
"""

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from ...errors import BertCrfError, first_line
from ..commit import Counts, commit
from ..job import Job
from ..rows import SetApart
from ..shards import Shard

if TYPE_CHECKING:
    from spacy.language import Language

#: A worker whose memory grew by more than this ends after its shard, and another one starts.
#: spaCy's vocabulary keeps each new word. In bytes
MAX_GROWTH = 512 * 2**20
#: Seconds between two looks for the process that started it.
_WATCH = 1.0


class Task(NamedTuple):
    """What a worker does next.

    shard: the shard.
    excluded: rows that are left out, by index, each with the reason.
    one_by_one: a batch has one text.
    indices: only try these rows, one by one in this order, and write nothing; None to do the shard.
    """

    shard: Shard
    excluded: dict[int, str]
    one_by_one: bool = False
    indices: Optional[list[int]] = None


class Reply(NamedTuple):
    """What a worker sends back.

    kind: "ready" once the pipeline is there, "done", or "failed".
    counts: what the shard's file holds.
    apart: rows that the pipeline could not annotate.
    message: why it failed.
    retires: the worker ends, since its memory has grown.
    """

    kind: str
    counts: Counts = Counts()
    apart: tuple[SetApart, ...] = ()
    message: str = ""
    retires: bool = False


def work(
    job: Job,
    load: Callable[[], "Language"],
    connection: Connection,
    progress: Any,
    core: Optional[int],
    parent: int,
) -> None:
    """Annotate the shards that come by a connection. The main function of the process.

    job: what to do.
    load: gives the pipeline.
    connection: tasks come by it, and replies go.
    progress: shared memory: texts and characters of the task that are done. int64 [2]
    core: number of the core that the process stays on, or None.
    parent: id of the process that started it.
    """
    detach(parent, core)
    import torch

    from ..annotator import Annotator

    torch.set_num_threads(1)
    try:
        nlp = load()
        settings = job.settings
        annotator = Annotator(nlp, scores=settings.scores, keep_docs=settings.sink.needs_docs)
    except BertCrfError as err:
        connection.send(Reply("failed", message=str(err)))
        return
    connection.send(Reply("ready"))
    first = 0
    while True:
        try:
            task: Optional[Task] = connection.recv()
        except (EOFError, OSError):
            return
        if task is None:
            return
        try:
            reply = _do(job, annotator, task, progress)
        except BertCrfError as err:
            reply = Reply("failed", message=str(err))
        except OSError as err:
            file = os.fsdecode(err.filename) if err.filename else "the system"
            reply = Reply("failed", message=f"{file}: {err.strerror or err}")
        except Exception as err:
            where = f"shard {task.shard.name}: {type(err).__name__}: {first_line(err)}"
            reply = Reply("failed", message=where)
        now = _memory()
        first = first or now
        retires = now - first > MAX_GROWTH
        connection.send(reply._replace(retires=retires))
        if retires:
            return
        gc.collect()


def _do(job: Job, annotator: Any, task: Task, progress: Any) -> Reply:
    from ..annotator import combine

    progress[0] = progress[1] = 0

    def report(characters: int) -> None:
        progress[1] += characters
        progress[0] += 1

    shard = task.shard
    if task.indices is not None:
        for index in task.indices:
            annotator.annotate([shard.rows[index].text])
            report(len(shard.rows[index].text))
        return Reply("done")
    texts = [row.text for row in shard.rows]
    outcomes = annotator.annotate(texts, task.excluded, task.one_by_one, report)
    rows, apart = combine(shard.rows, outcomes)
    return Reply("done", commit(job, shard, rows, apart), tuple(apart))


def detach(parent: int, core: Optional[int]) -> None:
    """Leave signals of the terminal to the parent, and end with it.

    parent: id of the process that started this one.
    core: number of the core that this process stays on, or None.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _memory() -> int:
    """Memory of this process, in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)
