"""`bert-crf annotate`: a corpus of any size."""

import re
from pathlib import Path
from typing import Any, Optional

import typer

from ...errors import BertCrfError, first_of
from ..app import command

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@command("annotate")
def annotate_command(
    pipeline: str = typer.Argument(..., help="Folder of a pipeline, or name of an installed one"),
    src: list[str] = typer.Argument(
        ...,
        help="Files, folders, globs or addresses (s3://...) of .txt, .jsonl, .csv, .parquet or "
        ".spacy, also with .gz or .zst",
    ),
    dst: Path = typer.Argument(..., help="Folder of the output"),
    to: str = typer.Option("parquet", "--to", help="Format: parquet, jsonl (gzip) or spacy"),
    rows: str = typer.Option("documents", "--rows", help="What a row is: documents or entities"),
    text_field: str = typer.Option("text", "--text-field", help="Field of the text"),
    id_field: str = typer.Option("", "--id-field", help="Field of the id; else FILE:NUMBER"),
    keep: list[str] = typer.Option(
        [], "--keep", help="A field that travels along; the option may be repeated"
    ),
    whole_files: bool = typer.Option(
        False, "--whole-files", help="A .txt file is one text; else each of its lines"
    ),
    scores: bool = typer.Option(False, "--scores", help="Write probabilities of entities"),
    int8: bool = typer.Option(False, "--int8", help="Compute in 8-bit integers, on a CPU"),
    shard_rows: int = typer.Option(2_000, "--shard-rows", help="Largest number of rows of a shard"),
    shard_characters: int = typer.Option(
        1_000_000, "--shard-characters", help="A shard ends where it has this many characters"
    ),
    engine: str = typer.Option("local", "--engine", help="local or ray"),
    workers: int = typer.Option(
        0, "--workers", "-w", min=0, help="Number of workers; 0 for one on each core"
    ),
    memory_limit: str = typer.Option(
        "", "--memory-limit", help="Largest memory of a worker, such as 4G"
    ),
    time_limit: float = typer.Option(
        600.0, "--time-limit", help="Longest time for a text in seconds, per 100,000 characters"
    ),
    pin: bool = typer.Option(False, "--pin", help="Keep each local worker on one core"),
    gpus: float = typer.Option(0.0, "--gpus", help="With Ray: GPUs of each worker"),
    shard: str = typer.Option(
        "", "--shard", help="I/N: only the I-th of N shares, from 0, as in a Slurm array"
    ),
    redo: bool = typer.Option(
        False, "--redo", help="Replace what another pipeline, setting or input made"
    ),
    verify: bool = typer.Option(
        False, "--verify", help="Do not annotate: compare the ids of SRC with those of DST"
    ),
    strict: bool = typer.Option(
        False, "--strict", help="End with status 1 if a document was set apart"
    ),
    code: Optional[Path] = typer.Option(
        None, "--code", "-c", help="Python file with registered functions of the pipeline"
    ),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="GPU of local workers, -1 for the CPU"),
) -> None:
    """Annotate a corpus of any size, each document exactly once.

    The rows of SRC are cut into shards. Each shard becomes a file in DST/data, written under a
    temporary name and renamed. If the command is interrupted, the same command goes on with the
    shards that are missing. A document that raises an error, or that kills or stalls a worker, is
    set apart in DST/quarantine.jsonl with the reason, and the others are annotated.

    \b
    Example:
      python -m spacy bert-crf annotate training/quickstart/model-best corpus/*.jsonl out \\
        --id-field id --workers 8
    """
    from ...bulk.annotate import annotate, plan_of
    from ...bulk.job import Settings
    from ...bulk.sources.read import Fields

    if rows not in ("documents", "entities"):
        raise BertCrfError(f"--rows {rows!r} is not known: use documents or entities.")
    settings = Settings(
        Fields(text_field, id_field, tuple(dict.fromkeys(keep)), whole_files),
        shard_rows,
        shard_characters,
        to,
        rows == "entities",
        scores,
        int8,
    )
    if verify:
        _verify(*plan_of(pipeline, src, dst, settings, code), shard)
        return
    made = annotate(
        pipeline,
        src,
        dst,
        settings=settings,
        engine=engine,
        workers=workers,
        memory_limit=_bytes(memory_limit),
        time_limit=time_limit,
        pin=pin,
        gpus=gpus,
        shard=shard,
        redo=redo,
        code=code,
        gpu_id=gpu_id,
        progress=True,
    )
    if made.before.shards:
        print(f"{made.before.documents:,} documents were done before")
    speed = made.done.characters / max(made.seconds, 1e-9)
    print(
        f"{made.done.documents:,} documents, {made.done.entities:,} entities, "
        f"{made.done.characters:,} characters in {made.seconds:,.1f} s ({speed:,.0f} a second)"
    )
    print(f"wrote {made.done.shards:,} shards to {dst / 'data'}")
    if made.quarantine is not None:
        print(f"{len(made.set_apart):,} set apart, see {made.quarantine}")
        if strict:
            raise typer.Exit(1)


def _verify(job: Any, parts: Any, shard: str) -> None:
    from ...bulk.annotate import write_quarantine
    from ...bulk.shards import parse_share
    from ...bulk.verify import verify

    share = parse_share(shard, len(parts))
    found = verify(job, parts, share, progress=True)
    print(
        f"{found.rows:,} rows in SRC; {found.counts.documents:,} documents and "
        f"{found.counts.set_apart:,} set apart in {found.counts.shards:,} shards"
    )
    if found.problems:
        lines = first_of(found.problems, 20)
        raise BertCrfError("\n".join(["not everything is there:", *lines]))
    write_quarantine(job, found.set_apart, share)
    print("every row is there once")


def _bytes(text: str) -> int:
    """A size such as 4G in bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", text.strip().lower())
    if not text:
        return 0
    if found is None:
        raise BertCrfError(f"--memory-limit {text!r} is no size: use a number with K, M or G.")
    return int(float(found[1]) * _UNITS[found[2]])
