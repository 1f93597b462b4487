"""Entity F1 by epoch of many trainings at once, on one GPU or on the CPU.

    python -m benchmarks.accuracy.convergence --encoder encoders/people-daily \\
        --corpus people-daily train.spacy dev.spacy bio \\
        --plan benchmarks/accuracy/convergence_plan.yml \\
        --variants benchmarks/accuracy/convergence.yml --peer-python ENV/bin/python \\
        --gpu-id 0 --workers 16 --seconds 500 --output benchmarks/results/convergence

The result is written after each epoch of each training. Trainings that it has are not run again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.accuracy.convergence.plan import (
    THEIRS,
    furthest,
    read_plan,
    read_source,
    read_variants,
    same,
)
from benchmarks.accuracy.convergence.report import markdown, measured_rate, overview
from benchmarks.accuracy.convergence.slots import Slots
from benchmarks.harness.common import (
    HARNESS,
    Failed,
    command_line,
    end_at_sigterm,
    parser_for,
    say,
    spacy_command,
    stem_of,
)
from benchmarks.harness.machine_info import gpu_name, machine
from benchmarks.harness.trials import settings_of
from spacy_bert_crf._files import write_text
from spacy_bert_crf._provenance import versions
from spacy_bert_crf.encoder.checkpoint_files import read_json
from spacy_bert_crf.errors import BertCrfError


def options() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__ or "")
    add = parser.add_argument
    add("--encoder", type=Path, required=True, help="folder of a converted encoder")
    add("--corpus", action="append", required=True, nargs="+", metavar="WORD",
        help="NAME TRAIN DEV [SCHEME]: two DocBins, and the scheme of bert4torch's tags (bio); "
        "as often as wanted")  # fmt: skip
    add("--variants", type=Path, action="append", default=[],
        help="YAML: name of a variant to its settings; as often as wanted")  # fmt: skip
    add("--plan", type=Path, required=True, help="YAML: the trainings in order of importance")
    add("--only", nargs="+", default=[], help="run these tables of the plan only")
    add("--lang", default="zh", help="language of the tokenizer")
    add("--layers", type=int, default=0, help="keep so many layers of the encoder; 0 keeps all")
    add("--set", action="append", default=[], metavar="SECTION.NAME=VALUE",
        help="a setting of all variants, as often as wanted")  # fmt: skip
    add("--gpu-id", type=int, default=-1, help="a GPU by number, -1 for the CPU")
    add("--workers", type=int, default=1, help="trainings at once, each in its own process")
    add("--threads", type=int, default=1, help="of each training")
    add("--seconds", type=float, default=0, help="end all trainings after so long; 0: no limit")
    add("--job-seconds", type=float, default=24 * 3600, help="end a training after so long")
    add("--rate", type=float, default=1e-4, help="bert4torch: learning rate of Adam")
    add("--peer-python", type=Path, help="Python of bert4torch's environment; without it, its "
        "trainings are left out")  # fmt: skip
    add("--peer-packages", type=Path, help="folder of packages that this Python lacks")
    add("--peer-products", choices=["highest", "medium"], default="highest",
        help="bert4torch: precision of products; medium: bfloat16 if the CPU has it")  # fmt: skip
    add("--models", type=Path, help="folder for the pipelines that the plan keeps")
    add("--updates-per-second", type=float, default=0, help="to say beforehand how long it takes")
    add("--dry-run", action="store_true", help="only say what is to be done")
    add("--picture-python", type=Path, default=Path(sys.executable),
        help="a Python that has matplotlib")  # fmt: skip
    add("--output", type=Path, required=True, help="NAME.json, NAME.md and NAME.png")
    args = parser.parse_args()
    args.set = settings_of(parser, args.set)
    if min(args.workers, args.threads) < 1:
        parser.error("--workers and --threads must be at least 1")
    return args


def run(args: argparse.Namespace, work: Path) -> int:
    """Run the plan. RETURNS: the exit code. Raises Failed, BertCrfError."""
    sources = {source.name: source for source in (read_source(t, args.lang) for t in args.corpus)}
    jobs = read_plan(args.plan, sources, read_variants(args.variants))
    jobs = [job for job in jobs if not args.only or job["table"] in args.only]
    if not args.peer_python:
        jobs = [job for job in jobs if job["variant"] != THEIRS]
    stem = stem_of(args.output)
    path = Path(f"{stem}.json")
    earlier = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    runs: list[dict[str, Any]] = earlier.get("runs", [])
    todo = [job for job in jobs if not any(run["complete"] and same(run, job) for run in runs)]
    for line in overview(todo, args.updates_per_second, args.workers):
        say(line)
    if args.dry_run:
        return 0
    encoder = args.encoder.resolve()
    if args.layers:
        layers = ("--layers", str(args.layers))
        spacy_command("convert-checkpoint", str(encoder), str(work / "encoder"), *layers)
        encoder = work / "encoder"
    if args.models:
        args.models.mkdir(parents=True, exist_ok=True)
    config = read_json(encoder / "config.json")
    tables: dict[str, list[str]] = earlier.get("tables", {})
    for job in jobs:
        rows = tables.setdefault(job["table"], [])
        if job["row"] not in rows:
            rows.append(job["row"])
    settings = {
        "machine": machine(),
        "gpu": gpu_name(args.gpu_id),
        "workers": args.workers,
        "threads": args.threads,
        "peer_products": args.peer_products,
        "encoder": f"{args.encoder.name}, {config['num_hidden_layers']} layers, "
        f"width {config['hidden_size']}",
        "versions": versions(),
        "command": command_line(),
    }
    sessions: list[dict[str, Any]] = [*earlier.get("sessions", []), settings]
    content = {
        "sessions": sessions,
        "corpora": earlier.get("corpora", {}) | {n: s.corpus.counts for n, s in sources.items()},
        "tables": tables,
    }

    def write() -> None:
        shown = {**content, "runs": furthest(runs)}
        write_text(path, json.dumps(shown, indent=1, ensure_ascii=False) + "\n")
        write_text(f"{stem}.md", markdown(shown))

    write()
    began, before = time.monotonic(), len(runs)
    Slots(args, encoder, sources, work, runs, len(sessions) - 1, write).run(todo)
    new = runs[before:]
    took = time.monotonic() - began
    say(
        f"{sum(r['complete'] for r in new)} of {len(todo)} trainings in {took:.0f} s; our last "
        f"epochs made {measured_rate(new):.1f} updates a second in all if they ran at once"
    )
    write()
    draw(args.picture_python, stem)
    return int(any(not r["complete"] for r in new) or len(new) < len(todo))


def draw(python: Path, stem: Path) -> None:
    """Draw STEM.png from STEM.json, where there is matplotlib."""
    program = HARNESS / "curves_picture.py"
    done = subprocess.run(
        [python, program, f"{stem}.json", f"{stem}.png"], capture_output=True, text=True
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        say(f"no picture ({said}): run {program.name} with a Python that has matplotlib")


def main() -> int:
    """RETURNS: the exit code."""
    args = options()
    end_at_sigterm()
    with tempfile.TemporaryDirectory(prefix="convergence-", ignore_cleanup_errors=True) as folder:
        try:
            return run(args, Path(folder))
        except (Failed, BertCrfError) as err:
            say(f"✘ {err}")
            return 1


if __name__ == "__main__":
    sys.exit(main())
