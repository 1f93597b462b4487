"""A trained pipeline learns one more label from a small corpus that covers nothing else.

README.md says what is compared.

python -m benchmarks.accuracy.new_labels --encoder encoders/people-daily --train TRAIN --dev DEV \
    --new ORG --texts 500 --epochs 3 --seeds 1 2 3 --output benchmarks/results/new_labels
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.accuracy.table import by_epoch, by_type, opening
from benchmarks.harness.common import Failed, parser_for, say, write_results
from benchmarks.harness.trials import (
    Corpus,
    add_options,
    parse,
    prepare,
    say_epochs,
    settings_of,
    status,
    train_ours,
    write_docs,
)
from spacy_bert_crf.annotation.coverage.covers import set_covers

#: Whether the small corpus says what it covers, the weight of the former model, and how far the
#: encoder goes back to it, by variant.
FURTHER: dict[str, tuple[bool, float, float]] = {
    "retained": (True, 0.5, 0.15),
    "not back": (True, 0.5, 0.0),
    "former only": (True, 1.0, 0.15),
    "gold only": (True, 0.0, 0.0),
    "naive": (False, 0.0, 0.0),
}


def options() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    add_options(parser)
    add = parser.add_argument
    add("--new", required=True, help="the label to learn")
    add("--texts", type=int, default=500, help="size of the small corpus")
    add("--further-epochs", type=int, default=0, help="epochs on it; 0 for --epochs")
    add(
        "--further-set", action="append", default=[], metavar="SECTION.NAME=VALUE",
        help="a setting of the trainings on it alone, as often as wanted",
    )  # fmt: skip
    add("--choice", type=int, default=0, help="seed of which texts are in it")
    add("--only", nargs="+", choices=(*FURTHER, "both"), help="these rows, after base")
    args = parse(parser)
    args.further_set = settings_of(parser, args.further_set)
    return args


def make(args: argparse.Namespace, corpus: Corpus, work: Path) -> None:
    """Write base.spacy without the new label, small.spacy and plain.spacy with nothing else, and
    both.spacy, which has all that base and small have."""
    docs = corpus.docs(corpus.train)
    if args.new not in corpus.labels or args.texts >= len(docs):
        raise Failed(f"the corpus has labels {corpus.labels} and {len(docs):,} docs.")
    random.Random(args.choice).shuffle(docs)
    small, base = docs[: args.texts], docs[args.texts :]
    old = [label for label in corpus.labels if label != args.new]
    for some, labels in ((small, [args.new]), (base, old)):
        for doc in some:
            doc.set_ents([e for e in doc.ents if e.label_ in labels], default="outside")
            set_covers(doc, labels)
    write_docs(work / "both.spacy", docs)
    write_docs(work / "small.spacy", small)
    for doc in docs:
        set_covers(doc, None)
    write_docs(work / "plain.spacy", small)
    write_docs(work / "base.spacy", base)


def sourced(
    source: Path, weight: float, share: float, epochs: int, settings: dict[str, Any]
) -> Callable[[Any], None]:
    """A change of a config: go on with a trained pipeline, with these settings of the training.

    weight, share: the settings self_distillation and former_share.
    """

    def change(config: Any) -> None:
        config["components"]["bert_crf"] = {"source": str(source)}
        config["initialize"]["components"] = {}
        config["initialize"]["after_init"] = {
            "@callbacks": "spacy_bert_crf.learn_new_labels.v1",
            "self_distillation": weight, "former_share": share,
        }  # fmt: skip
        config["training"]["max_epochs"] = epochs
        for name, value in settings.items():
            *sections, last = name.split(".")
            section = config
            for key in sections:
                section = section[key]
            section[last] = value

    return change


def run(args: argparse.Namespace, work: Path) -> None:
    """Run all trainings and write the result after each. Raises Failed, BertCrfError."""
    encoder, corpus, about = prepare(args, work)
    make(args, corpus, work)
    names = ("base", *(args.only or (*FURTHER, "both")))
    sides: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    more = {"new": args.new, "texts": args.texts, "choice": args.choice, "set": args.set}
    more["further_set"] = args.further_set
    result = {**about, **more, "sides": sides}
    old = [label for label in corpus.labels if label != args.new]
    for seed in args.seeds:
        with tempfile.TemporaryDirectory(dir=work) as kept:
            source = Path(kept) / "base"
            for name in sides:
                covers, weight, share = FURTHER.get(name, (True, 0.0, 0.0))
                file = {"base": "base", "both": "both"}.get(name, "small" if covers else "plain")
                own = Corpus(**{**vars(corpus), "labels": old}) if name == "base" else corpus
                epochs = args.further_epochs or args.epochs
                change = sourced(source, weight, share, epochs, args.further_set)
                say(f"{name}, seed {seed}")
                with tempfile.TemporaryDirectory(dir=work) as folder:
                    found = train_ours(
                        args, encoder, own, work / f"{file}.spacy", seed, Path(folder),
                        change=change if name in FURTHER else lambda config: None,
                        keep=source if name == "base" else None,
                    )  # fmt: skip
                say_epochs(name, found)
                sides[name].append(found)
                write_results(args.stem, result, markdown(result))


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    sides = {name: runs for name, runs in result["sides"].items() if runs}
    longest = max(len(run["epochs"]) for runs in sides.values() for run in runs)
    lines = [
        *opening(f"{result['new']} learned from {result['texts']:,} texts", result, sides),
        "",
        "## Per type on dev, after the last epoch",
        "",
        *by_type(sides),
        "",
        "## Entity precision, recall and F1 on dev in percent, means over seeds",
        "",
        *by_epoch(sides, longest),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """RETURNS: the exit code."""
    return status(options(), run, "new-labels-")


if __name__ == "__main__":
    sys.exit(main())
