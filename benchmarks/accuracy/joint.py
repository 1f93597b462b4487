"""Corpora with different labels, trained on alone and together. README.md says what is compared.

python -m benchmarks.accuracy.joint --encoder encoders/people-daily \
    --part resumes=TRAIN,DEV --map resumes:NAME=PER --part weibo=TRAIN,DEV \
    --map weibo:PER.NAM=PER,GPE.NAM=LOC --epochs 3 --seeds 1 2 3 --output benchmarks/results/joint
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import spacy

from benchmarks.accuracy.new_labels import FURTHER, sourced
from benchmarks.accuracy.table import by_type, opening, percent
from benchmarks.harness.common import Failed, parser_for, say, spacy_command, write_results
from benchmarks.harness.machine_info import describe_machine
from benchmarks.harness.tables import table
from benchmarks.harness.trials import (
    Corpus,
    about,
    add_training_options,
    count,
    cut_encoder,
    evaluate,
    parse,
    settings_of,
    status,
    train_ours,
    write_docs,
)
from spacy_bert_crf.annotation.coverage.covers import set_covers
from spacy_bert_crf.annotation.docbin import read_docbin
from spacy_bert_crf.training.corpora import CORPORA

ALONE, TOGETHER = "alone", "together"


@dataclass
class Part:
    """One of the corpora. labels: what it covers, by the new names. weight: see Corpora.v1."""

    name: str
    files: dict[str, Path]
    map: str = ""
    weight: float = 1.0
    labels: tuple[str, ...] = ()


def options() -> argparse.Namespace:
    """The command line; `parts` with what it says of them."""
    parser = parser_for(__doc__)
    add_training_options(parser)
    add = parser.add_argument
    add("--part", action="append", required=True, metavar="NAME=TRAIN,DEV", help="a corpus")
    add(
        "--map", action="append", default=[], metavar="NAME:OLD=NEW,...",
        help="new names of labels of a part; see convert-corpus",
    )  # fmt: skip
    add(
        "--weight", action="append", default=[], metavar="NAME=NUMBER",
        help="how often texts of a part are drawn; see docs/coverage.md",
    )  # fmt: skip
    add("--then", metavar="NAME", help="go on with this part by itself, after all together")
    add("--then-epochs", type=int, default=2, help="so many epochs of it")
    add(
        "--then-set", action="append", default=[], metavar="SECTION.NAME=VALUE",
        help="a setting of going on, such as training.optimizer.encoder_lr=7e-5",
    )  # fmt: skip
    args = parse(parser)
    args.then_set = settings_of(parser, args.then_set)
    args.parts = {}
    try:
        for name, _, files in (each.partition("=") for each in args.part):
            train, dev = map(Path, files.split(","))
            args.parts[name] = Part(name, {"train": train, "dev": dev})
        for name, _, names in (each.partition(":") for each in args.map):
            args.parts[name].map = names
        for name, _, weight in (each.partition("=") for each in args.weight):
            args.parts[name].weight = float(weight)
    except (ValueError, KeyError) as err:
        parser.error(f"--part NAME=TRAIN,DEV, --map NAME:OLD=NEW, --weight NAME=1.0: {err}")
    for path in (path for part in args.parts.values() for path in part.files.values()):
        if not path.exists():
            parser.error(f"there is no {path}")
    if len(args.parts) < 2:
        parser.error("give at least two parts")
    if args.then and args.then not in args.parts:
        parser.error(f"--then {args.then} is no part: {', '.join(args.parts)}")
    return args


def convert(part: Part, args: argparse.Namespace, work: Path) -> dict[str, dict[str, Any]]:
    """Write DocBins of a part, whose docs say what they cover, and set its labels.

    RETURNS: counts of both files. Raises Failed.
    """
    vocab = spacy.blank(args.lang).vocab
    counts = {}
    for name, path in part.files.items():
        dst = work / f"{part.name}-{name}.spacy"
        spacy_command(
            "convert-corpus", str(path), str(dst), "--lang", args.lang, "--on-error",
            args.on_error, *(("--map", part.map) if part.map else ()),
        )  # fmt: skip
        docs = [doc for doc in read_docbin(dst, vocab) if len(doc)][: args.limit or None]
        if name == "train":
            part.labels = tuple(sorted({ent.label_ for doc in docs for ent in doc.ents}))
        for doc in docs:
            set_covers(doc, part.labels)
        part.files[name] = dst
        write_docs(dst, docs)
        counts[f"{part.name} {name}"] = count(docs)
    if not part.labels:
        raise Failed(f"{part.name}: there is no entity in what is trained on.")
    return counts


def join_devs(parts: list[Part], dst: Path, lang: str) -> None:
    """One DocBin of the dev docs of all parts, by which the best epoch is chosen."""
    vocab = spacy.blank(lang).vocab
    docs = [doc for part in parts for doc in read_docbin(part.files["dev"], vocab)]
    random.Random(0).shuffle(docs)
    write_docs(dst, docs)


def readers(parts: list[Part]) -> dict[str, Any]:
    """The train corpus of a config: all parts, each with what it covers."""
    corpora = {
        part.name: {
            "path": str(part.files["train"]), "covers": list(part.labels), "weight": part.weight,
        }
        for part in parts
    }  # fmt: skip
    return {"@readers": CORPORA, "seed": 0, "corpora": corpora}


def scored(scores: dict[str, Any]) -> dict[str, Any]:
    """Of the scores of `evaluate`, what the tables have."""
    return {"per_type": scores["ents_per_type"], **{key: scores[f"ents_{key}"] for key in "prf"}}


def run(args: argparse.Namespace, work: Path) -> None:
    """Run all trainings and write the result after each. Raises Failed, BertCrfError."""
    machine = describe_machine(args.threads)
    encoder = cut_encoder(args, work)
    parts = list(args.parts.values())
    counts: dict[str, dict[str, Any]] = {}
    for part in parts:
        counts |= convert(part, args, work)
    labels = sorted({label for part in parts for label in part.labels})
    joined = work / "dev.spacy"
    join_devs(parts, joined, args.lang)
    known = {
        **about(args, machine, encoder, counts, labels),
        "covers": {part.name: list(part.labels) for part in parts},
        "set": args.set,
        "then": args.then,
        "then_set": args.then_set,
    }
    then = [f"then {args.then}"] if args.then else []
    sides: dict[str, dict[str, list[dict[str, Any]]]] = {
        part.name: {side: [] for side in (ALONE, TOGETHER, *then)} for part in parts
    }

    def train(
        side: str, seed: int, own: Corpus, change: Callable[[Any], None], on: list[Part], kept: Path
    ) -> None:
        say(f"{' and '.join(part.name for part in on)} {side}, seed {seed}")
        with tempfile.TemporaryDirectory(dir=work) as folder:
            inner = Path(folder)
            found = train_ours(args, encoder, own, own.train, seed, inner, change=change, keep=kept)
            for part in on:
                if part.files["dev"] == own.dev:  # The training scored it already.
                    scores = found["last_by_evaluate"]
                else:
                    scores = scored(evaluate(args, kept, part.files["dev"], inner))
                sides[part.name][side].append({**found, **scores})
                say(f"  {part.name} {side}, seed {seed}: F {percent(scores['f'])}")
        result = {**known, "sides": sides}
        write_results(args.stem, result, markdown(result))

    def together(config: Any) -> None:
        config["corpora"]["train"] = readers(parts)

    for seed in args.seeds:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            kept = Path(folder)
            for part in parts:
                files, own_labels = part.files, list(part.labels)
                own = Corpus(files["train"], files["dev"], own_labels, "", args.lang)
                train(ALONE, seed, own, lambda config: None, [part], kept / f"{part.name} {ALONE}")
            both = Corpus(parts[0].files["train"], joined, labels, "", args.lang)
            train(TOGETHER, seed, both, together, parts, kept / TOGETHER)
            for side in then:
                one = Corpus(args.parts[args.then].files["train"], joined, labels, "", args.lang)
                _, weight, share = FURTHER["retained"]
                source = kept / TOGETHER
                change = sourced(source, weight, share, args.then_epochs, args.then_set)
                train(side, seed, one, change, parts, kept / side)


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    rows = []
    for name, sides in result["sides"].items():
        alone = {run["seed"]: run["f"] for run in sides[ALONE]}
        for side, runs in sides.items():
            if not runs:
                continue
            more = mean(run["f"] - alone[run["seed"]] for run in runs) if side != ALONE else None
            each = ", ".join(f"{percent(run['f'])} ({run['seed']})" for run in runs)
            means = (percent(mean(run[key] for run in runs)) for key in "prf")
            rows.append((name, side, *means, "" if more is None else f"{more * 100:+.2f}", each))
    all_runs = {
        f"{name} {side}": runs
        for name, sides in result["sides"].items() for side, runs in sides.items() if runs
    }  # fmt: skip
    head = ("dev of", "trained", "P", "R", "F", "more than alone", "F of each seed (seed)")
    lines = [
        *opening("Corpora with different labels, alone and together", result, all_runs),
        "",
        *(f"- {name} covers {', '.join(labels)}" for name, labels in result["covers"].items()),
        "",
        "## Entity precision, recall and F1 on dev in percent, after the last epoch",
        "",
        *table(head, rows),
    ]
    for name, sides in result["sides"].items():
        if any(sides.values()):
            lines += ["", f"## {name}, per type", "", *by_type(sides)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """RETURNS: the exit code."""
    return status(options(), run, "joint-")


if __name__ == "__main__":
    sys.exit(main())
