"""Annotate a corpus: `annotate`, and `verify` for what it wrote."""

import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

from .._files import sweep, write_text
from ..errors import BertCrfError
from .commit import Counts, remove_other_formats
from .engines.pool import Limits
from .job import Job, Settings, difference, digest_of, versions
from .pending import check_parts
from .progress import Progress
from .rows import SetApart
from .shards import Share, parse_share
from .sources.files import Part, check_fields, find_files, make_parts
from .sources.read import Fields

#: File of a run in its output folder.
RUN = "annotate.json"
ENGINES = ("local", "ray")
#: Packages of the extra [annotate].
_NEEDED = ("pyarrow", "fsspec", "psutil")


@dataclass
class Annotation:
    """What a run did.

    done: what this run did.
    before: what earlier runs had done.
    seconds: how long it took.
    set_apart: what could not be annotated, in the order of the input.
    quarantine: the file that lists it, or None.
    """

    done: Counts
    before: Counts
    seconds: float
    set_apart: list[SetApart]
    quarantine: Optional[Path]


def annotate(
    pipeline: Union[str, Path],
    sources: Sequence[Union[str, Path]],
    output: Union[str, Path],
    *,
    settings: Optional[Settings] = None,
    engine: str = "local",
    workers: int = 0,
    memory_limit: int = 0,
    time_limit: float = 600.0,
    pin: bool = False,
    gpus: float = 0.0,
    shard: str = "",
    redo: bool = False,
    code: Optional[Path] = None,
    gpu_id: int = -1,
    progress: bool = False,
) -> Annotation:
    """Annotate a corpus of any size, each document exactly once.

    The rows of the input are cut into shards, and each becomes a file in `output`/data. The same
    call again does only the shards that are missing. Documents that raise an error, or kill or
    stall a worker, are set apart in `output`/quarantine.jsonl with the reason.

    pipeline: folder of a pipeline, or name of an installed one.
    sources: files, folders, globs or addresses of an object store.
    output: folder of the output. All machines of a run must see it.
    settings: which fields are read, and what is written.
    engine: "local" for processes of this machine, or "ray".
    workers: number of workers; 0 for one on each core, with Ray on each core of the cluster.
    memory_limit: largest resident memory of a worker, in bytes; 0 for none.
    time_limit: longest time without a finished text, in seconds; 0 for none. A text of more than
        100,000 characters has this time for each 100,000.
    pin: each local worker stays on one core.
    gpus: with Ray, GPUs of each worker; a share such as 0.5 is possible.
    shard: "I/N" does only the I-th of N shares, from 0.
    redo: shards that another pipeline, other settings or other input made are replaced.
    code: Python file with registered functions of the pipeline.
    gpu_id: number of the GPU of local workers, -1 for the CPU.
    progress: show a bar on a terminal, and a message each minute elsewhere.
    RETURNS: what was done.
    Raises BertCrfError for bad arguments, for input that the system can't read, and for output that
    is of another run or can't be written. Shards that were done stay.
    """
    if engine not in ENGINES:
        raise BertCrfError(f"the engine {engine!r} is not known: use {' or '.join(ENGINES)}.")
    on_gpu = gpu_id >= 0 or gpus > 0
    settings = replace(settings or Settings(), gpu=on_gpu)
    if on_gpu and settings.int8:
        raise BertCrfError("--int8 is for the CPU: leave it or the GPU out.")
    job, parts = _prepare(pipeline, sources, output, settings, code, gpu_id)
    share = parse_share(shard, len(parts))
    _begin(job, sources, parts, redo)
    own = [part for part in parts if share.has_part(part.number)]
    size = sum(part.size for part in own) // (1 if share.by_part else share.jobs)
    shown = Progress(size, progress)
    limits = Limits(memory_limit, time_limit)
    try:
        if engine == "local":
            from .engines import local

            how = local.Local(workers, limits, pin)
            local.run(job, parts, share, redo, how, shown)
        else:
            from .engines import ray

            ray.run(job, parts, share, redo, ray.Cluster(workers, limits, gpus), shown)
    finally:
        shown.close()
        sweep(job.data)
    apart = [each for _, found in sorted(shown.apart.items()) for each in found]
    quarantine = write_quarantine(job, apart, share)
    return Annotation(shown.counts, shown.before, shown.seconds, apart, quarantine)


