"""Mutated inputs to everything that reads bytes from outside; see readers.py for the targets.

    python -m reliability.hostile.fuzz --cases 1000000            # all of it, 20 minutes or so
    python -m reliability.hostile.fuzz --cases 250000 --seed 2     # a piece; pieces add up
    python -m reliability.hostile.fuzz --target DocBin --case 123  # one case, with its traceback
    python -m reliability.hostile.fuzz --corpora --cases 200000   # the formats of corpora only
    python -m reliability.hostile.fuzz --engine atheris           # coverage-guided: guided.py

A case is good if its input is refused with BertCrfError, or accepted and not nonsense. Any other
exception, a crash of the process, more than 1 second of CPU time (HANG) or more than 1 GiB is bad.
(The limit is one of address space. A reader may ask for more, where a file claims a length, get
none and refuse the file: that takes no memory and is good.)
Cases run in child processes with limits; target, seed and number identify a case.
"""

import gc
import json
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from reliability.common import RESULTS, Result, parser_for

#: Seconds of CPU time that a case may take, and of any time (the machine may stand still a while).
HANG, STANDSTILL = 1.0, 20.0
MEMORY = 1 << 30
#: Cases of one child process.
PIECE = 5000


class Hang(BaseException):
    """A case took too long."""


def _watch() -> None:
    """Raise Hang in this process when its present case takes too long."""
    until, at_most = time.process_time() + HANG, time.monotonic() + STANDSTILL

    def look(number: int, frame: Any) -> None:
        if time.process_time() >= until or time.monotonic() >= at_most:
            raise Hang

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, HANG, HANG / 5)


def make_case(target: Any, name: str, seed: int, number: int) -> bytes:
    rng = Random(f"{name}/{seed}/{number}")
    data = target.change(rng.choice(target.seeds), rng, target.seeds)
    assert isinstance(data, bytes)
    return data


def run_case(target: Any, path: Path, data: bytes) -> str:
    """`accepted`, `refused`, or what was wrong."""
    from spacy_bert_crf.errors import BertCrfError

    path.write_bytes(data)
    _watch()
    try:
        return "accepted" if target.read(path, data) else "refused"
    except BertCrfError:
        return "refused"
    except Hang:
        return "hang"
    except AssertionError as err:
        return f"nonsense: {str(err)[:200]}"
    except BaseException as err:
        return f"{type(err).__name__}: {str(err)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def child(target: Any, name: str, seed: int, numbers: range, at: mmap.mmap, pipe: int) -> None:
    """Run cases, and write the counts and the bad ones to the pipe."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts: Counter[str] = Counter()
    bad: list[list[Any]] = []
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as tmp:
        path = Path(tmp) / f"input{target.suffix}"
        for number in numbers:
            at[:8] = struct.pack("q", number)
            outcome = run_case(target, path, make_case(target, name, seed, number))
            counts[outcome if outcome in ("accepted", "refused") else "bad"] += 1
            if outcome not in ("accepted", "refused"):
                bad.append([name, seed, number, outcome])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    os.write(pipe, json.dumps({"counts": counts, "bad": bad[:50], "grown": grown}).encode())


def run_target(name: str, target: Any, seed: int, cases: int) -> dict[str, Any]:
    """Run the cases of one target in child processes."""
    total: Counter[str] = Counter()
    bad: list[Any] = []
    grown, number = 0, 0
    at = mmap.mmap(-1, 8)
    while number < cases:
        numbers = range(number, min(number + PIECE, cases))
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.close(reading)
                child(target, name, seed, numbers, at, writing)
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading, "rb") as handle:
            said = handle.read()
        status = os.waitpid(pid, 0)[1]
        if status == 0 and said:
            done = json.loads(said)
            total.update(done["counts"])
            bad += done["bad"]
            grown = max(grown, done["grown"])
            number = numbers.stop
        else:  # it crashed: the case is known, go on behind it
            last = struct.unpack("q", at[:8])[0]
            total["bad"] += 1
            total["refused"] += last - number  # not known better, and no crash
            bad.append([name, seed, last, f"crash (wait status {status})"])
            number = last + 1
    return {"counts": dict(total), "bad": bad, "grown": grown}


def fuzz(names: list[str], cases: int, seed: int) -> int:
    import spacy  # noqa: F401  (once, before the children are forked)
    import torch

    import spacy_bert_crf.export.import_model  # noqa: F401
    from reliability.hostile import readers

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    every = readers.targets()
    chosen = {name: t for name, t in every.items() if not names or name in names}
    share = sum(t.share for t in chosen.values())
    gc.freeze()
    folder = RESULTS / "fuzz"
    status = 0
    for name, target in chosen.items():
        wanted = round(cases * target.share / share)
        began = time.monotonic()
        done = run_target(name, target, seed, wanted)
        seconds = time.monotonic() - began
        counts = done["counts"]
        for case in done["bad"][:10]:
            print("  BAD", *case)
        print(
            f"{name}: {wanted:,} cases, {counts.get('accepted', 0):,} accepted, "
            f"{counts.get('bad', 0)} bad, {seconds:.0f} s, +{done['grown'] / 1e6:.0f} MB",
            flush=True,
        )
        status |= bool(counts.get("bad"))
        from spacy_bert_crf._files import write_text

        row = {"target": name, "seed": seed, "cases": wanted, **done, "seconds": round(seconds, 1)}
        write_text(folder / f"{name.replace(' ', '_')}-{seed}.json", json.dumps(row) + "\n")
    summarise()
    return status


def summarise() -> None:
    """results/fuzz.json of all pieces in results/fuzz/."""
    result = Result("fuzz")
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((RESULTS / "fuzz").glob("*.json")):
        row = json.loads(path.read_text(encoding="utf8"))
        rows.setdefault(row["target"], []).append(row)
    for name, pieces in rows.items():
        counts: Counter[str] = Counter()
        for piece in pieces:
            counts.update(piece["counts"])
        seeds = ", ".join(str(piece["seed"]) for piece in pieces)
        grown = max(piece["grown"] for piece in pieces)
        seconds = sum(piece["seconds"] for piece in pieces)
        result.add(
            f"mutated {name}",
            tries=sum(piece["cases"] for piece in pieces),
            bad=counts["bad"],
            command="python -m reliability.hostile.fuzz --cases 1000000",
            note=f"{counts['accepted']:,} accepted, seeds {seeds}, {seconds:.0f} s, "
            f"memory +{grown / 1e6:.0f} MB at most",
        )
    result.write()


def again(name: str, seed: int, number: int) -> int:
    """Run one case with its traceback."""
    from reliability.hostile import readers

    target = readers.targets()[name]
    data = make_case(target, name, seed, number)
    print(len(data), data[:2000])
    with tempfile.TemporaryDirectory() as tmp:
        path = Path(tmp) / f"input{target.suffix}"
        path.write_bytes(data)
        _watch()
        try:
            print("accepted:", target.read(path, data))
        except BaseException:
            traceback.print_exc()
            return 1
    return 0


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--corpora", action="store_true", help="all formats of corpora")
    parser.add_argument("--case", type=int, help="only this case of the --target")
    parser.add_argument("--engine", choices=("mutate", "atheris"), default="mutate")
    args = parser.parse_args()
    if args.case is not None:
        return again(args.target[0], args.seed, args.case)
    if args.engine == "atheris":
        from reliability.hostile import guided

        return guided.run(args.cases, args.seed)
    if args.corpora:
        from reliability.hostile import readers

        args.target = [name for name in readers.targets() if name.startswith("corpus ")]
    return fuzz(args.target, args.cases, args.seed)


if __name__ == "__main__":
    sys.exit(main())
