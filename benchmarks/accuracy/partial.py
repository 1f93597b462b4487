"""Partial annotation, learned as unknown and learned as "no entity".

Half of the training docs keep only some of their entities. README.md says what is compared.

python -m benchmarks.accuracy.partial --encoder encoders/people-daily --train TRAIN --dev DEV \
    --epochs 3 --seeds 1 --output benchmarks/results/partial
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import spacy
from spacy.tokens import Doc, DocBin

from benchmarks.accuracy.table import curves, opening
from benchmarks.harness.common import parser_for, say, write_results
from benchmarks.harness.tables import table
from benchmarks.harness.trials import (
    Corpus,
    add_options,
    count,
    parse,
    prepare,
    say_epochs,
    status,
    train_ours,
)
from spacy_bert_crf.annotation.docbin import read_docbin
from spacy_bert_crf.encoder.checkpoint_files import read_json

#: Annotation of the tokens outside of the entities that are kept, by name of the variant.
VARIANTS = {"full": None, "partial": "missing", "naive": "outside"}
SHARE = "components.bert_crf.annotated_share"


def options() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    add_options(parser)
    add = parser.add_argument
    add("--only", choices=tuple(VARIANTS), help="train this variant alone")
    add("--docs", type=float, default=0.5, help="share of the docs that are reduced")
    add("--kept", type=float, default=0.5, help="share of their entities that stay")
    add("--share", type=float, default=0.0, help="annotated_share of the variant partial")
    add(
        "--same-updates", action="store_true",
        help="the variant partial leaves out docs without annotation, and repeats the rest as "
        "often as the number of updates of full allows",
    )  # fmt: skip
    add("--choice", type=int, default=0, help="seed of which docs and entities these are")
    args = parse(parser)
    if not (0 <= args.docs <= 1 and 0 <= args.kept <= 1):
        parser.error("--docs and --kept are shares, from 0 to 1")
    if not 0 <= args.share < 1:
        parser.error("--share must be at least 0 and below 1")
    return args


def reduce(docs: list[Doc], default: str, share: float, kept: float, seed: int) -> int:
    """Take entities away from some docs, in place.

    The same docs and entities for the same seed, whatever `default` is.
    default: what all tokens outside of the entities that stay become, "missing" or "outside".
    share: of docs that are reduced. kept: share of the entities of all these that stay.
    RETURNS: number of docs that were reduced.
    """
    rng = random.Random(seed)
    chosen = rng.sample(range(len(docs)), round(share * len(docs)))
    entities = [(i, j) for i in sorted(chosen) for j in range(len(docs[i].ents))]
    stay = set(rng.sample(entities, round(kept * len(entities))))
    for i in chosen:
        ents = [ent for j, ent in enumerate(docs[i].ents) if (i, j) in stay]
        docs[i].set_ents(ents, default=default)
    return len(chosen)


def make(variant: str, args: argparse.Namespace, corpus: Corpus, dst: Path) -> dict[str, Any]:
    """Write the training docs of a variant. RETURNS: counts of what is annotated in them."""
    docs = list(read_docbin(corpus.train, spacy.blank(corpus.lang).vocab))
    default, reduced = VARIANTS[variant], 0
    if default is not None:
        reduced = reduce(docs, default, args.docs, args.kept, args.choice)
    if variant == "partial" and args.same_updates:
        docs = [doc for doc in docs if doc.has_annotation("ENT_IOB")]
    dst.write_bytes(DocBin(docs=docs).to_bytes())
    return {**count(docs), "reduced_docs": reduced}


def run(args: argparse.Namespace, work: Path) -> None:
    """Run all trainings and write the result after each. Raises Failed, BertCrfError."""
    encoder, corpus, about = prepare(args, work)
    names = [args.only] if args.only else list(VARIANTS)
    made = {name: make(name, args, corpus, work / f"{name}.spacy") for name in names}
    for name, counts in made.items():
        say(
            f"{name}: {counts['entities']:,} entities and {counts['annotated_tokens']:,} of "
            f"{counts['tokens']:,} tokens annotated; {counts['reduced_docs']:,} of "
            f"{counts['docs']:,} docs reduced"
        )
    sides: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    result: dict[str, Any] = {
        **about,
        "variants": made,
        "docs": args.docs,
        "kept": args.kept,
        "choice": args.choice,
        "share": args.share,
        "set": args.set,
        "same_updates": args.same_updates,
        "sides": sides,
    }
    there = earlier(Path(f"{args.stem}.json"), result)
    sides |= there.get("sides", {})
    result["variants"] = there.get("variants", {}) | made
    for seed in args.seeds:
        for name in names:
            if any(found["seed"] == seed for found in sides[name]):
                continue
            say(f"{name}, seed {seed}")
            with tempfile.TemporaryDirectory(dir=work) as folder:
                train = work / f"{name}.spacy"
                own = argparse.Namespace(**vars(args))
                if name == "partial" and args.share:
                    own.set = {**args.set, SHARE: args.share}
                if args.same_updates:
                    own.epochs = args.epochs * corpus.counts["train"]["docs"] // made[name]["docs"]
                found = train_ours(own, encoder, corpus, train, seed, Path(folder))
            say_epochs(name, found)
            sides[name].append(found)
            write_results(args.stem, result, markdown(result))


def earlier(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """An earlier result of the same docs and settings, or an empty one.

    Variants that are not requested now stay in it.
    """
    if not path.is_file():
        return {}
    there = read_json(path)
    same = ("encoder", "corpus", "epochs", "docs", "kept", "choice", "share", "set", "same_updates")
    if any(there.get(key) != result[key] for key in same):
        return {}
    return there


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    sides = result["sides"]
    rows = [
        (
            name,
            f"{counts['reduced_docs']:,} of {counts['docs']:,}",
            f"{counts['entities']:,}",
            f"{counts['annotated_tokens']:,} of {counts['tokens']:,}",
        )
        for name, counts in result["variants"].items()
    ]
    lines = [
        *opening("Partial annotation", result, sides),
        "",
        "## What is annotated in the training docs",
        "",
        *table(("", "docs reduced", "entities", "tokens with annotation"), rows),
        "",
        *curves(sides),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """RETURNS: the exit code."""
    return status(options(), run, "partial-")


if __name__ == "__main__":
    sys.exit(main())
