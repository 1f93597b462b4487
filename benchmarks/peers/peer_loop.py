"""A worker's side of a benchmark: orders come as JSON lines on stdin, answers go to stdout.

Stands on the standard library alone, so that it runs in any environment.
"""

import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def serve(kinds: dict[str, Callable[..., Any]]) -> None:
    """Answer orders until stdin ends.

    kinds: what can be loaded. The order {"do": "load", "kind": …, …} makes one with the other
    values as arguments; further orders name one of its methods. Between orders it is blocked.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)  # what libraries print goes to the log
    peer: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        what = order.pop("do")
        try:
            if what == "load":
                peer = kinds[order.pop("kind")](**order)
                answer = {"memory": memory()}
            elif what == "memory":
                answer = memory()
            else:
                answer = getattr(peer, what)(**order)
        except Exception as err:  # whatever a peer raises is an answer, not the end
            traceback.print_exc()
            # spaCy adds whole configs, with paths and addresses in them.
            said = " ".join(str(err).split()).partition(" {")[0][:300] or "no message"
            answer = {"error": f"{type(err).__name__}: {said}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def memory() -> dict[str, float]:
    """Resident memory of this process in MiB: now, and at its peak.

    On Linux from /proc: ru_maxrss counts there what the parent held when it started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return {
            name: int(lines[key].split()[0]) / 1024
            for name, key in (("now", "VmRSS"), ("peak", "VmHWM"))
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = peak / 2**20 if sys.platform == "darwin" else peak / 1024
    return {"now": peak, "peak": peak}


def times_of(sizes: Sequence[int], seconds: Callable[[int], float]) -> dict[int, float]:
    """Seconds with each batch size, the best of two rounds. seconds: measures one size."""
    times = dict.fromkeys(sizes, float("inf"))
    for _ in range(2):
        for size in sizes:
            times[size] = min(times[size], seconds(size))
    return times


def evenly(items: Sequence[T], count: int) -> list[T]:
    """`count` items evenly taken, all if there are no more or `count` is 0."""
    if not count or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]
