"""Cut the rows of a part into shards, the units that are annotated and committed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import xxhash

from ..errors import BertCrfError
from .rows import Row, SetApart
from .sources.files import Part
from .sources.read import Fields, Item, read_rows


@dataclass
class Shard:
    """Consecutive rows of the input that become one file.

    part: number of the part.
    number: place of the shard in the part.
    part_digest: digest of the names and sizes of the part's files.
    rows: its rows.
    set_apart: rows and files that could not be read.
    is_last: no rows of the part follow.
    characters: sum of the lengths of its texts.
    read: bytes of the input that were read for it.
    digest: digest of its rows.
    """

    part: int
    number: int
    part_digest: str
    rows: list[Row] = field(default_factory=list)
    set_apart: list[SetApart] = field(default_factory=list)
    is_last: bool = False
    characters: int = 0
    read: int = 0
    digest: str = ""

    @property
    def name(self) -> str:
        """Its name, in the order of the input: PART-NUMBER."""
        return shard_name(self.part, self.number)


def shard_name(part: int, number: int) -> str:
    """The name of a shard's file, without suffix."""
    return f"{part:06d}-{number:06d}"


class Share(NamedTuple):
    """The shards that one of several jobs annotates.

    job: number of the job, from 0.
    jobs: number of jobs.
    by_part: whole parts are shared out. Otherwise the shards within each part are.
    """

    job: int = 0
    jobs: int = 1
    by_part: bool = True

    def has_part(self, part: int) -> bool:
        """Whether any shard of a part belongs to the job."""
        return not self.by_part or part % self.jobs == self.job

    def has(self, part: int, number: int) -> bool:
        """Whether a shard belongs to the job."""
        return self.has_part(part) and (self.by_part or (part + number) % self.jobs == self.job)


#: Parts that each job must have, so that whole parts are shared out.
_PARTS_PER_JOB = 4


def parse_share(text: str, parts: int) -> Share:
    """The share that `--shard` names.

    text: I/N, with I from 0 to N - 1; "" for everything.
    parts: number of parts of the input.
    Raises BertCrfError for anything else.
    """
    if not text:
        return Share()
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise BertCrfError(
            f"--shard {text!r} is not I/N with I from 0 to N - 1: for four jobs, use 0/4 to 3/4."
        )
    return Share(int(index), int(count), parts >= _PARTS_PER_JOB * int(count))


class _Digest:
    """Digest of a sequence of items, each with its length."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def add(self, item: Item) -> None:
        if isinstance(item, Row):
            plain = json.dumps(item.fields, ensure_ascii=False) if item.fields else ""
            values = ("row", item.id, item.text, plain)
        else:
            values = ("apart", *item)
        for value in values:
            data = value.encode("utf8", "surrogatepass")
            self._hash.update(len(data).to_bytes(8, "little"))
            self._hash.update(data)

    def hexdigest(self) -> str:
        return str(self._hash.hexdigest())


def cut(part: Part, fields: Fields, rows: int, characters: int) -> Iterator[Shard]:
    """Yield the shards of a part. A part without rows is one shard.

    fields: which fields are read.
    rows: largest number of rows of a shard.
    characters: a shard ends with the row that reaches this number of characters.
    Raises BertCrfError if a file can't be read.
    """
    shard, digest = Shard(part.number, 0, part.digest), _Digest()
    begun = 0
    before = 0  # bytes of the files before the present one
    for file in part.files:
        position = 0
        for item, position in read_rows(file, fields):
            count = len(shard.rows) + len(shard.set_apart)
            if count >= rows or shard.characters >= characters:
                shard.digest = digest.hexdigest()
                yield shard
                begun += shard.read
                shard, digest = Shard(part.number, shard.number + 1, part.digest), _Digest()
            digest.add(item)
            if isinstance(item, Row):
                shard.rows.append(item)
                shard.characters += len(item.text)
            else:
                shard.set_apart.append(item)
            shard.read = before + position - begun
        before += file.size
    shard.is_last, shard.digest, shard.read = True, digest.hexdigest(), before - begun
    yield shard
