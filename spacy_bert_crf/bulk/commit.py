"""Commit a shard, and tell which shards are committed.

A shard's file holds its metadata: the digests of pipeline, settings and rows, and what was set
apart. So the rename of the file commits both, and the file alone says that the shard is done.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from .._files import atomic_file
from ..errors import BertCrfError
from .job import Job, difference, versions
from .rows import AnnotatedRow, SetApart
from .shards import Shard, shard_name
from .sinks import SINKS, Sink
from .sinks.sink import Content
from .sources.files import Part

#: Version of the metadata.
_VERSION = 1


class Counts(NamedTuple):
    """What was done, in numbers.

    shards: shards.
    documents: annotated documents.
    entities: their entities.
    characters: characters of all texts, with those that were set apart.
    set_apart: documents and files that could not be annotated.
    """

    shards: int = 0
    documents: int = 0
    entities: int = 0
    characters: int = 0
    set_apart: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """The sum of both."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


def counts_of(meta: dict[str, Any]) -> Counts:
    """The numbers in the metadata of a shard."""
    apart = len(meta["set_apart"])
    return Counts(1, meta["documents"], meta["entities"], meta["characters"], apart)


def commit(
    job: Job, shard: Shard, rows: Sequence[AnnotatedRow], apart: Sequence[SetApart]
) -> Counts:
    """Write the file of a shard, by rename.

    rows: the annotated rows, in the order of the input.
    apart: the rows that the pipeline could not annotate.
    RETURNS: what the file holds.
    Raises BertCrfError if it can't be written.
    """
    settings, sink = job.settings, job.settings.sink
    meta = {
        "version": _VERSION,
        **job.identity,
        "part": shard.part_digest,
        "input": shard.digest,
        "last": shard.is_last,
        "rows": len(shard.rows) + len(shard.set_apart),
        "documents": len(rows),
        "entities": sum(len(row.entities) for row in rows),
        "characters": shard.characters,
        "set_apart": [each._asdict() for each in (*shard.set_apart, *apart)],
        "versions": versions(),
    }
    keep, per_entity, scores = settings.fields.keep, settings.per_entity, settings.scores
    with atomic_file(job.path(shard.name)) as tmp:
        sink.write(tmp, Content(rows, keep, per_entity, scores, meta))
    return counts_of(meta)


class Committed:
    """The shards of the output folder.

    job: the job.
    redo: shards of another pipeline, other settings or another input do not count as committed.
        Otherwise they are errors.
    """

    def __init__(self, job: Job, redo: bool = False) -> None:
        self.job, self.redo = job, redo

    def find(self, name: str) -> Optional[dict[str, Any]]:
        """The metadata of a shard; None if it is not there, is damaged, or is to be done again.

        Raises BertCrfError for a shard of another pipeline or of other settings.
        """
        path = self.job.path(name)
        if not path.is_file():
            return None
        try:
            meta = self.job.settings.sink.read_meta(path)
            counts_of(meta)
        except OSError as err:
            if err.errno is not None:
                raise BertCrfError(f"can't read {path}: {err.strerror}.") from err
            return None
        except Exception:  # whatever the format raises for damaged bytes
            return None
        other = difference(self.job.identity, meta)
        if other:
            if self.redo:
                return None
            raise BertCrfError(
                f"{path} was made with {other}: use --redo to replace it, or name another folder."
            )
        return meta

    def find_part(self, part: Part) -> Optional[list[dict[str, Any]]]:
        """The metadata of the shards of a part, if all are committed and no file changed since.

        Only names, sizes and times of the files are compared. None if it must be read.
        """
        newest = max(file.modified for file in part.files)
        found: list[dict[str, Any]] = []
        while not found or not found[-1]["last"]:
            name = shard_name(part.number, len(found))
            meta = self.find(name)
            if meta is None or meta["part"] != part.digest:
                return None
            if self.job.path(name).stat().st_mtime <= newest:
                return None
            found.append(meta)
        return found

    def has(self, shard: Shard) -> Optional[dict[str, Any]]:
        """The metadata of a shard if it is committed, with the same rows.

        Raises BertCrfError if the rows differ.
        """
        meta = self.find(shard.name)
        if meta is None:
            return None
        if (meta["input"], meta["last"], meta["part"]) == (
            shard.digest,
            shard.is_last,
            shard.part_digest,
        ):
            return meta
        if not self.redo:
            where = shard.rows[0].where if shard.rows else "no row"
            raise BertCrfError(
                f"{self.job.path(shard.name)} was made of other input, which now begins at {where}:"
                " the files have changed. Use --redo to replace what differs, or name another "
                "folder."
            )
        return None


def file_names(job: Job, sink: Optional[Sink] = None) -> list[str]:
    """The names of the shards whose file is there, in order.

    sink: the format; None for that of the job.
    """
    suffix = (sink or job.settings.sink).suffix
    found = job.data.glob(f"??????-??????{suffix}") if job.data.is_dir() else ()
    return sorted(path.name.removesuffix(suffix) for path in found)


def remove_other_formats(job: Job) -> None:
    """Remove the shards of other formats."""
    for sink in SINKS.values():
        for name in file_names(job, sink) if sink is not job.settings.sink else ():
            (job.data / f"{name}{sink.suffix}").unlink(missing_ok=True)
