"""The speed benchmark as a picture: characters per second as bars, the bound as a line.

Runs in the peers' environment, which has matplotlib.

python speed_picture.py RESULT.json PICTURE.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OURS, PEER, LINE = "#1f6f8b", "#b8c4cc", "#c0392b"
TITLES = {"inference": "Inference", "base": "Inference, bert-base size"}


def main() -> None:
    """Draw the parts that have bars."""
    result = json.loads(Path(sys.argv[1]).read_text(encoding="utf8"))
    panels = [(part, bars(result[part])) for part in TITLES if part in result]
    if "training" in result:
        panels.append(("training", bars(result["training"])))
    panels = [(part, rows) for part, rows in panels if rows]
    if not panels:
        return
    counts = [len(rows) for _, rows in panels]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(10, sum(0.36 * n + 1.1 for n in counts)),
        height_ratios=[n + 1.5 for n in counts],
        squeeze=False,
        layout="constrained",
    )
    for axis, (part, rows) in zip(axes[:, 0], panels, strict=True):
        draw(axis, rows, title(part, result))
    figure.supxlabel(
        "characters per second (median; whiskers: slowest and fastest round)", fontsize=10
    )
    figure.savefig(sys.argv[2], dpi=130)


def bars(part: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Rows that were measured, the slowest first."""
    rows = [(name, row) for name, row in part["rows"].items() if "characters_per_second" in row]
    return sorted(rows, key=lambda pair: pair[1]["characters_per_second"])


def title(part: str, result: dict[str, Any]) -> str:
    """What a panel shows."""
    found = result[part]
    if part == "training":
        return f"Training, one pass over {found['sentences']} sentences, batches of 16"
    return f"{TITLES[part]}: {found['encoder']}; {result['threads']} threads"


def draw(axis: Any, rows: list[tuple[str, dict[str, Any]]], heading: str) -> None:
    """One panel."""
    names = [name for name, _ in rows]
    speeds = [row["characters_per_second"] for _, row in rows]
    spread = [
        [row["characters_per_second"] - row["min"] for _, row in rows],
        [row["max"] - row["characters_per_second"] for _, row in rows],
    ]
    ours = [name.startswith(("nlp.pipe", "spacy bert-crf")) for name in names]
    axis.barh(
        names,
        speeds,
        xerr=spread,
        color=[OURS if own else PEER for own in ours],
        error_kw={"lw": 1, "ecolor": "#555555", "capsize": 2},
    )
    most = max(row["max"] for _, row in rows)
    for place, (speed, (_, row)) in enumerate(zip(speeds, rows, strict=True)):
        # On white, so that the line of the bound can cross it.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        at = row["max"] + 0.015 * most
        axis.text(at, place, f"{speed:,.0f}", va="center", fontsize=9, bbox=box, zorder=4)
    bound = next((row for name, row in rows if name.endswith("(the bound)")), None)
    if bound:
        axis.axvline(bound["characters_per_second"], color=LINE, lw=1.2, ls="--", zorder=3)
        words = "the bound: the encoder alone, float32, transformers"
        axis.plot([], [], color=LINE, lw=1.2, ls="--", label=words)
        axis.legend(loc="lower right", fontsize=8.5, frameon=False)
    for label, own in zip(axis.get_yticklabels(), ours, strict=True):
        label.set_fontweight("bold" if own else "normal")
    axis.set_xlim(0, most * 1.12)
    axis.set_title(heading, loc="left", fontsize=10.5)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)


if __name__ == "__main__":
    main()
