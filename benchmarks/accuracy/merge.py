"""Seeds and rows of one benchmark that ran side by side, in one result.

    python -m benchmarks.accuracy.merge coverage coverage-1.json coverage-2.json \\
        --output benchmarks/results/coverage

The results must be of the same corpora, settings and machine. Each has its command in the page.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.harness.common import Failed, parser_for, status_of, stem_of, write_results

#: Benchmarks whose results have `sides`, with a list of runs for each, one for each seed.
BENCHMARKS = ("coverage", "joint", "new_labels", "selection")
#: What was counted for each row. A result need not have all rows.
COUNTED = "variants"
#: What may differ between results.
OWN = {"command", "note", "sides", "machine", "needed", COUNTED}


def merged(results: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """One result of several. Raises Failed where they are not of the same things."""
    first = results[0]
    out = {**first, "sides": merged_sides([result["sides"] for result in results])}
    counted: dict[str, Any] = {}
    for result, name in zip(results, names, strict=True):
        for row, found in result.get(COUNTED, {}).items():
            if counted.setdefault(row, found) != found:
                raise Failed(f"{name}: {row} was trained on other docs than before")
        for key in (first.keys() | result.keys()) - OWN:
            if first.get(key) != result.get(key):
                raise Failed(f"{name} and {names[0]} differ in {key}: run them with the same one")
    if counted:
        out[COUNTED] = counted
    out["command"] = "\n".join(result["command"] for result in results)
    out["note"] = " ".join(dict.fromkeys(r["note"] for r in results if r["note"]))
    return out


def merged_sides(sides: list[Any]) -> Any:
    """The runs of each side, by seed. Raises Failed for a seed that is there twice."""
    if isinstance(sides[0], dict):
        names = dict.fromkeys(name for each in sides for name in each)
        return {name: merged_sides([each.get(name, []) for each in sides]) for name in names}
    runs = sorted((run for each in sides for run in each), key=lambda run: run["seed"])
    seeds = [run["seed"] for run in runs]
    if len(set(seeds)) < len(seeds):
        raise Failed(f"the seeds {seeds} are not all different")
    return runs


def main() -> int:
    """The command line. RETURNS: the exit code."""
    parser = parser_for(__doc__ or "")
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("results", type=Path, nargs="+", metavar="NAME.json")
    parser.add_argument("--output", type=Path, required=True, help="write NAME.md and NAME.json")
    args = parser.parse_args()
    stem = stem_of(args.output)

    def run() -> None:
        results = [json.loads(path.read_text(encoding="utf8")) for path in args.results]
        result = merged(results, [path.name for path in args.results])
        module = import_module(f"benchmarks.accuracy.{args.benchmark}")
        if "needed" in result:
            result["needed"] = module.needed(result["sides"])
        write_results(stem, result, module.markdown(result))

    return status_of(run, stem)


if __name__ == "__main__":
    sys.exit(main())
