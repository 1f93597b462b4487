"""What a character costs outside of the encoder in `nlp.pipe`, by part, before and after a change.

Each tree of the package has a process of its own, with one thread. They take turns, and each turn
runs the same texts. Seconds are those of the process (`time.process_time`), so that other programs
on the machine disturb little. The table gives medians over the turns.

python -m benchmarks.speed.host --pipeline training/toy/model-best \
    --data corpus/people-daily/train.spacy --before ../other-checkout \
    --output benchmarks/results/host

`--before` names the root of another checkout, such as a `git worktree` of an earlier commit.
Without it, only this tree is measured. Use a pipeline with a small encoder: its own time is left
out, but a turn takes as long as it needs. The entities of all trees and turns must be equal.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import spacy

from benchmarks.harness.common import (
    ROOT,
    Failed,
    command_line,
    end_at_sigterm,
    parser_for,
    read_docs,
    say,
    stem_of,
    write_json,
)
from benchmarks.harness.machine_info import machine
from benchmarks.harness.tables import table
from benchmarks.harness.workers import Worker
from benchmarks.peers.peer_loop import evenly

#: Names of the parts as `benchmarks.peers.host_worker` counts them, and what a reader sees.
PARTS = {
    "doc": "Doc, spaCy's tokenizer",
    "wordpieces": "wordpieces",
    "plan": "rest of the plan",
    "vectors": "vectors of tokens, without the encoder",
    "decoding": "decoding",
    "entities": "writing entities",
    "rest": "rest of `nlp.pipe`",
}


def measure(trees: dict[str, Path], job: dict[str, Any], turns: int) -> dict[str, Any]:
    """Microseconds a character of each tree by part: the medians over all turns.

    trees: roots of checkouts by name.
    job: see `benchmarks.peers.host_worker.Host`.
    turns: how often each tree runs.
    RETURNS: for each tree the medians of its parts, of their sum and the smallest and largest sum.
    Raises Failed if a process can't run, or if trees differ in entities.
    """
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    with tempfile.TemporaryDirectory(prefix="host-") as folder:
        workers = {}
        try:
            for name, root in trees.items():
                say(f"  {name}: loads and warms up")
                log = Path(folder) / f"{name}.log"
                workers[name] = Worker(Path(sys.executable), "host_worker.py", 1, log, root)
                workers[name].ask("load", kind="host", **job)
                workers[name].ask("run")
            for turn in range(turns):
                order = list(workers)
                for name in order[turn % len(order) :] + order[: turn % len(order)]:
                    runs[name].append(workers[name].ask("run"))
                say(f"  turn {turn + 1} of {turns}")
        finally:
            for worker in workers.values():
                worker.close()
    if len({run["entities"] for of_tree in runs.values() for run in of_tree}) > 1:
        raise Failed("the entities differ between trees or turns: the times mean nothing.")
    return {name: summary(of_tree) for name, of_tree in runs.items()}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the runs of one tree, in microseconds a character."""
    sums = [sum(run["parts"].values()) for run in runs]
    return {
        "parts": {name: statistics.median(run["parts"][name] for run in runs) for name in PARTS},
        "sum": statistics.median(sums),
        "from": min(sums),
        "to": max(sums),
    }


def markdown(result: dict[str, Any]) -> str:
    """The result as a table."""
    trees = result["trees"]
    rows = [
        [shown, *(f"{tree['parts'][name]:.2f}" for tree in trees.values())]
        for name, shown in PARTS.items()
    ]
    rows.append(["**sum**", *(f"**{tree['sum']:.2f}**" for tree in trees.values())])
    rows.append(
        ["smallest and largest sum", *(f"{t['from']:.2f}–{t['to']:.2f}" for t in trees.values())]
    )
    return (
        "\n".join(
            [
                "# What a character costs outside of the encoder",
                "",
                f"Written by `{result['command']}`. Microseconds of process time a character, one "
                f"thread, medians of {result['turns']} turns.",
                "",
                f"Machine: {result['machine']}. Data: {result['data']}.",
                "",
                *table(["", *trees], rows),
            ]
        )
        + "\n"
    )


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--pipeline", type=Path, required=True, help="a trained pipeline with a small encoder")
    add("--data", type=Path, required=True, help="docs (.spacy), of which the texts are taken")
    add("--before", type=Path, help="root of another checkout to compare with")
    add("--sentences", type=int, default=4000, help="so many, evenly taken; 0 takes all")
    add("--longest", type=int, default=80, help="leave out longer texts (characters); 0 takes all")
    add("--batch-size", type=int, default=512, help="docs that are predicted together")
    add("--turns", type=int, default=15, help="how often each tree runs")
    add("--output", type=Path, help="write NAME.md and NAME.json")
    return parser.parse_args(given)


def main() -> int:
    """RETURNS: the exit code."""
    args = parse()
    end_at_sigterm()
    texts = [doc.text for doc in read_docs(args.data, spacy.blank("zh"), 0)]
    texts = evenly([t for t in texts if not args.longest or len(t) <= args.longest], args.sentences)
    trees = {"before": args.before.resolve()} if args.before else {}
    trees["now"] = ROOT
    size = sum(map(len, texts))
    job = {"pipeline": str(args.pipeline.resolve()), "texts": texts, "batch_size": args.batch_size}
    try:
        found = measure(trees, job, args.turns)
    except Failed as err:
        say(f"✘ {err}")
        return 1
    result = {
        "command": command_line(),
        "machine": machine(),
        "data": f"{args.data.parent.name}/{args.data.name}, {len(texts)} texts, {size} characters",
        "turns": args.turns,
        "commits": {name: commit_of(root) for name, root in trees.items()},
        "trees": found,
    }
    text = markdown(result)
    if args.output:
        stem = stem_of(args.output)
        stem.parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(f"{stem}.json"), result)
        Path(f"{stem}.md").write_text(text, encoding="utf8")
    print(text)
    return 0


def commit_of(root: Path) -> str:
    """The commit of a checkout, empty if it is none."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
