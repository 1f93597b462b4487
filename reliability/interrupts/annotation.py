"""`bert-crf annotate` killed again and again: its workers, and the process that started them.

    python -m reliability.interrupts.annotation --kills 50
    python -m reliability.interrupts.annotation --kills 16 --engine ray    # needs Ray
    python -m reliability.interrupts.annotation --full-disk      # as root: on a small tmpfs

A pipeline with a slow component annotates a corpus. Each killed run is started again with the same
command. The files must equal those of a run without kills, byte for byte, and nothing may be set
apart. The component counts the texts that it reads, so that wasted work is known. On a full disk
the command must end with one message, and go on once there is room.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from reliability.common import ROOT, WORK, Result, parser_for

FOLDER = WORK / "annotation"
#: Processes of a run: one reads the input, the others annotate.
WORKERS = 2
ROWS = 60
#: Environment variable with the file that grows by a byte for each text that is read.
COUNTS = "RELIABILITY_COUNTS"


@Language.component("reliability_slow")
def slow(doc: Doc) -> Doc:
    """Take a moment for each text, so that kills meet work under way, and count it."""
    time.sleep(0.004)
    if COUNTS in os.environ:
        with open(os.environ[COUNTS], "ab", buffering=0) as file:
            file.write(b".")
    return doc


def prepare(folder: Path, rows: int) -> None:
    """Write pipeline and corpus, and annotate once without a kill."""
    folder.mkdir(parents=True, exist_ok=True)
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "LOC", "pattern": "Berlin"}])
    nlp.add_pipe("reliability_slow")
    nlp.to_disk(folder / "pipeline")
    with (folder / "corpus.jsonl").open("w", encoding="utf8") as file:
        for n in range(rows):
            text = f"number {n} is in Berlin{' again' * (n % 13)}"
            file.write(json.dumps({"key": f"d{n}", "text": text}) + "\n")
    process = start(folder, folder / "whole")
    if process.wait():
        raise SystemExit(said(process))


def start(
    folder: Path, output: Path, *more: str, counts: Path | None = None
) -> "subprocess.Popen[bytes]":
    """The command, the same at each start.

    more: more options.
    counts: file that grows by a byte for each text that is read.
    """
    words = [sys.executable, "-m", "spacy", "bert-crf", "annotate", folder / "pipeline"]
    words += [folder / "corpus.jsonl", output, "--id-field", "key", "--shard-rows", ROWS]
    words += ["-w", WORKERS, "--code", Path(__file__), *more]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        [str(word) for word in words],
        env={**env, COUNTS: str(counts)} if counts else env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def said(process: "subprocess.Popen[bytes]") -> str:
    """What a process that ended has printed."""
    assert process.stdout is not None
    return process.stdout.read().decode("utf8", "replace")


def children(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The reader and the workers of a run, in the order of their start; empty if it has ended."""
    try:
        return psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return []


def committed(output: Path) -> int:
    """The number of shards in an output."""
    return len(list((output / "data").glob("*.parquet")))


