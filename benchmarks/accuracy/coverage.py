"""One corpus in parts, each annotated for one label only. README.md says what is compared.

python -m benchmarks.accuracy.coverage --encoder encoders/people-daily --train TRAIN --dev DEV \
    --epochs 3 --seeds 1 2 3 --output benchmarks/results/coverage
"""

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from spacy.tokens import Doc

from benchmarks.accuracy.table import curves, opening
from benchmarks.harness.common import parser_for, write_results
from benchmarks.harness.tables import table
from benchmarks.harness.trials import (
    Corpus,
    add_keep,
    add_options,
    count,
    parse,
    prepare,
    status,
    train_sides,
    write_docs,
)
from spacy_bert_crf.annotation.coverage.covers import covers_of, set_covers

ALONE = "alone"
#: full: all labels everywhere. covers: each part says what it covers. naive: it does not.
#: alone: a pipeline for each label, trained on the part that has it.
VARIANTS = ("full", "covers", "naive", ALONE)


def options() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    add_options(parser)
    add_keep(parser)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, help="train these variants")
    parser.add_argument(
        "--choice", type=int, default=0, help="seed of which docs are in which part"
    )
    return parse(parser)


def divide(docs: list[Doc], labels: list[str], says: bool, seed: int) -> None:
    """Leave the entities of one label in each doc: the same number of docs for each label.

    says: whether the docs say which label they cover. seed: of which docs are in which part.
    """
    order = list(range(len(docs)))
    random.Random(seed).shuffle(order)
    for place, i in enumerate(order):
        label = labels[place % len(labels)]
        docs[i].set_ents([e for e in docs[i].ents if e.label_ == label], default="outside")
        set_covers(docs[i], [label] if says else None)


def make(variant: str, args: argparse.Namespace, corpus: Corpus, dst: Path) -> dict[str, Any]:
    """Write the training docs of a variant. RETURNS: counts of what is annotated in them."""
    docs = corpus.docs(corpus.train)
    if variant != "full":
        divide(docs, corpus.labels, variant == "covers", args.choice)
    write_docs(dst, docs)
    return count(docs)


def part_of(label: str, args: argparse.Namespace, corpus: Corpus, work: Path) -> Corpus:
    """The part that is annotated for a label, and a dev corpus that covers nothing else."""
    docs, dev = corpus.docs(corpus.train), corpus.docs(corpus.dev)
    divide(docs, corpus.labels, True, args.choice)
    own = [doc for doc in docs if covers_of(doc) == {label}]
    for doc in dev:
        set_covers(doc, [label])
    part = replace(
        corpus, train=work / f"{label}.spacy", dev=work / f"{label}-dev.spacy", labels=[label]
    )
    write_docs(part.train, own)
    write_docs(part.dev, dev)
    return part


def run(args: argparse.Namespace, work: Path) -> None:
    """Run all trainings and write the result after each. Raises Failed, BertCrfError."""
    encoder, corpus, about = prepare(args, work)
    chosen = args.only or list(VARIANTS)
    names = [name for name in VARIANTS if name in chosen and name != ALONE]
    made = {name: make(name, args, corpus, work / f"{name}.spacy") for name in names}
    known = {**about, "variants": made, "choice": args.choice, "set": args.set}
    done: dict[str, list[dict[str, Any]]] = {}

    def write(sides: dict[str, list[dict[str, Any]]]) -> None:
        done.update(sides)
        result = {**known, "sides": done}
        write_results(args.stem, result, markdown(result))

    files = {name: work / f"{name}.spacy" for name in names}
    train_sides(args, encoder, corpus, files, work, write)
    for label in corpus.labels if ALONE in chosen else ():
        part = part_of(label, args, corpus, work)
        made[f"{label} {ALONE}"] = count(corpus.docs(part.train))
        train_sides(args, encoder, part, {f"{label} {ALONE}": part.train}, work, write)


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    sides = {name: runs for name, runs in result["sides"].items() if runs}
    rows = [(name, f"{made['entities']:,}") for name, made in result["variants"].items()]
    lines = [
        *opening("Each part annotated for one label", result, sides),
        "",
        *table(("", "entities in train"), rows),
        "",
        *curves(sides),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """RETURNS: the exit code."""
    return status(options(), run, "coverage-")


if __name__ == "__main__":
    sys.exit(main())
