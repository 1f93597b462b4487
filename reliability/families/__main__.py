"""All families of encoders with all commands, tiny and random: works, refused, or fault.

    python -m reliability.families                     # all, in about half an hour
    python -m reliability.families --short             # at most a minute, for CI
    python -m reliability.families --only roberta --only xlnet
    python -m reliability.families --table             # only the page, from results/

Writes results/families.json, and docs/families.md after a run of all. Results of several versions
of transformers stand beside each other on the page.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers

from reliability.common import RESULTS, ROOT, Result, parser_for
from reliability.families.commands import FAULT, Outcome, register, run_family
from reliability.families.encoders import FAMILIES
from reliability.families.page import page
from spacy_bert_crf._files import write_text

#: Families of the short run: one of each kind of tokenizer, of shared layers, of each refusal.
SHORT = ("electra", "longformer", "xlnet", "t5", "bart")
SHORT_FORMATS = ("huggingface", "torchscript", "torch-int8")
PAGE = ROOT / "docs" / "families.md"


def run(names: list[str], short: bool) -> Iterator[tuple[str, dict[str, Outcome]]]:
    """The outcomes of each family by command. Each family is printed when it is done."""
    register()
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            began = time.monotonic()
            more: dict[str, Any] = {"formats": SHORT_FORMATS} if short else {}
            outcomes = run_family(FAMILIES[name], Path(folder) / "work", **more)
            states = [outcome.state for outcome in outcomes.values()]
            counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
            print(f"{name}: {counts} ({time.monotonic() - began:.0f} s)", flush=True)
            for command, outcome in outcomes.items():
                if outcome.state == FAULT:
                    print(f"    FAULT {command}: {outcome.note[:500]}", flush=True)
            yield name, outcomes


def main() -> int:
    """RETURNS: the exit code, 1 if there is a fault."""
    parser = parser_for(__doc__)
    parser.add_argument("--short", action="store_true", help="a few families, at most a minute")
    parser.add_argument("--only", action="append", choices=FAMILIES, help="only this family")
    parser.add_argument("--table", action="store_true", help="only write the page")
    args = parser.parse_args()
    names = args.only or list(SHORT if args.short else FAMILIES)
    result = Result("families")
    if not args.table:
        version = transformers.__version__
        for name, outcomes in run(names, args.short):
            states = [outcome.state for outcome in outcomes.values()]
            result.add(
                f"encoder {name}, transformers {version}",
                tries=len(states),
                bad=states.count(FAULT),
                command="python -m reliability.families",
                family=name,
                transformers=version,
                cells={command: list(outcome) for command, outcome in outcomes.items()},
            )
            result.write()
    if args.table or not (args.short or RESULTS != ROOT / "reliability" / "results"):
        rows = json.loads(result.path.read_text(encoding="utf8"))["rows"]
        write_text(PAGE, page(rows))
        print(f"wrote {PAGE.relative_to(ROOT)}")
    return result.status()


if __name__ == "__main__":
    sys.exit(main())
