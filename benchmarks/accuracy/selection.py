"""Learning curves: texts that `select` chooses against random ones, round by round.

README.md says what is compared.

python -m benchmarks.accuracy.selection --encoder encoders/people-daily --train TRAIN --dev DEV \
    --first 200 --rounds 5 --by entropy errors --layers 4 --epochs 10 --seeds 1 2 3 \
    --output benchmarks/results/selection --picture docs/pictures/selection.png
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from spacy.tokens import Doc, DocBin

from benchmarks.accuracy.table import opening, percent
from benchmarks.harness.common import HARNESS, Failed, parser_for, say, write_results
from benchmarks.harness.tables import table
from benchmarks.harness.trials import add_options, parse, prepare, status, train_ours
from spacy_bert_crf._devices import use_device
from spacy_bert_crf.component.pipelines import load_pipeline
from spacy_bert_crf.encoder.checkpoint_files import read_json
from spacy_bert_crf.evaluation.selection.select import select_texts
from spacy_bert_crf.evaluation.selection.uncertainty import BY, PER

RANDOM = "random"
#: What must be the same for results of an earlier run to be kept.
SAME = ("encoder", "corpus", "epochs", "set", "first", "rounds", "budget", "per", "diversity")


def options() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    add_options(parser)
    add = parser.add_argument
    add("--first", type=int, default=200, help="texts of the first round, and of each more")
    add("--rounds", type=int, default=5)
    add("--by", nargs="+", default=["entropy"], choices=BY, help="scores of select")
    add("--per", default="token", choices=tuple(PER))
    add("--diversity", type=float, default=1.0)
    add("--pool", type=int, default=5_000)
    add(
        "--budget", default="characters", choices=("characters", "texts"),
        help="select adds as many of these as random does",
    )  # fmt: skip
    add("--picture", type=Path, help="draw the curves; needs matplotlib")
    add("--picture-python", type=Path, default=Path(sys.executable), help="a Python that has it")
    args = parse(parser)
    if min(args.first, args.rounds) < 1:
        parser.error("--first and --rounds must be at least 1")
    return args


def size(docs: Sequence[Doc]) -> int:
    """Number of characters of docs."""
    return sum(len(doc.text) for doc in docs)


def shuffled(docs: Sequence[Doc], seed: int) -> list[Doc]:
    """The docs in the order in which random annotates them."""
    out = list(docs)
    random.Random(seed).shuffle(out)
    return out


def select_more(
    args: argparse.Namespace, by: str, pipeline: Path, docs: list[Doc], rest: list[Doc], like: int
) -> tuple[list[Doc], float]:
    """The docs that `select` chooses.

    docs: those that are annotated. rest: the others. like: characters that random adds.
    RETURNS: the docs to add, and the seconds that the choice took.
    """
    began = time.perf_counter()
    torch.set_num_threads(args.threads)
    use_device(args.gpu_id)
    by_texts = args.budget == "texts"
    found = select_texts(
        load_pipeline(pipeline), (doc.text for doc in rest), by=by, per=args.per,
        number=args.first if by_texts else None, characters=None if by_texts else like,
        diversity=args.diversity, pool=args.pool, exclude=(doc.text for doc in docs),
    )  # fmt: skip
    return [rest[each.index] for each in found.chosen], time.perf_counter() - began


class Rounds:
    """The rounds of one seed, for each way of choosing.

    args: the command line.
    train: trains on docs; see `train_ours`.
    docs: all docs of the corpus.
    seed: decides the first docs, the random ones and the training.
    work: a folder for pipelines.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        train: Callable[[list[Doc], int, Path | None], dict[str, Any]],
        docs: Sequence[Doc],
        seed: int,
        work: Path,
    ) -> None:
        self.args, self.train, self.seed, self.work = args, train, seed, work
        self.order = shuffled(docs, seed)
        self.first: dict[str, Any] = {}

    def run(self, name: str) -> dict[str, Any]:
        """All rounds of one way of choosing. RETURNS: the run, with a row for each round."""
        step = self.args.first
        docs, rest = self.order[:step], self.order[step:]
        rows: list[dict[str, Any]] = []
        last: dict[str, Any] = {}
        for number in range(1, self.args.rounds + 1):
            seconds = 0.0
            if number > 1:
                like = self.order[step * (number - 1) : step * number]
                more = like
                if name != RANDOM:
                    pipeline = self._pipeline(name, number - 1)
                    more, seconds = select_more(self.args, name, pipeline, docs, rest, size(like))
                    self._drop(pipeline)
                docs = docs + more
                there = set(map(id, docs))
                rest = [doc for doc in rest if id(doc) not in there]
            last = self._trained(name, number, docs)
            rows.append(_row(number, docs, last, seconds))
            say(
                f"  {name}, seed {self.seed}, round {number}: {len(docs):,} texts, "
                f"{rows[-1]['characters']:,} characters, F {percent(rows[-1]['f'])}, "
                f"{rows[-1]['seconds']:.0f} s of training, {seconds:.0f} s of choosing"
            )
        return {**last, "rounds": rows}

    def _drop(self, pipeline: Path) -> None:
        """Remove a pipeline that no round needs any more. The first one is for all."""
        if pipeline.name != "first":
            shutil.rmtree(pipeline)

    def _pipeline(self, name: str, number: int) -> Path:
        return self.work / (f"{name}-{number}" if number > 1 else "first")

    def _trained(self, name: str, number: int, docs: list[Doc]) -> dict[str, Any]:
        """Train on the docs of a round. The first one is the same for all ways of choosing."""
        if number == 1 and self.first:
            return self.first
        is_read = number < self.args.rounds and (number == 1 or name != RANDOM)
        found = self.train(docs, self.seed, self._pipeline(name, number) if is_read else None)
        if number == 1:
            self.first = found
        return found


