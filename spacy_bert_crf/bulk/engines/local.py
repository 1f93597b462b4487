"""Annotate on this machine: one process reads the input, and workers annotate.

The pipeline is loaded once. Workers are forked from this process, so that they share the memory of
its weights. On a GPU, and where processes can't be forked, each worker loads the pipeline itself.
"""

import contextlib
import functools
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, cast

from ...errors import BertCrfError, first_line
from ..job import Job
from ..pending import Done, pending
from ..progress import Progress
from ..shards import Shard, Share
from ..sources.files import Part
from .pool import Limits, Pool
from .worker import detach

if TYPE_CHECKING:
    from spacy.language import Language


class Local(NamedTuple):
    """How many processes run, and what they may take.

    workers: number of workers; 0 for one on each core that this process may use.
    limits: what a worker may take.
    pin: each worker stays on one core.
    """

    workers: int = 0
    limits: Limits = Limits()
    pin: bool = False


def run(
    job: Job, parts: Sequence[Part], share: Share, redo: bool, local: Local, progress: Progress
) -> None:
    """Annotate a share of the input with processes of this machine.

    Raises BertCrfError if the input can't be read or the output can't be written.
    """
    cores = _cores()
    count = local.workers or (1 if job.gpu_id >= 0 else len(cores))
    forks = sys.platform == "linux" and job.gpu_id < 0
    with _reading(job, parts, share, redo, forks) as incoming:
        first = _first(incoming, progress)
        if first is None:  # nothing is left to do, so no pipeline is needed
            return
        load = functools.partial(_loaded, _warm(job.load())) if forks else job.load
        method = "fork" if forks else "spawn"
        pinned = cores if local.pin else None
        with Pool(job, load, count, local.limits, method, pinned) as pool:
            pool.submit(first)
            _pump(pool, incoming, progress)


def _first(incoming: Connection, progress: Progress) -> Optional[Shard]:
    """The first shard that is left to do, or None."""
    while isinstance(item := _receive(incoming), Done):
        progress.skip(*item)
        progress.tick()
    return cast(Optional[Shard], item)


def _pump(pool: Pool, incoming: Connection, progress: Progress) -> None:
    """Bring shards from the reader to the workers, until all are done."""
    is_open = True
    while is_open or not pool.is_idle:
        while is_open and pool.has_room and incoming.poll():
            item = _receive(incoming)
            if item is None:
                is_open = False
            elif isinstance(item, Done):
                progress.skip(*item)
            else:
                pool.submit(item)
        others = [incoming] if is_open and pool.has_room else []
        for shard, counts, apart in pool.wait(others):
            progress.finish(shard.name, counts, (*shard.set_apart, *apart), shard.read)
        progress.tick(pool.characters)


def _receive(incoming: Connection) -> Any:
    try:
        item = incoming.recv()
    except (EOFError, OSError) as err:
        raise BertCrfError(
            "the process that reads the input has ended. What is done stays: run the command again."
        ) from err
    if isinstance(item, str):
        raise BertCrfError(item)
    return item


@contextlib.contextmanager
def _reading(
    job: Job, parts: Sequence[Part], share: Share, redo: bool, forks: bool
) -> Iterator[Connection]:
    """A process that reads the input and sends shards. The pipe holds it back."""
    context: Any = get_context("fork" if forks else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_read, args=(job, parts, share, redo, theirs, os.getpid()), daemon=True
    )
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.kill()
        process.join()
        ours.close()


def _read(
    job: Job, parts: Sequence[Part], share: Share, redo: bool, outgoing: Connection, parent: int
) -> None:
    """Send the shards that are left to do, then None; a message if that fails."""
    detach(parent, None)
    last: Any = None
    try:
        for item in pending(job, parts, share, redo):
            outgoing.send(item)
    except BertCrfError as err:
        last = str(err)
    except Exception as err:
        last = f"can't read the input: {type(err).__name__}: {first_line(err)}"
    outgoing.send(last)


def _warm(nlp: "Language") -> "Language":
    """Let a pipeline make what it makes at its first text, before workers share its memory."""
    import torch

    torch.set_num_threads(1)  # threads do not survive a fork
    with contextlib.suppress(Exception):  # whatever it is, the texts will tell
        nlp("A 1.")
    gc.collect()
    gc.freeze()
    return nlp


def _loaded(nlp: "Language") -> "Language":
    return nlp


def _cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return [*range(os.cpu_count() or 1)]
