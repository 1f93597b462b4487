"""Everything in this folder, and the table of docs/reliability.md.

    python reliability/run.py                   # hours: all sizes as promised
    python reliability/run.py --short           # at most 5 minutes, for CI
    python reliability/run.py --parts kills fuzz
    python reliability/run.py --table           # only the table, from results/

Each part writes results/NAME.json; the table is results/table.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

#: What each part runs: in full, and in short.
PARTS: dict[str, tuple[list[str], list[str]]] = {
    "archives": ([], []),
    "servers": ([], []),
    "faults": ([], ["--only", "convert-corpus", "--only", "export"]),
    "kills": (["--kills", "51"], ["--kills", "2", "--per-run", "2", "--seed", "101"]),
    "fuzz": (["--cases", "1000000"], ["--cases", "20000", "--seed", "101"]),
    "texts": (["--texts", "10000"], ["--texts", "300", "--longest", "20000"]),
    "concurrency": (["--rounds", "20"], ["--rounds", "2"]),
    "memory": (["--minutes", "30"], ["--minutes", "0.2", "--epochs", "4"]),
    "versions": ([], []),
    "audit": ([], []),
}
#: Take environments of their own, so not in short.
LONG_ONLY = ("versions", "audit")


def table(results: Path) -> str:
    """All results as Markdown."""
    lines = ["| fault or input | command | tries | bad | |", "|---|---|---|---|---|"]
    for name in (*PARTS, "fuzz-guided"):
        path = results / f"{name}.json"
        if not path.is_file():
            continue
        for row in json.loads(path.read_text(encoding="utf8"))["rows"]:
            note = str(row.get("note", "")).replace("|", "\\|")
            cells = [row["what"], f"`{row['command']}`", f"{row['tries']:,}", str(row["bad"]), note]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--short", action="store_true", help="at most 5 minutes")
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    # A short run says yes or no; the table is of full ones.
    results = HERE / ("work/short" if args.short else "results")
    failed = []
    for name in () if args.table else args.parts:
        if args.short and name in LONG_ONLY:
            continue
        words = PARTS[name][args.short]
        print(f"== {name} {' '.join(words)}", flush=True)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py"), *words],
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RELIABILITY_RESULTS": str(results)},
        )
        print(f"   {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    sys.path.insert(0, str(HERE.parent))
    from spacy_bert_crf._files import write_text

    write_text(results / "table.md", table(results))
    print(f"wrote {results / 'table.md'}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
