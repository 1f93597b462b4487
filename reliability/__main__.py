"""Everything in this folder, and the table of docs/reliability.md.

    python -m reliability                        # hours: all sizes as promised
    python -m reliability --short                # at most 5 minutes, for CI
    python -m reliability --parts kills fuzz
    python -m reliability --table                # only the table, from results/

Each part writes results/NAME.json; the table is results/table.md.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from reliability.common import RESULTS, ROOT, WORK, parser_for
from spacy_bert_crf._files import write_text

#: The arguments of each part: in full, and in short.
PARTS: dict[str, tuple[list[str], list[str]]] = {
    "archives": ([], []),
    "servers": ([], []),
    "faults": ([], ["--only", "convert-corpus", "--only", "export"]),
    "kills": (["--kills", "51"], ["--kills", "2", "--per-run", "2", "--seed", "101"]),
    "annotation": (["--kills", "50"], []),
    "fuzz": (["--cases", "1000000"], ["--cases", "20000", "--seed", "101"]),
    "texts": (["--texts", "10000"], ["--texts", "300", "--longest", "20000"]),
    "families": ([], ["--short"]),
    "concurrency": (["--rounds", "20"], ["--rounds", "2"]),
    "memory": (["--minutes", "30"], ["--minutes", "0.2", "--epochs", "4"]),
    "versions": ([], []),
    "audit": ([], []),
    "gpu": ([], []),
}
#: Where the part's module is.
FOLDERS = {
    "interrupts": ("kills", "annotation", "faults", "concurrency"),
    "hostile": ("archives", "servers", "fuzz", "texts"),
    "supply": ("versions", "audit", "gpu"),
}
#: Take environments or packages of their own, or are among the tests in short.
LONG_ONLY = ("versions", "audit", "gpu", "annotation")


def module_of(part: str) -> str:
    """The module that a part runs."""
    folders = [name for name, parts in FOLDERS.items() if part in parts]
    return ".".join(["reliability", *folders, part])


def table(results: Path) -> str:
    """All results as Markdown, without the families, which have a page of their own."""
    lines = ["| fault or input | command | tries | bad | |", "|---|---|---|---|---|"]
    for name in (*(part for part in PARTS if part != "families"), "fuzz-guided"):
        path = results / f"{name}.json"
        if not path.is_file():
            continue
        for row in json.loads(path.read_text(encoding="utf8"))["rows"]:
            note = str(row.get("note", "")).replace("|", "\\|")
            cells = [row["what"], f"`{row['command']}`", f"{row['tries']:,}", str(row["bad"]), note]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """RETURNS: the exit code."""
    parser = parser_for(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--short", action="store_true", help="at most 5 minutes")
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    # A short run says yes or no; the table is of full ones.
    results = WORK / "short" if args.short else RESULTS
    failed = []
    for name in () if args.table else args.parts:
        if args.short and name in LONG_ONLY:
            continue
        words = PARTS[name][args.short]
        print(f"== {name} {' '.join(words)}", flush=True)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", module_of(name), *words],
            check=False,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RELIABILITY_RESULTS": str(results)},
        )
        print(f"   {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    write_text(results / "table.md", table(results))
    print(f"wrote {results / 'table.md'}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