def kill_again_and_again(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Annotate with `kills` kills. RETURNS what happened; "bad" lists what must not happen."""
    rng, output, counts = random.Random(seed), folder / f"killed-{seed}", folder / f"counts-{seed}"
    shutil.rmtree(output, ignore_errors=True)
    counts.unlink(missing_ok=True)
    done, parents, starts = 0, 0, 0
    bad: list[str] = []
    while True:
        process = start(folder, output, counts=counts)
        starts += 1
        while process.poll() is None and done < kills:
            before = committed(output)  # so that each start gets further than the one before
            while process.poll() is None and committed(output) <= before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.4))
            running = children(process)
            if not running:
                break
            if rng.random() < 0.3:
                process.kill()
                process.wait()
                parents += 1
                if psutil.wait_procs(running, timeout=120)[1]:
                    bad.append(f"start {starts}: workers outlived the run")
            elif len(running) > 1:
                rng.choice(running[1:]).send_signal(signal.SIGKILL)
            done += 1
        status = process.wait()
        if status == 0:
            break
        if status != -signal.SIGKILL:
            bad.append(f"start {starts} ended with {status}: {said(process)[-300:]}")
            break
    bad += differences(folder / "whole", output)
    # A worker of a killed run may live for a second more, and each has a shard in hand.
    lost = (done - parents) + parents * WORKERS
    wasted = wasted_shards(folder, counts)
    if wasted > lost:
        bad.append(f"{wasted:.1f} shards were read in vain, and {lost} were in hand")
    return {"kills": done, "parents": parents, "starts": starts, "wasted": wasted, "bad": bad}


def wasted_shards(folder: Path, counts: Path) -> float:
    """Texts that were read more than once, in shards."""
    with (folder / "corpus.jsonl").open("rb") as file:
        rows = sum(1 for _ in file)
    return (counts.stat().st_size - rows) / ROWS


def differences(whole: Path, output: Path) -> list[str]:
    """How an output differs from that of the undisturbed run."""
    bad = []
    ours, theirs = (
        {path.name: path.read_bytes() for path in (each / "data").iterdir()}
        for each in (output, whole)
    )
    bad += [f"{name}: missing" for name in sorted(theirs.keys() - ours.keys())]
    bad += [f"{name}: too many" for name in sorted(ours.keys() - theirs.keys())]
    bad += [
        f"{name}: differs" for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]
    ]
    if (output / "quarantine.jsonl").exists():
        bad.append("something was set apart")
    return bad


def full_disk(folder: Path) -> list[str]:
    """Annotate onto a disk that is too small, then again with room. RETURNS what went wrong."""
    mount, bad = folder / "disk", []
    mount.mkdir(exist_ok=True)
    pages = sum(-(-path.stat().st_size // 4096) for path in (folder / "whole" / "data").iterdir())
    size = f"size={pages * 2}k"  # half of what is needed
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(mount)], check=True)
    try:
        process = start(folder, mount / "output")
        status, text = process.wait(), said(process)
        if status != 1 or "No space left" not in text or "Traceback" in text:
            bad.append(f"status {status}: {text[-300:]}")
        bad += [f"left: {path}" for path in mount.rglob("*.tmp")]
        subprocess.run(["mount", "-o", "remount,size=10m", str(mount)], check=True)
        process = start(folder, mount / "output")
        if process.wait():
            bad.append(said(process)[-300:])
        bad += differences(folder / "whole", mount / "output")
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    return bad


def main() -> int:
    parser = parser_for(__doc__ or "")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rows", type=int, default=6000, help="rows of the corpus")
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--full-disk", action="store_true", help="only the full disk")
    args = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    prepare(FOLDER, args.rows)
    result = Result("annotation")
    if args.full_disk:
        bad = full_disk(FOLDER)
        command = "python -m reliability.interrupts.annotation --full-disk"
        result.add("annotate on a full disk", tries=1, bad=len(bad), command=command, found=bad)
    else:
        on_ray, words = args.engine == "ray", f"--kills {args.kills} --seed {args.seed}"
        if on_ray:
            from reliability.interrupts import annotation_ray

            made = annotation_ray.kill_again_and_again(FOLDER, args.kills, args.seed)
            whom, words = made["whom"], f"{words} --engine ray"
        else:
            made = kill_again_and_again(FOLDER, args.kills, args.seed)
            whom = f"{made['parents']} of the whole run, the others of a worker"
        if args.rows != parser.get_default("rows"):
            words += f" --rows {args.rows}"
        result.add(
            f"SIGKILL at random moments of annotate{' on Ray' * on_ray}, run {args.seed}",
            tries=made["kills"],
            bad=len(made["bad"]),
            command=f"python -m reliability.interrupts.annotation {words}",
            note=f"{whom}; {made['starts']} starts; read in vain: {made['wasted']:.1f} shards",
            what_was_bad=made["bad"],
        )
    for row in result.rows:
        for line in row.get("found", row.get("what_was_bad", [])):
            print("  BAD", line)
    result.write()
    return result.status()


if __name__ == "__main__":
    sys.exit(main())
