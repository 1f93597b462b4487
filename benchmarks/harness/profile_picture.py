"""The result of benchmarks.speed.profile as a picture: one stacked bar for each kind.

python profile_picture.py RESULT.json PICTURE.png
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    """Draw."""
    result = json.loads(Path(sys.argv[1]).read_text(encoding="utf8"))
    kinds = result["kinds"]
    groups = list(next(iter(kinds.values()))["shares"])
    colours = plt.get_cmap("tab20").colors
    figure, axis = plt.subplots(figsize=(10, 1.9 + 0.7 * len(kinds)), layout="constrained")
    names = list(kinds)[::-1]
    left = [0.0] * len(names)
    for number, group in enumerate(groups):
        seconds = [kinds[name]["shares"][group] * kinds[name]["seconds"] for name in names]
        axis.barh(names, seconds, left=left, color=colours[number], label=group, height=0.6)
        whole = max(kind["seconds"] for kind in kinds.values())
        for place, (begin, value) in enumerate(zip(left, seconds, strict=True)):
            if value > 0.03 * whole:
                share = kinds[names[place]]["shares"][group]
                axis.text(
                    begin + value / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=8
                )
        left = [begin + value for begin, value in zip(left, seconds, strict=True)]
    axis.set_xlabel("seconds (shares of a profiled pass)")
    axis.set_title(f"nlp.pipe: {result['data']}, {result['threads']} threads", loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.savefig(sys.argv[2], dpi=130)


if __name__ == "__main__":
    main()