def _row(number: int, docs: list[Doc], run: dict[str, Any], seconds: float) -> dict[str, Any]:
    last = run["epochs"][-1]
    return {
        "round": number,
        "docs": len(docs),
        "characters": size(docs),
        "entities": sum(len(doc.ents) for doc in docs),
        **{key: last[key] for key in "prf"},
        "seconds": run["seconds"],
        "choosing_seconds": seconds,
    }


def characters_for(rows: Sequence[dict[str, Any]], target: float) -> float | None:
    """Annotated characters at which a curve first reaches an F, on straight lines between rounds.

    rows: the rounds. RETURNS: None if the curve does not reach it.
    """
    before: dict[str, Any] = {}
    for row in rows:
        if row["f"] >= target:
            if not before:
                return float(row["characters"])
            share = (target - before["f"]) / (row["f"] - before["f"])
            more = row["characters"] - before["characters"]
            return float(before["characters"] + share * more)
        before = row
    return None


def mean_curve(runs: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Characters and F of each round, means over seeds."""
    curves = [run["rounds"] for run in runs]
    return [
        {key: mean(row[key] for row in rows) for key in ("characters", "f")}
        for rows in zip(*curves, strict=True)
    ]


def needed(sides: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Characters that each way of choosing needs for the F of random's last round.

    RETURNS: for each way: `characters` and their `share` of random's, by the mean curve; None where
    it is not reached; `shares` of each seed.
    """
    by_seed = {run["seed"]: run["rounds"] for run in sides[RANDOM]}
    out = {}
    for name, runs in sides.items():
        mine = [run for run in runs if run["seed"] in by_seed]
        if not mine:
            continue
        goal = mean_curve(
            [run for run in sides[RANDOM] if run["seed"] in {r["seed"] for r in mine}]
        )
        found = characters_for(mean_curve(mine), goal[-1]["f"])
        shares = {}
        for run in mine:
            last = by_seed[run["seed"]][-1]
            own = characters_for(run["rounds"], last["f"])
            shares[run["seed"]] = None if own is None else own / last["characters"]
        share = None if found is None else found / goal[-1]["characters"]
        out[name] = {"goal": goal[-1], "characters": found, "share": share, "shares": shares}
    return out


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    sides = result["sides"]
    goals = needed(sides)
    lines = [
        *opening("What to annotate next", result, sides),
        "",
        f"Texts of a round: {result['first']:,}, chosen by {result['budget']}; per "
        f"{result['per']}, diversity {result['diversity']:g}, pool {result['pool']:,}.",
        "",
        "## Characters for the F1 of random's last round",
        "",
    ]
    rows = []
    for name, found in goals.items():
        each = ", ".join(
            f"{'not reached' if share is None else percent(share)} ({seed})"
            for seed, share in found["shares"].items()
        )
        characters, share = found["characters"], found["share"]
        rows.append((
            name, percent(found["goal"]["f"]),
            "not reached" if characters is None else f"{characters:,.0f}",
            "" if share is None else percent(share), each,
        ))  # fmt: skip
    head: tuple[str, ...] = (
        "",
        "F to reach",
        "characters",
        "percent of random's",
        "each seed (seed)",
    )
    lines += [*table(head, rows), "", "## Rounds, means over seeds", ""]
    rows = []
    for number in range(result["rounds"]):
        for name, runs in sides.items():
            there = [run["rounds"][number] for run in runs]
            if there:
                of = {key: mean(row[key] for row in there) for key in there[0]}
                each = ", ".join(f"{percent(r['rounds'][number]['f'])} ({r['seed']})" for r in runs)
                counts = (f"{of[key]:,.0f}" for key in ("docs", "characters", "entities"))
                rows.append((
                    number + 1, name, *counts, *(percent(of[key]) for key in "prf"), each,
                    f"{of['seconds']:.0f}", f"{of['choosing_seconds']:.1f}",
                ))  # fmt: skip
    head = ("round", "", "texts", "characters", "entities", "P", "R", "F", "F of each seed (seed)")
    lines += table((*head, "seconds of training", "of choosing"), rows)
    return "\n".join(lines) + "\n"


def run(args: argparse.Namespace, work: Path) -> None:
    """Run all trainings and write the result after each. Raises Failed, BertCrfError."""
    encoder, corpus, about = prepare(args, work)
    docs = corpus.docs(corpus.train)
    if len(docs) < args.first * args.rounds:
        raise Failed(f"{args.train} has {len(docs):,} docs, fewer than all rounds take.")
    sides: dict[str, list[dict[str, Any]]] = {name: [] for name in (RANDOM, *args.by)}
    shown = ("set", "first", "rounds", "budget", "per", "diversity", "pool")
    result = {**about, **{key: getattr(args, key) for key in shown}, "sides": sides}
    sides |= earlier(Path(f"{args.stem}.json"), result)

    def train(some: list[Doc], seed: int, keep: Path | None) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            path = Path(folder) / "some.spacy"
            path.write_bytes(DocBin(docs=some).to_bytes())
            own = Path(folder) / "work"
            own.mkdir()
            return train_ours(args, encoder, corpus, path, seed, own, keep=keep)

    for seed in args.seeds:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            rounds = Rounds(args, train, docs, seed, Path(folder))
            for name in (RANDOM, *args.by):
                if any(found["seed"] == seed for found in sides[name]):
                    continue
                sides[name].append({"seed": seed, **rounds.run(name)})
                result["needed"] = needed(sides)
                write_results(args.stem, result, markdown(result))
                draw(args)
    if "needed" not in result:  # all was there
        result["needed"] = needed(sides)
        write_results(args.stem, result, markdown(result))
        draw(args)


def earlier(path: Path, result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The sides of an earlier result of the same docs and settings, or none."""
    there = read_json(path) if path.is_file() else {}
    if any(there.get(key) != result[key] for key in SAME):
        return {}
    found: dict[str, list[dict[str, Any]]] = there["sides"]
    return found


def draw(args: argparse.Namespace) -> None:
    """Draw the curves, where there is matplotlib."""
    if args.picture is None:
        return
    program = HARNESS / "selection_picture.py"
    command = [args.picture_python, program, f"{args.stem}.json", args.picture]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        say(f"no picture ({said}): run {program.name} with a Python that has matplotlib")


def main() -> int:
    """RETURNS: the exit code."""
    return status(options(), run, "selection-")


if __name__ == "__main__":
    sys.exit(main())
