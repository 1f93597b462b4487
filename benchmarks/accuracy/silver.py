"""Training on what several sources say of the texts of a gold corpus. README.md says what is
compared.

python -m benchmarks.accuracy.silver --encoder encoders/people-daily --train TRAIN --dev DEV \
    --source pipeline:PATH --source llm=file:ANSWERS.jsonl --source dictionary:NAMES.tsv \
    --epochs 3 --seeds 1 2 3 --output benchmarks/results/silver
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from spacy.tokens import DocBin

from benchmarks.accuracy.table import curves, opening, percent
from benchmarks.harness.common import Failed, parser_for, write_results
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
)
from spacy_bert_crf.evaluation.silver.agreement import Rule
from spacy_bert_crf.evaluation.silver.bootstrap import (
    OUTSIDE,
    RawText,
    Settings,
    bootstrap,
)
from spacy_bert_crf.evaluation.silver.sources import (
    Source,
    open_sources,
    parse_source,
    read_sources,
)

#: gold: the corpus as it is. The others say what becomes of disagreements.
GOLD, SILVER, NAIVE = "gold", "silver, unknown", "silver, outside"


def options() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    add_options(parser)
    add_keep(parser)
    add = parser.add_argument
    add("--source", action="append", default=[], help="[NAME=]KIND:PATH, see bootstrap --help")
    add("--sources", type=Path, help="JSON file of sources, see docs/bootstrap.md")
    add("--agreement", default="all", help="all, majority or a number")
    add("--only", nargs="+", help="variants to train, by their names in the result")
    return parse(parser)


def find_sources(args: argparse.Namespace) -> list[Source]:
    """The sources of the command line. Raises Failed without one, BertCrfError for a bad one."""
    specs = [parse_source(each) for each in args.source]
    specs += read_sources(args.sources) if args.sources else []
    if not specs:
        raise Failed("there is no source: give --source or --sources.")
    return open_sources(specs)


def variants(args: argparse.Namespace, sources: list[Source]) -> dict[str, Any]:
    """The sources and settings of each variant but gold, by its name."""
    rule, lang = Rule.of(args.agreement), args.lang
    made = {
        SILVER: (sources, Settings(lang, rule)),
        NAIVE: (sources, Settings(lang, rule, OUTSIDE)),
    }
    alone = {f"{s.spec.name} alone": ([s], Settings(lang)) for s in sources}
    return made | alone if len(sources) > 1 else alone


def make(corpus: Corpus, sources: list[Source], settings: Settings, dst: Path) -> dict[str, Any]:
    """Write the training docs of a variant. RETURNS: counts, and how right its entities are."""
    gold = corpus.docs(corpus.train)
    texts = [RawText(str(i), doc.text) for i, doc in enumerate(gold)]
    report = bootstrap(texts, sources, dst, settings=settings)
    # Left out are texts of which no source says anything, so that docs are found by their texts.
    right = {
        (doc.text, ent.start_char, ent.end_char, ent.label_) for doc in gold for ent in doc.ents
    }
    docs = corpus.docs(dst)
    found = [(d.text, e.start_char, e.end_char, e.label_) for d in docs for e in d.ents]
    return {
        **count(docs),
        "left_out": report.left_out,
        "unknown": report.unknown_share,
        "precision": sum(each in right for each in found) / max(len(found), 1),
        "recall": len(right & set(found)) / max(len(right), 1),
    }


def run(args: argparse.Namespace, work: Path) -> None:
    """Run all trainings and write the result after each. Raises Failed, BertCrfError."""
    encoder, corpus, about = prepare(args, work)
    every = variants(args, find_sources(args))
    names = args.only or [GOLD, *every]
    if unknown := set(names) - {GOLD, *every}:
        raise Failed(f"--only {min(unknown)!r} is not among {', '.join([GOLD, *every])}.")
    files = {name: work / f"variant-{i}.spacy" for i, name in enumerate(names)}
    made: dict[str, Any] = {}
    for name in names:
        if name == GOLD:
            docs = corpus.docs(corpus.train)
            files[name].write_bytes(DocBin(docs=docs).to_bytes())
            made[name] = {**count(docs), "left_out": 0, "unknown": 0.0, "precision": 1.0}
            made[name]["recall"] = 1.0
        else:
            made[name] = make(corpus, *every[name], files[name])

    def write(sides: dict[str, list[dict[str, Any]]]) -> None:
        result = {**about, "variants": made, "set": args.set, "sides": sides}
        write_results(args.stem, result, markdown(result))

    train_sides(args, encoder, corpus, files, work, write)


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    sides = {name: runs for name, runs in result["sides"].items() if runs}
    keys = ("precision", "recall", "unknown")
    rows = [
        (name, f"{made['docs']:,}", f"{made['entities']:,}", *(percent(made[key]) for key in keys))
        for name, made in result["variants"].items()
    ]
    lines = [
        *opening("Silver annotation", result, sides),
        "",
        "What is trained on: entities beside those of gold, and unknown tokens, in percent.",
        "",
        *table(("", "docs", "entities", *keys), rows),
        "",
        *curves(sides),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """RETURNS: the exit code."""
    return status(options(), run, "silver-")


if __name__ == "__main__":
    sys.exit(main())
