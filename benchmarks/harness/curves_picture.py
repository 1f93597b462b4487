"""Entity F1 by epoch as a picture: a panel for each table, a curve for each row.

Runs in any environment that has matplotlib.

python curves_picture.py RESULT.json PICTURE.png [TABLE ...]
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

THEIRS, PEER = "bert4torch", "#7f8c8d"
OURS = ("#1f6f8b", "#c0392b", "#e08e0b", "#4b8b3b", "#7d3c98", "#a04000", "#117a65", "#2e4053")
#: Rows of a panel beyond these are left out, so that curves can be told apart.
MOST = len(OURS)


def main() -> None:
    """Draw the tables whose trainings have at least two epochs, or those that are named."""
    result = json.loads(Path(sys.argv[1]).read_text(encoding="utf8"))
    panels = []
    for name, rows in result["tables"].items():
        if sys.argv[3:] and name not in sys.argv[3:]:
            continue
        runs = [run for run in result["runs"] if run["table"] == name and run["epochs_done"]]
        if runs and max(len(run["epochs_done"]) for run in runs) > 1:
            panels.append((name, rows, runs))
    if not panels:
        return
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(6.2 * across, 4.2 * down), squeeze=False, layout="constrained"
    )
    for axis, (name, rows, runs) in zip(axes.flat, panels, strict=False):
        draw(axis, name, rows, runs)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("epoch (mean over seeds; shaded: lowest to highest)", fontsize=10)
    figure.supylabel("entity F1 on dev, percent", fontsize=10)
    figure.savefig(sys.argv[2], dpi=130)


def draw(axis: Any, name: str, rows: list[str], runs: list[dict[str, Any]]) -> None:
    """One panel."""
    colours = iter(OURS)
    there = [row for row in rows if any(run["row"] == row for run in runs)]
    theirs = [row for row in there if row.endswith(THEIRS)]
    ours = [row for row in there if row not in theirs][: MOST - len(theirs)]
    for row in [*ours, *theirs]:
        found: dict[int, list[float]] = {}
        mine = [run for run in runs if run["row"] == row]
        for run in mine:
            for each in run["epochs_done"]:
                found.setdefault(each["epoch"], []).append(100 * each["f"])
        epochs = sorted(found)
        means = [sum(found[e]) / len(found[e]) for e in epochs]
        is_theirs = row in theirs
        colour = PEER if is_theirs else next(colours)
        style = "--" if is_theirs else "-"
        label = f"{row} ({len(mine)})"
        axis.plot(epochs, means, style, color=colour, label=label, lw=1.6, marker=".", ms=5)
        low, high = ([f(found[e]) for e in epochs] for f in (min, max))
        axis.fill_between(epochs, low, high, color=colour, alpha=0.15, lw=0)
    axis.set_title(name, loc="left", fontsize=10.5)
    axis.legend(loc="lower right", fontsize=8, frameon=False, title="(seeds)", title_fontsize=7)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(axis="y", color="#e5e8ea", lw=0.8)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
