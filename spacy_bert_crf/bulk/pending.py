"""Which shards are left to do: read the input, and leave out what is committed."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Union

from ..errors import BertCrfError
from .commit import Committed, Counts, counts_of, file_names
from .job import Job
from .rows import SetApart
from .shards import Shard, Share, cut, shard_name
from .sources.files import Part


class Done(NamedTuple):
    """A shard that is committed already.

    name: its name.
    counts: what its file holds.
    apart: what was set apart of it.
    read: bytes of the input that it was made of.
    """

    name: str
    counts: Counts
    apart: tuple[SetApart, ...]
    read: int


def done_of(name: str, meta: dict[str, Any], read: int) -> Done:
    """A committed shard, by the metadata of its file."""
    apart = tuple(SetApart(**each) for each in meta["set_apart"])
    return Done(name, counts_of(meta), apart, read)


def pending(
    job: Job, parts: Sequence[Part], share: Share, redo: bool = False
) -> Iterator[Union[Shard, Done]]:
    """Yield the shards of a share in order: with their rows, or as `Done`.

    A part that is committed as a whole is not read, unless a file of it has changed.

    redo: shards that were made of something else are replaced. Otherwise they are errors.
    Raises BertCrfError for such a shard, or if the input can't be read.
    """
    committed, settings = Committed(job, redo), job.settings
    for part in parts:
        if not share.has_part(part.number):
            continue
        metas = committed.find_part(part)
        if metas is not None:
            for number, meta in enumerate(metas):
                if share.has(part.number, number):
                    name = shard_name(part.number, number)
                    yield done_of(name, meta, part.size // len(metas))
            _check_stale(job, part.number, len(metas), redo)
            continue
        count = 0
        for shard in cut(part, settings.fields, settings.shard_rows, settings.shard_characters):
            count += 1
            if share.has(part.number, shard.number):
                found = committed.has(shard)
                yield shard if found is None else done_of(shard.name, found, shard.read)
        _check_stale(job, part.number, count, redo)


def check_parts(job: Job, parts: Sequence[Part], redo: bool) -> None:
    """Look for shards of parts that the input does not have. Raises as `pending` does."""
    _check_stale(job, len(parts), 0, redo, and_later=True)


def _check_stale(job: Job, part: int, count: int, redo: bool, and_later: bool = False) -> None:
    """Look for shards of a part that its files do not have any more.

    count: how many shards the part has.
    and_later: later parts are looked at, too.
    """
    if not and_later and not job.path(shard_name(part, count)).exists():
        return
    for name in file_names(job):
        own, number = map(int, name.split("-"))
        if (own == part and number >= count) or (and_later and own > part):
            if not redo:
                raise BertCrfError(
                    f"{job.path(name)} was made of more input than there is now: the files have "
                    "changed. Use --redo to remove it, or name another folder."
                )
            job.path(name).unlink(missing_ok=True)
