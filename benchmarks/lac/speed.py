"""Characters a second of each system. The systems take turns."""

from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.harness.common import say

if TYPE_CHECKING:
    from benchmarks.lac.__main__ import System

#: How the texts are given: in the fastest batches, and one text a call.
WAYS = ("batches", "single")


def measure(
    systems: "list[System]", python: Path, texts: list[str], threads: int, rounds: int, work: Path
) -> dict[str, Any]:
    """Speed of each system, by name. Each runs once a round, and another one begins each round.

    RETURNS: seconds of each round by way, and medians in characters a second. `to_last` is the
    median over the rounds of the ratio to the last system. Raises Failed.
    """
    characters = sum(map(len, texts))
    with ExitStack() as stack:
        workers, notes = [], []
        for number, system in enumerate(systems):
            say(f"  {system.name}: loads and warms up")
            log = work / f"speed-{threads}-{number}.log"
            worker = system.start(python, texts, threads, log)
            stack.callback(worker.close)
            workers.append(worker)
            notes.append(worker.ask("warm_up")["batches"])
        seconds: list[dict[str, list[float]]] = [{way: [] for way in WAYS} for _ in systems]
        for turn in range(rounds):
            for step in range(len(systems)):
                place = (turn + step) % len(systems)
                answer = workers[place].ask("run")
                for way in WAYS:
                    seconds[place][way].append(answer[way])
            say(f"  round {turn + 1} of {rounds}")
    return {
        system.name: {
            "how": note,
            **{
                way: {
                    "seconds": took[way],
                    "characters_per_second": characters / median(took[way]),
                    "to_last": ratio(took[way], seconds[-1][way]),
                }
                for way in WAYS
            },
        }
        for system, note, took in zip(systems, notes, seconds, strict=True)
    }


def ratio(seconds: list[float], others: list[float]) -> float:
    """How many times as fast as the others, as the median over the rounds."""
    return median(b / a for a, b in zip(seconds, others, strict=True))
