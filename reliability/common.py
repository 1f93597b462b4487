"""What the modules of this folder share: the command line, and results."""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("RELIABILITY_RESULTS", ROOT / "reliability" / "results"))
WORK = ROOT / "reliability" / "work"

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def parser_for(description: str) -> argparse.ArgumentParser:
    """A command line that shows a module's docstring as it stands."""
    spec = sys.modules["__main__"].__spec__
    name = spec.name.removesuffix(".__main__") if spec else "reliability"
    return argparse.ArgumentParser(
        f"python -m {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


class Result:
    """The rows of one module's table, kept in results/NAME.json.

    A row of a later call takes the place of the row with the same words, so that a long part can
    be run in pieces.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = RESULTS / f"{name}.json"
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, *, tries: int, bad: int, command: str, **more: Any) -> None:
        """Add a row: what was tried, how often, how often it went wrong, how to do it again."""
        row = {"what": what, "tries": tries, "bad": bad, "command": command, **more}
        self.rows.append(row)
        note = f" ({more['note']})" if more.get("note") else ""
        print(
            f"{'ok  ' if not bad else 'BAD '} {what}: {tries:,} tries, {bad} bad{note}", flush=True
        )

    def write(self) -> None:
        """Write the rows, beside those of former calls."""
        if not self.rows:
            return
        from spacy_bert_crf._files import write_text
        from spacy_bert_crf._provenance import versions

        old = []
        if self.path.is_file():
            old = json.loads(self.path.read_text(encoding="utf8"))["rows"]
        mine = {row["what"] for row in self.rows}
        data = {
            "name": self.name,
            "date": time.strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "versions": versions(),
            "rows": [*(row for row in old if row["what"] not in mine), *self.rows],
        }
        write_text(self.path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")

    def status(self) -> int:
        """Exit status: 0 if nothing went wrong."""
        return int(any(row["bad"] for row in self.rows))