def plan_of(
    pipeline: Union[str, Path],
    sources: Sequence[Union[str, Path]],
    output: Union[str, Path],
    settings: Settings,
    code: Optional[Path] = None,
) -> tuple[Job, list[Part]]:
    """The job and the parts of an earlier run, for a check of what it wrote.

    Raises BertCrfError if there is no such run, or if it had another pipeline or other settings.
    """
    run = _read_run(Path(output))
    if run is None:
        raise BertCrfError(f"there is no {Path(output) / RUN}: name the folder of a run.")
    on_gpu = run.get("settings", {}).get("gpu", False)
    settings = replace(settings, gpu=on_gpu)
    job, parts = _prepare(pipeline, sources, output, settings, code, -1)
    other = difference(job.identity, run)
    if other:
        raise BertCrfError(f"{output} was made with {other}: give the options of that run.")
    return job, parts


def write_quarantine(job: Job, apart: Sequence[SetApart], share: Share) -> Optional[Path]:
    """Write what was set apart, one JSON object a line, by rename.

    RETURNS: the file; None if there is nothing to write.
    """
    name = "quarantine.jsonl"
    if share.jobs > 1:
        name = f"quarantine-{share.job}-of-{share.jobs}.jsonl"
    path = job.output / name
    if not apart:
        path.unlink(missing_ok=True)
        return None
    write_text(
        path, "".join(json.dumps(each._asdict(), ensure_ascii=False) + "\n" for each in apart)
    )
    return path


def _prepare(
    pipeline: Union[str, Path],
    sources: Sequence[Union[str, Path]],
    output: Union[str, Path],
    settings: Settings,
    code: Optional[Path],
    gpu_id: int,
) -> tuple[Job, list[Part]]:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BertCrfError(
            f"annotation of a corpus needs {', '.join(missing)}, not installed here. Run: pip "
            'install "spacy-bert-crf[annotate]"'
        )
    settings.check()
    digest = digest_of(os.fspath(pipeline), code)
    files = find_files([os.fspath(source) for source in sources])
    fields: Fields = settings.fields
    check_fields(
        files, [name for name in (fields.id, *fields.keep) if name not in ("", fields.text)]
    )
    job = Job(os.fspath(pipeline), digest, settings, Path(output), code, gpu_id)
    return job, make_parts(files)


def _begin(job: Job, sources: Sequence[Any], parts: Sequence[Part], redo: bool) -> None:
    """Check that the output folder is of this run, and note the run in it."""
    run = _read_run(job.output)
    if run is not None:
        other = difference(job.identity, run)
        if other and not redo:
            raise BertCrfError(
                f"{job.output} was made with {other}: use --redo to replace it, or name another "
                "folder."
            )
    if redo:
        remove_other_formats(job)
    job.data.mkdir(parents=True, exist_ok=True)
    sweep(job.data)
    check_parts(job, parts, redo)
    noted = {**job.identity, "versions": versions(), "sources": [os.fspath(s) for s in sources]}
    if run is None or difference(job.identity, run):
        write_text(job.output / RUN, json.dumps(noted, indent=2, ensure_ascii=False) + "\n")


def _read_run(output: Path) -> Optional[dict[str, Any]]:
    path = output / RUN
    if output.exists() and not output.is_dir():
        raise BertCrfError(f"{output} is a file: name a folder for the output.")
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BertCrfError(f"{path} is damaged: remove it, and run the command again.")
    return found
