"""F1 with products in float32 and in 16 bits, one training for each seed, nothing set by hand.

    python -m benchmarks.accuracy.precision --encoder encoders/quickstart --train train.bmes \\
        --dev dev.bmes --seeds 1 2 3 --output benchmarks/results/precision
"""

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.accuracy.ways_in import gpu_name, run_python
from benchmarks.harness.common import parser_for, say, write_json
from benchmarks.harness.tables import table
from benchmarks.harness.trials import add_options, parse, prepare, status
from spacy_bert_crf._files import write_text

#: Values of mixed_precision, and what the table calls them.
SETTINGS = {"false": "float32", "auto": "mixed precision, the default"}
SETTING = "--components.bert_crf.model.tok2vec.mixed_precision"


def train(args: argparse.Namespace, encoder: Path, work: Path, seed: int, value: str) -> Any:
    """One training, and the scores of its best epoch in its own precision."""
    ours, name = ("-m", "spacy", "bert-crf"), f"{value}-{seed}"
    config, out, scores = work / f"{name}.cfg", work / name, work / f"{name}.json"
    run_python(
        *ours, "init-config", config, "--lang", args.lang, "--encoder", encoder,
        "--train", work / "train.spacy", "--dev", work / "dev.spacy",
    )  # fmt: skip
    gpu, began = ("--gpu-id", args.gpu_id), time.monotonic()
    run_python(*ours, "train", config, out, SETTING, value, "--training.seed", seed, *gpu)
    seconds = time.monotonic() - began
    run_python(*ours, "evaluate", out / "model-best", work / "dev.spacy", "--output", scores, *gpu)
    found = json.loads(scores.read_text(encoding="utf8"))
    say(f"{SETTINGS[value]}, seed {seed}: F {100 * found['ents_f']:.2f}, {seconds:.0f} s")
    return {"f": 100 * found["ents_f"], "seconds": seconds, "versions": found["versions"]}


def run(args: argparse.Namespace, work: Path) -> None:
    """Run the trainings and write the result. Raises Failed."""
    encoder, _, about = prepare(args, work)
    trials = [(value, seed) for seed in args.seeds for value in SETTINGS]
    with ThreadPoolExecutor(args.jobs) as pool:
        found = list(pool.map(lambda each: train(args, encoder, work, each[1], each[0]), trials))
    rows = {value: {} for value in SETTINGS}  # type: dict[str, dict[int, Any]]
    for (value, seed), row in zip(trials, found, strict=True):
        rows[value][seed] = row
    where = gpu_name(args.gpu_id) or about["machine"]["machine"]
    write_json(Path(f"{args.stem}.json"), {**about, "where": where, "trials": rows})
    lines = []
    means = {}
    for value, by_seed in rows.items():
        scores = [row["f"] for row in by_seed.values()]
        means[value] = statistics.mean(scores)
        seconds = statistics.median(row["seconds"] for row in by_seed.values())
        cells = [*(f"{score:.2f}" for score in scores), f"{means[value]:.2f}", f"{seconds:.0f}"]
        lines.append([SETTINGS[value], *cells])
    head = ["products of the encoder", *(f"seed {seed}" for seed in args.seeds), "mean", "seconds"]
    text = [
        "# F1 in mixed precision",
        "",
        f"`{about['command']}`",
        "",
        f"{about['encoder']}; {where}; train: {about['corpus']['train']['docs']} texts, dev: "
        f"{about['corpus']['dev']['docs']}. {args.jobs} trainings at once. {about['note']}",
        "",
        *table(head, lines),
        "",
        f"Difference of the means: {means['auto'] - means['false']:+.2f}.",
        "",
    ]
    write_text(Path(f"{args.stem}.md"), "\n".join(text))


def main() -> int:
    """The command line. RETURNS: the exit code."""
    parser = parser_for(__doc__ or "")
    add_options(parser)
    parser.add_argument("--gpu-id", type=int, default=-1, help="a GPU by number, -1 for the CPU")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    return status(parse(parser), run, "precision-")


if __name__ == "__main__":
    sys.exit(main())
