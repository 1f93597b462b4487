"""Results of the accuracy benchmarks as markdown."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmarks.harness.common import program
from benchmarks.harness.tables import table, words

Runs = Sequence[dict[str, Any]]


def percent(value: float) -> str:
    """A share in percent, with two digits after the point."""
    return f"{value * 100:.2f}"


def at(runs: Runs, epoch: int, key: str) -> list[float]:
    """One score after an epoch, of each run that reached it."""
    return [row[key] for run in runs for row in run["epochs"] if row["epoch"] == epoch]


def header(result: dict[str, Any]) -> list[str]:
    """Lines on the command, the machine, the encoder and the corpus."""
    machine = result["machine"]
    flags = ", ".join(name for name, there in machine["flags"].items() if there)
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    sizes = "; ".join(
        f"{name}: {', '.join(f'{n:,} {what}' for what, n in sizes.items() if what in SHOWN)}"
        for name, sizes in result["corpus"].items()
    )
    lines = [
        f"Written by `{program()}`; how, and what the rows are, is in `benchmarks/README.md`.",
        "",
        "```",
        result["command"],
        "```",
        "",
        f"Machine: {machine['machine']}{gpu} ({flags}), {machine['threads']} thread(s) for each; "
        f"load average before: {machine['load_average']}.",
        f"Encoder: {result['encoder']}. {sizes}. Labels: {', '.join(result['labels'])}.",
    ]
    return [*lines, *(["", f"**Note.** {result['note']}"] if result["note"] else [])]


SHOWN = ("docs", "characters", "entities")


def versions_line(sides: dict[str, Runs]) -> str:
    """Versions of each side that ran."""
    said = [f"{name}: {words(runs[0]['versions'])}" for name, runs in sides.items() if runs]
    return "Versions. " + ". ".join(said) + "."


def settings_line(sides: dict[str, Runs]) -> str:
    """Settings of each side that ran, once if they are those of all sides."""
    said = {
        name: ", ".join(f"{key} = {value}" for key, value in runs[0]["settings"].items())
        for name, runs in sides.items()
        if runs
    }
    if len(set(said.values())) == 1:
        return f"Settings. {next(iter(said.values()))}."
    return "Settings. " + "; ".join(f"{name}: {pairs}" for name, pairs in said.items()) + "."


def opening(title: str, result: dict[str, Any], sides: dict[str, Runs]) -> list[str]:
    """Lines on a comparison of trainings of this package: how, where and with what.

    sides: the runs of each side. At least one has a run.
    """
    runs = next(filter(None, sides.values()))
    return [
        *(f"# {title}", "", *header(result), ""),
        *(versions_line({"spacy bert-crf train": runs}), "", settings_line(sides)),
    ]


def curves(sides: dict[str, Runs]) -> list[str]:
    """Scores after each epoch, and those of each type after the last one, under headings.

    sides: the runs of each side. Those without a run are left out.
    """
    there = {name: runs for name, runs in sides.items() if runs}
    longest = max(len(run["epochs"]) for runs in there.values() for run in runs)
    return [
        "## Entity precision, recall and F1 on dev in percent, means over seeds",
        "",
        *by_epoch(there, longest),
        "",
        "## Per type, after the last epoch",
        "",
        *by_type(there),
    ]


def by_epoch(sides: dict[str, Runs], epochs: int) -> list[str]:
    """Means over seeds after each epoch, F of each seed, seconds of training so far."""
    rows = []
    for epoch in range(1, epochs + 1):
        for name, runs in sides.items():
            if not at(runs, epoch, "f"):
                continue
            means = [percent(mean(at(runs, epoch, key))) for key in "prf"]
            each = ", ".join(
                f"{percent(row['f'])} ({run['seed']})"
                for run in runs for row in run["epochs"] if row["epoch"] == epoch
            )  # fmt: skip
            seconds = mean(
                sum(row["seconds"] for row in run["epochs"] if row["epoch"] <= epoch)
                for run in runs
            )
            rows.append((epoch, name, *means, each, f"{seconds:.0f}"))
    head = ("after epoch", "", "P", "R", "F", "F of each seed (seed)", "seconds of training so far")
    return table(head, rows)


def by_type(sides: dict[str, Runs]) -> list[str]:
    """P, R and F per type after the last epoch, means over seeds.

    A cell is empty if the dev corpus of that side has no such entity, and none was predicted.
    """
    there = {name: runs for name, runs in sides.items() if runs}
    labels = sorted({label for runs in there.values() for run in runs for label in run["per_type"]})
    none = {"p": 0.0, "r": 0.0, "f": 0.0, "gold": 0}
    rows = []
    for label in labels:
        cells: list[Any] = []
        gold = 0
        for runs in there.values():
            if not any(label in run["per_type"] for run in runs):
                cells.append("")
                continue
            counts = [run["per_type"].get(label, none) for run in runs]
            gold = max(gold, *(each["gold"] for each in counts))
            cells.append(" / ".join(percent(mean(each[key] for each in counts)) for key in "prf"))
        rows.append((label, gold, *cells))
    return table(("type", "gold", *(f"{name}: P / R / F" for name in there)), rows)
