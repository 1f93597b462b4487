"""Characters a second of each system. The systems take turns."""

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.harness.common import Failed
from benchmarks.harness.workers import Crew

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
    with Crew(python, work, threads) as crew:
        for system in systems:
            crew.add(system.name, system.program, system.kind, texts=texts, **system.job)
        crew.take_turns(rounds)
    for name, reason in crew.failed.items():
        raise Failed(f"{name}: {reason}")
    seconds = {
        name: {way: [answer[way] for answer in answers] for way in WAYS}
        for name, answers in crew.runs.items()
    }
    last = seconds[systems[-1].name]
    return {
        name: {
            "how": crew.notes[name]["batches"],
            **{
                way: {
                    "seconds": took[way],
                    "characters_per_second": characters / median(took[way]),
                    "to_last": ratio(took[way], last[way]),
                }
                for way in WAYS
            },
        }
        for name, took in seconds.items()
    }


def ratio(seconds: list[float], others: list[float]) -> float:
    """How many times as fast as the others, as the median over the rounds."""
    return median(b / a for a, b in zip(seconds, others, strict=True))
