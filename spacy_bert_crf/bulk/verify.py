"""Compare the output of a run with its input: every document once, and all bytes readable."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import tqdm

from ..errors import BertCrfError, first_line
from .commit import Committed, Counts, counts_of, file_names
from .job import Job
from .rows import SetApart
from .shards import Shard, Share, cut
from .sources.files import Part


@dataclass
class Verification:
    """What was compared.

    rows: rows of the input, with those that could not be read.
    counts: what the output holds.
    problems: what is wrong, a line each.
    set_apart: what was set apart.
    """

    rows: int = 0
    counts: Counts = Counts()
    problems: list[str] = field(default_factory=list)
    set_apart: list[SetApart] = field(default_factory=list)


def verify(
    job: Job, parts: Sequence[Part], share: Share = Share(), progress: bool = False
) -> Verification:
    """Read the input and the output again, and compare the ids.

    job, parts: as `plan_of` gives them.
    share: the share that is compared.
    progress: show a bar on a terminal.
    RETURNS: what was compared. There are no problems if each row of the input is in the output
        once, or was set apart.
    Raises BertCrfError if the input can't be read.
    """
    settings, found = job.settings, Verification()
    expected: set[str] = set()
    own = [part for part in parts if share.has_part(part.number)]
    with tqdm.tqdm(
        total=sum(part.size for part in own), unit="B", unit_scale=True, desc="verifying",
        disable=None if progress else True,
    ) as bar:  # fmt: skip
        for part in own:
            for shard in cut(part, settings.fields, settings.shard_rows, settings.shard_characters):
                bar.update(shard.read)
                expected.add(shard.name)
                if share.has(part.number, shard.number):
                    _compare(job, shard, found)
    # Of one share, only those of its own parts; of all, also those of parts that are not there.
    numbers = {part.number for part in own}
    others = share.jobs == 1
    for name in file_names(job):
        if (others or int(name.split("-")[0]) in numbers) and name not in expected:
            found.problems.append(f"{job.path(name)}: no shard of the input has this name")
    return found


def _compare(job: Job, shard: Shard, found: Verification) -> None:
    """Compare a shard with its file."""
    found.rows += len(shard.rows) + len(shard.set_apart)
    path = job.path(shard.name)
    if not path.is_file():
        found.problems.append(f"{path}: missing")
        return
    try:
        meta = Committed(job).has(shard)
    except BertCrfError as err:
        found.problems.append(str(err))
        return
    if meta is None:
        found.problems.append(f"{path}: damaged, its metadata can't be read")
        return
    wrong = _wrong_ids(job, shard, meta)
    if wrong:
        found.problems.append(f"{path}: {wrong}")
        return
    found.counts = found.counts.plus(counts_of(meta))
    found.set_apart += [SetApart(**each) for each in meta["set_apart"]]


def _wrong_ids(job: Job, shard: Shard, meta: dict[str, Any]) -> Optional[str]:
    """What is wrong with the ids in a file; None if they are those of the shard."""
    try:
        ids = list(job.settings.sink.read_ids(job.path(shard.name)))
    except Exception as err:  # whatever the format raises for damaged bytes
        return f"damaged, {first_line(err)}"
    apart = {each["where"] for each in meta["set_apart"]}
    wanted = [row.id for row in shard.rows if row.where not in apart]
    if meta["rows"] != len(wanted) + len(apart):
        return f"{meta['rows']} rows, where the input has {len(wanted) + len(apart)}"
    if not job.settings.per_entity:
        if ids == wanted:
            return None
        return f"{len(ids)} ids that are not the {len(wanted)} of the input"
    if len(ids) != meta["entities"] or not set(ids) <= set(wanted):
        return f"{len(ids)} entities, where its metadata has {meta['entities']}"
    return None
