"""Entity scores beside bert4torch's CRF example, after the same epochs on the same data.

README.md says what is the same on both sides and what is not. bert4torch runs in an environment
of its own.

python -m benchmarks.accuracy --encoder encoders/people-daily --train TRAIN --dev DEV \
    --scheme bmes --epochs 3 --seeds 1 --output benchmarks/results/accuracy
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.accuracy.peer import train_theirs
from benchmarks.accuracy.table import by_epoch, by_type, header, settings_line, versions_line
from benchmarks.harness.common import make_env, parser_for, say, write_results
from benchmarks.harness.trials import add_options, parse, prepare, say_epochs, status, train_ours

OURS, THEIRS = "spacy bert-crf train", "bert4torch's example"


def options() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    add_options(parser)
    add = parser.add_argument
    add("--side", default="both", choices=("ours", "theirs", "both"))
    add("--rate", type=float, default=1e-4, help="theirs: learning rate of Adam")
    add("--env", type=Path, help="environment of bert4torch; made if it isn't there")
    return parse(parser)


def run(args: argparse.Namespace, work: Path) -> None:
    """Run all trainings and write the result after each. Raises Failed, BertCrfError."""
    encoder, corpus, about = prepare(args, work)
    sides: dict[str, list[dict[str, Any]]] = {OURS: [], THEIRS: []}
    result: dict[str, Any] = {
        **about,
        "scheme": corpus.scheme,
        "sides": sides,
    }
    python = None
    if args.side != "ours":
        env = args.env or work / "env"
        python = make_env(env, "requirements-bert4torch.txt", "bert4torch", work / "pip.log")
    for seed in args.seeds:
        for name in sides:
            if args.side == ("theirs" if name == OURS else "ours"):
                continue
            say(f"{name}, seed {seed}")
            with tempfile.TemporaryDirectory(dir=work) as folder:
                place = Path(folder)
                if name == OURS:
                    found = train_ours(args, encoder, corpus, corpus.train, seed, place)
                else:
                    assert python is not None
                    found = train_theirs(args, encoder, corpus, python, seed, place)
            say_epochs(name, found)
            sides[name].append(found)
            write(args.stem, result)


def write(stem: Path, result: dict[str, Any]) -> None:
    """NAME.json and NAME.md."""
    write_results(stem, result, markdown(result))


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    sides = result["sides"]
    lines = [
        "# Accuracy beside bert4torch's CRF example",
        "",
        *header(result),
        "",
        versions_line(sides),
        "",
        settings_line(sides),
        "",
        "Entity precision, recall and F1 on dev in percent, means over seeds.",
        "",
        *by_epoch(sides, result["epochs"]),
        "",
        "## Per type, after the last epoch",
        "",
        *by_type(sides),
    ]
    for run in sides[THEIRS][:1]:
        lines += [
            "",
            f"bert4torch left out {run['left_out_of_training']} training texts; of dev, "
            f"{run['dev_not_read']} could not be read and {run['dev_cut']} were cut.",
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """RETURNS: the exit code."""
    return status(options(), run, "accuracy-")


if __name__ == "__main__":
    sys.exit(main())
