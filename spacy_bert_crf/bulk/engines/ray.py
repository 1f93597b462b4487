"""Annotate on a cluster with Ray Data: tasks read the input, and actors annotate.

Ray Data holds back what is read, starts and replaces actors, and does again what a lost actor or
node had begun. Each actor has a worker process of its own (`pool.py`), so that a text that kills
or stalls it is found as on one machine. The files of the shards are the same as those of `local`.
"""

import os
import pickle
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import BertCrfError, first_line
from ..commit import Committed
from ..job import Job
from ..pending import Done, done_of, pending
from ..progress import Progress
from ..shards import Share
from ..sources.files import Part
from .pool import Finished, Limits, Pool

if TYPE_CHECKING:
    import numpy as np

#: Shards that an actor has in hand or before it.
_IN_FLIGHT = 2
#: Number of blocks that parts of the input are spread over, at most.
_MAX_BLOCKS = 1_000


class Cluster(NamedTuple):
    """How many actors run, and what they may take.

    workers: number of actors; 0 for as many as the cluster has cores, or GPUs with `gpus`.
    limits: what the worker process of an actor may take.
    gpus: GPUs of an actor. A share such as 0.5 is possible.
    """

    workers: int = 0
    limits: Limits = Limits()
    gpus: float = 0.0


def run(
    job: Job, parts: Sequence[Part], share: Share, redo: bool, cluster: Cluster, progress: Progress
) -> None:
    """Annotate a share of the input with actors of a Ray cluster.

    A cluster that this process or the environment (RAY_ADDRESS) is connected to is used; otherwise
    one is started on this machine.
    Raises BertCrfError if Ray is missing, the input can't be read or the output can't be written.
    """
    # Ray sends statistics of its use unless this is 0. It has no effect on a cluster that is up.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as err:
        raise BertCrfError(
            f'--engine ray needs Ray ({first_line(err)}). Run: pip install "spacy-bert-crf[ray]"'
        ) from err
    was_on = ray.is_initialized()
    if not was_on:
        ray.init(log_to_driver=False, configure_logging=False)
    try:
        _run(job, parts, share, redo, cluster, progress)
    except ray.exceptions.RayError as err:
        raise BertCrfError(f"Ray: {first_line(getattr(err, 'cause', None) or err)}") from err
    finally:
        if not was_on:
            ray.shutdown()


def _run(
    job: Job, parts: Sequence[Part], share: Share, redo: bool, cluster: Cluster, progress: Progress
) -> None:
    import ray.data

    own = [part for part in parts if share.has_part(part.number)]
    if not own:
        return
    context = ray.data.DataContext.get_current().copy()
    # A block is one shard, so that each can go to another actor at once.
    context.target_max_block_size = context.target_min_block_size = 1
    context.enable_progress_bars = False
    count = cluster.workers or _actors(cluster.gpus)
    on_gpu = {"num_gpus": cluster.gpus} if cluster.gpus else {}
    with ray.data.DataContext.current(context):
        items = [{"part": pickle.dumps(part)} for part in own]
        parts_set = ray.data.from_items(items, override_num_blocks=min(len(items), _MAX_BLOCKS))
        shards = parts_set.map_batches(
            _read,
            batch_size=1,
            fn_kwargs={"job": job, "share": share, "redo": redo},
            num_cpus=0.25,
        )
        done = shards.map_batches(
            _Actor,
            batch_size=1,
            fn_constructor_kwargs={"job": job, "limits": cluster.limits, "redo": redo},
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=count, max_tasks_in_flight_per_actor=_IN_FLIGHT
            ),
            num_cpus=1,
            **on_gpu,
        )
        for row in done.iter_rows():
            answer = pickle.loads(row["finished"])
            if isinstance(answer, str):
                raise BertCrfError(answer)
            is_new, finished = answer
            (progress.finish if is_new else progress.skip)(*finished)
            progress.tick()


def _read(
    batch: "dict[str, np.ndarray]", job: Job, share: Share, redo: bool
) -> "Iterator[dict[str, Any]]":
    """Yield the shards of parts that are left to do, and those that are committed.

    A message comes last if that fails. An exception would reach the driver without its cause.
    """
    try:
        for packed in batch["part"]:
            for item in pending(job, [pickle.loads(packed)], share, redo):
                yield {"item": [pickle.dumps(item)]}
    except BertCrfError as err:
        yield {"item": [pickle.dumps(str(err))]}
    except Exception as err:
        message = f"can't read the input: {type(err).__name__}: {first_line(err)}"
        yield {"item": [pickle.dumps(message)]}


class _Actor:
    """Annotates the shards that come, in a process of its own."""

    def __init__(self, job: Job, limits: Limits, redo: bool = False) -> None:
        self.committed = Committed(job, redo)
        self.pool = Pool(job, job.load, 1, limits, "spawn")

    def __call__(self, batch: "dict[str, np.ndarray]") -> "dict[str, Any]":
        return {"finished": [self._annotate(pickle.loads(packed)) for packed in batch["item"]]}

    def _annotate(self, item: Any) -> bytes:
        if isinstance(item, Done):
            return pickle.dumps((False, tuple(item)))
        if isinstance(item, str):
            return pickle.dumps(item)
        try:
            # Another actor may have written it in this run, and have been lost with its answer.
            meta = self.committed.has(item)
            if meta is not None:
                return pickle.dumps((True, tuple(done_of(item.name, meta, item.read))))
            finished: list[Finished] = []
            self.pool.submit(item)
            while not finished:
                finished = self.pool.wait()
        except BertCrfError as err:
            return pickle.dumps(str(err))
        shard, counts, apart = finished[0]
        return pickle.dumps((True, (shard.name, counts, (*shard.set_apart, *apart), shard.read)))


def _actors(gpus: float) -> int:
    """How many actors the cluster has room for."""
    import ray

    found = ray.cluster_resources()
    if gpus:
        return max(1, int(found.get("GPU", 0) / gpus))
    return max(1, int(found.get("CPU", 1)))
