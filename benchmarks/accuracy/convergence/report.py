"""The trainings as tables: one for each table of the plan, a row for each variant."""

from collections import Counter
from statistics import mean, stdev
from typing import Any

from benchmarks.accuracy.convergence.plan import THEIRS
from benchmarks.harness.tables import table, words

Runs = list[dict[str, Any]]


def markdown(content: dict[str, Any]) -> str:
    """The result for people."""
    runs = [run for run in content["runs"] if run["epochs_done"]]
    lines = [
        "# Entity F1 by epoch", "",
        "Entity F1 in percent on all gold entities of dev, after each epoch, mean over the seeds. "
        "spread: standard deviation over the seeds after the last epoch. Differences are those of "
        "the last epoch, seed by seed.", "",
    ]  # fmt: skip
    for name, rows in content["tables"].items():
        mine = [run for run in runs if run["table"] == name]
        if mine:
            lines += [f"## {name}", "", *_table(mine, rows), ""]
    failed = [run for run in content["runs"] if run["error"]]
    if failed:
        lines += ["## Not finished", ""]
        lines += [f"- {named(run)}: {run['error'].splitlines()[-1][:300]}" for run in failed] + [""]
    by_session = Counter(run["session"] for run in runs)
    largest = by_session.most_common(1)[0][0] if by_session else None
    for number, session in enumerate(content["sessions"]):
        mine = [run for run in runs if run["session"] == number]
        if mine:
            where = "All other rows" if number == largest else rows_in_words(mine, runs)
            lines += [_session(session, mine, where if len(by_session) > 1 else ""), ""]
    for name, counts in content["corpora"].items():
        sizes = "; ".join(
            f"{part}: {found['docs']:,} docs, {found['characters']:,} characters, "
            f"{found['entities']:,} entities"
            for part, found in counts.items()
        )
        lines += [f"- {name}: {sizes}"]
    return "\n".join([*lines, ""])


def rows_in_words(mine: Runs, runs: Runs) -> str:
    """The rows of a session in words, with its seeds where another session has some of them.

    mine: the trainings of the session.
    runs: all trainings.
    """
    found: dict[str, list[int]] = {}
    count = Counter(f"{run['table']}: {run['row']}" for run in runs)
    for run in mine:
        found.setdefault(f"{run['table']}: {run['row']}", []).append(run["seed"])
    return "; ".join(
        name if len(seeds) == count[name] else f"{name}, seed {', '.join(map(str, sorted(seeds)))}"
        for name, seeds in sorted(found.items())
    )


def _session(session: dict[str, Any], runs: Runs, rows: str) -> str:
    """Where trainings ran, with what, and the command.

    runs: those of the session.
    rows: where they stand in the tables, in words; empty for all.
    """
    theirs = next((run["versions"] for run in runs if run.get("versions")), None)
    about = f"Machine: {session['machine']}{', ' + session['gpu'] if session['gpu'] else ''}; "
    about += f"{session['workers']} trainings at once, {session['threads']} thread(s) each. "
    about += f"Encoder: {session['encoder']}. Versions: {words(session['versions'])}."
    if theirs:
        is_bfloat16 = session.get("peer_products") == "medium"
        products = ", with products in bfloat16" if is_bfloat16 else ""
        about += f" {THEIRS}: {words(theirs)}{products}."
    if rows:
        about = f"{rows}. {about}"
    return f"{about}\n\nCommand: `{session['command']}`"


def named(run: dict[str, Any]) -> str:
    """A training in words."""
    return f"{run['table']}, {run['row']}, seed {run['seed']}"


def score(run: dict[str, Any], epoch: int) -> float | None:
    """F in percent after an epoch; None if the training did not get so far."""
    return next((100 * row["f"] for row in run["epochs_done"] if row["epoch"] == epoch), None)


def _table(runs: Runs, names: list[str]) -> list[str]:
    """Lines of one table. names: of its rows. The others are compared with the first one."""
    names = [name for name in names if any(run["row"] == name for run in runs)]
    epochs = max(run["epochs"] for run in runs)
    base = {run["seed"]: score(run, run["epochs"]) for run in runs if run["row"] == names[0]}
    cells = []
    for name in names:
        mine = [run for run in runs if run["row"] == name]
        by_epoch = []
        for epoch in range(1, epochs + 1):
            found = [f for run in mine if (f := score(run, epoch)) is not None]
            missing = len(mine) - len(found)
            by_epoch.append(
                f"{mean(found):.2f}" + f" ({len(found)})" * bool(missing) if found else ""
            )
        ended = {run["seed"]: f for run in mine if (f := score(run, run["epochs"])) is not None}
        last = list(ended.values())
        gains = [f - there for seed, f in ended.items() if (there := base.get(seed)) is not None]
        best = [max(100 * row["f"] for row in run["epochs_done"]) for run in mine]
        seconds = mean(sum(row["seconds"] for row in run["epochs_done"]) for run in mine)
        settings = ", ".join(f"{k} = {v}" for k, v in mine[0]["settings"].items())
        cells.append([
            name, f"`{settings}`" if settings else "", *by_epoch, f"{mean(best):.2f}",
            f"{stdev(last):.2f}" if len(last) > 1 else "",
            f"{mean(gains):+.2f}" if gains and name != names[0] else "",
            ", ".join(f"{f:.2f} ({seed})" for seed, f in sorted(ended.items())),
            mine[0]["updates"], f"{seconds:.0f}",
        ])  # fmt: skip
    head = ["", "settings", *(f"epoch {i}" for i in range(1, epochs + 1)), "best epoch", "spread"]
    head += [f"to {names[0]}", "each seed (seed)", "updates", "seconds"]
    return table(head, cells)


def overview(jobs: Runs, rate: float, workers: int) -> list[str]:
    """Lines on what is to be done, and how long it takes.

    rate: updates of all trainings together in a second; 0 if it is not known.
    """
    total = sum(job["updates"] for job in jobs)
    by_table = Counter({job["table"]: 0 for job in jobs})
    for job in jobs:
        by_table[job["table"]] += job["updates"]
    lines = [f"{len(jobs)} trainings, {total:,} updates"]
    lines += [f"  {name}: {n:,} updates" for name, n in by_table.items()]
    if rate and jobs:
        longest = max(job["updates"] for job in jobs) * min(workers, len(jobs)) / rate
        lines += [
            f"about {total / rate:.0f} s at {rate:g} updates a second in all, and at least "
            f"{longest:.0f} s for the longest of them"
        ]
    return lines


def measured_rate(runs: Runs) -> float:
    """Updates a second in all: of the last epochs of our own trainings, if all ran at once."""
    rates: list[float] = []
    for run in runs:
        rows = run["epochs_done"]
        if run["variant"] != THEIRS and rows and rows[-1]["seconds"]:
            before = rows[-2]["step"] if len(rows) > 1 else 0
            rates.append((rows[-1]["step"] - before) / rows[-1]["seconds"])
    return sum(rates, 0.0)
