"""Entity F1 by annotated characters as a picture: a curve for each way of choosing texts.

Runs in any environment that has matplotlib.

python selection_picture.py RESULT.json PICTURE.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RANDOM, GREY = "random", "#7f8c8d"
COLOURS = ("#1f6f8b", "#c0392b", "#e08e0b", "#4b8b3b")


def main() -> None:
    """Draw the mean curve of each way, shaded from the lowest to the highest seed."""
    result = json.loads(Path(sys.argv[1]).read_text(encoding="utf8"))
    figure, axis = plt.subplots(figsize=(6.8, 4.4), layout="constrained")
    colours = iter(COLOURS)
    for name, runs in result["sides"].items():
        if runs:
            draw(axis, name, runs, GREY if name == RANDOM else next(colours))
    last = [run["rounds"][-1]["f"] for run in result["sides"][RANDOM]]
    if last:
        axis.axhline(100 * sum(last) / len(last), color=GREY, lw=0.8, ls=":")
    axis.set_xlabel("annotated characters (mean over seeds; shaded: lowest to highest)")
    axis.set_ylabel("entity F1 on dev, percent")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.legend(loc="lower right", frameon=False, fontsize=9)
    axis.grid(axis="y", color="#e5e8ea", lw=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(sys.argv[2], dpi=130)


def draw(axis: Any, name: str, runs: list[dict[str, Any]], colour: str) -> None:
    """One curve."""
    rounds = list(zip(*(run["rounds"] for run in runs), strict=True))
    where = [sum(row["characters"] for row in rows) / len(rows) for rows in rounds]
    scores = [[100 * row["f"] for row in rows] for rows in rounds]
    means = [sum(each) / len(each) for each in scores]
    style = "--" if name == RANDOM else "-"
    label = f"{name} ({len(runs)} seed{'s' * (len(runs) > 1)})"
    axis.plot(where, means, style, color=colour, label=label, lw=1.6, marker=".", ms=6)
    axis.fill_between(where, *zip(*((min(s), max(s)) for s in scores), strict=True),
                      color=colour, alpha=0.15, lw=0)  # fmt: skip


if __name__ == "__main__":
    main()
