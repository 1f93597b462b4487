"""Models to bert4torch and back: the same entities, with the real bert4torch.

Out: `spacy bert-crf export --to bert4torch`, read by the model of bert4torch's own CRF example.
Back: that example trained by bert4torch, read by `spacy bert-crf import-model`. bert4torch runs
in a virtual environment of its own: peers/bert4torch_interchange.py. README.md says what is
compared.

python -m benchmarks.interchange --pipeline training/people-daily/model-best \
    --data corpus/people-daily/dev.spacy --encoder encoders/people-daily \
    --train corpus/people-daily/train.spacy --output benchmarks/results/bert4torch_interchange
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import spacy
import torch

from benchmarks.harness.common import (
    Failed,
    parser_for,
    read_docs,
    say,
    stem_of,
    write_json,
)
from benchmarks.harness.machine_info import machine
from benchmarks.interchange.checks import TIE, check_back, check_out
from benchmarks.interchange.report import guarantees, markdown
from benchmarks.interchange.sides import OtherPython
from spacy_bert_crf._provenance import versions


def run(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Run the requested directions. Raises Failed."""
    blank = spacy.blank("zh")
    gold = read_docs(args.data, blank, args.limit)
    characters = sum(len(doc.text) for doc in gold)
    other = OtherPython(args.env or work / "env", work, args.threads)
    there, _ = other.run("versions")
    stub = "a stub" if there["torchvision_is_a_stub"] else "installed"
    result: dict[str, Any] = {
        "data": f"{args.data.parent.name}/{args.data.name}, {len(gold)} texts, "
        f"{characters} characters, {sum(len(doc.ents) for doc in gold)} entities",
        "machine": machine(),
        "threads": args.threads or torch.get_num_threads(),
        "versions": versions(),
        "versions_bert4torch": {**there["versions"], "torchvision": stub},
        "tie": TIE,
        "note": args.note,
    }
    if args.pipeline:
        nlp = spacy.load(args.pipeline)
        attempt(result, "out", lambda: check_out(args, other, gold, nlp))
    if args.encoder:
        train = read_docs(args.train, blank, args.train_sentences)
        attempt(result, "back", lambda: check_back(args, other, gold, train))
    return result


def attempt(result: dict[str, Any], name: str, check: Callable[[], dict[str, Any]]) -> None:
    """Run one direction. If it fails, the other one still runs."""
    try:
        result[name] = check()
    except Failed as err:
        say(str(err))
        result["broken_off"] = [*result.get("broken_off", []), name]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="annotated docs (.spacy) that are predicted")
    add("--pipeline", type=Path, help="out: a trained pipeline")
    add("--encoder", type=Path, help="back: the folder of a converted encoder")
    add("--train", type=Path, help="back: annotated docs (.spacy) to train with")
    add("--train-sentences", type=int, default=800, help="back: how many of them, from the start")
    add("--epochs", type=int, default=8, help="back: epochs of training")
    add("--max-layers", type=int, default=4, help="back: layers of the encoder; 0 takes all")
    add("--rate", type=float, default=3e-4, help="back: learning rate")
    add("--batch-size", type=int, default=16, help="back: sentences of a batch")
    add("--seed", type=int, default=42, help="back: seed, the example's own by default")
    add("--labels", default="LOC,PER,ORG", help="back: entity types in the order of their tags")
    add("--min-entities", type=int, default=500, help="back: fewer found prove too little")
    add("--limit", type=int, default=0, help="only the first N docs of --data; 0 takes all")
    add("--env", type=Path, help="virtual environment with bert4torch; made if it isn't there")
    add("--threads", type=int, default=0, help="threads of both sides; 0: as torch says")
    add("--note", default="", help="a sentence for the results, on what else they depend on")
    add("--output", type=Path, help="write NAME.md and NAME.json")
    args = parser.parse_args()
    if not args.pipeline and not args.encoder:
        parser.error("give --pipeline, or --encoder and --train, or all of them")
    if bool(args.encoder) != bool(args.train):
        parser.error("--encoder and --train belong together")
    for path in (args.data, args.pipeline, args.encoder, args.train):
        if path and not path.exists():
            parser.error(f"there is no {path}")
    return args


def main() -> int:
    """RETURNS: the exit code."""
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="bert4torch-") as folder:
        try:
            result = run(args, Path(folder))
        except Failed as err:
            say(str(err))
            return 1
    text = markdown(result)
    print(text)
    if args.output:
        stem = stem_of(args.output)
        stem.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{stem}.md").write_text(text, encoding="utf8")
        write_json(Path(f"{stem}.json"), result)
    return 0 if all(holds == "yes" for _, holds in guarantees(result)) else 1


if __name__ == "__main__":
    sys.exit(main())
