"""What a dictionary of names does to the entities, and what it costs. README.md says what is
compared.

python -m benchmarks.accuracy.names --pipeline training/people-daily/model-best --train TRAIN \
    --fit FIT --dev DEV --output benchmarks/results/names
"""

import argparse
import random
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from spacy.language import Language
from spacy.tokens import Doc

from benchmarks.accuracy.table import percent
from benchmarks.harness.common import (
    Entities,
    Failed,
    command_line,
    end_at_sigterm,
    entities_of,
    f_score,
    named,
    parser_for,
    read_docs,
    say,
    status_of,
    stem_of,
    write_results,
)
from benchmarks.harness.machine_info import machine
from benchmarks.harness.tables import table, words
from spacy_bert_crf._provenance import versions
from spacy_bert_crf.component.decoding.dictionary import HARD, SOFT, Dictionary
from spacy_bert_crf.component.pipelines import find_component, load_pipeline
from spacy_bert_crf.evaluation.fit_dictionary import fit_dictionary

SENTENCES = Path(__file__).with_suffix(".txt")
NONE, DEFAULT, FITTED = "no dictionary", "soft", "soft, fitted"
#: A part of a sentence that is an entity: [text|LABEL].
MARK = re.compile(r"\[([^|\]]+)\|([^\]]+)\]")

#: Tries to compose a name, for each name that is wanted.
_TRIES = 100

Names = list[tuple[str, str]]


def options() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__ or "")
    add = parser.add_argument
    add(
        "--pipeline", type=named, action="append", required=True, metavar="[NAME=]FOLDER",
        help="a trained pipeline, as often as wanted",
    )  # fmt: skip
    add("--train", type=Path, required=True, help="docs that the names are taken from (.spacy)")
    add("--fit", type=Path, required=True, help="docs that the bonus is fitted to (.spacy)")
    add("--dev", type=Path, required=True, help="docs that are scored (.spacy)")
    add("--sentences", type=Path, default=SENTENCES, help="names that are also words")
    add("--names", type=int, default=50_000, help="names of the dictionary that is timed")
    add("--rounds", type=int, default=9)
    add("--limit", type=int, default=0, help="so many docs of dev; 0 takes all")
    add("--threads", type=int, default=1)
    add("--output", type=Path, required=True, help="write NAME.md and NAME.json")
    args = parser.parse_args()
    end_at_sigterm()
    for path in (*(path for _, path in args.pipeline), args.train, args.fit, args.dev):
        if not path.exists():
            parser.error(f"there is no {path}")
    if len(dict(args.pipeline)) < len(args.pipeline):
        parser.error("two pipelines have the same name: give them others, as NAME=FOLDER")
    args.stem = stem_of(args.output)
    return args


def read_sentences(path: Path, nlp: Language) -> tuple[Names, list[Doc], list[Doc]]:
    """Groups of a name and its sentences, see names.txt.

    RETURNS: the names, the sentences in which they are names, and those in which they are words.
    """
    names: Names = []
    as_name: list[Doc] = []
    as_word: list[Doc] = []
    for line in path.read_text(encoding="utf8").splitlines():
        if not line or line.startswith("#"):
            continue
        if "\t" in line:
            name, label = line.split("\t")
            names.append((name, label))
            continue
        doc = nlp.make_doc(MARK.sub(r"\1", line))
        spans, shift = [], 0
        for found in MARK.finditer(line):
            start = found.start() - shift
            shift += len(found[2]) + 3
            spans.append(doc.char_span(start, start + len(found[1]), found[2]))
        doc.set_ents(spans)
        (as_name if names[-1] in {(e.text, e.label_) for e in doc.ents} else as_word).append(doc)
    return names, as_name, as_word


def names_of(docs: Iterable[Doc]) -> Names:
    """The entities of docs: their texts and labels, each once."""
    return sorted({(ent.text, ent.label_) for doc in docs for ent in doc.ents})


def many(names: Names, number: int) -> Names:
    """The names and, up to a number of them, others that are composed of their characters.

    Raises Failed if the names are too few for so many.
    """
    rng = random.Random(0)
    texts = [(text, label) for text, label in names if len(text) > 1]
    found = dict.fromkeys(names)
    for _ in range(_TRIES * number if texts else 0):
        if len(found) >= number:
            break
        (one, label), (other, _) = rng.choice(texts), rng.choice(texts)
        name = one[: rng.randint(1, len(one) - 1)] + other[rng.randint(1, len(other) - 1) :]
        found[name, label] = None
    if len(found) < number:
        raise Failed(f"--train has {len(names):,} names, too few to compose --names {number:,}.")
    return list(found)[:number]


def predict(nlp: Language, docs: list[Doc], dictionary: Dictionary | None) -> list[Entities]:
    """Entities of docs' texts with a dictionary."""
    find_component(nlp).dictionary = dictionary
    return [entities_of(doc) for doc in nlp.pipe(doc.text for doc in docs)]


def right(found: list[Entities], gold: list[Doc]) -> int:
    """Number of texts whose entities are all right."""
    return sum(a == entities_of(b) for a, b in zip(found, gold, strict=True))


def costs(nlp: Language, docs: list[Doc], dictionary: Dictionary, rounds: int) -> dict[str, Any]:
    """Seconds of CPU of `nlp.pipe` without and with the dictionary, which take turns."""
    texts = [doc.text for doc in docs]
    pipe = find_component(nlp)
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    ways = [("without", None), ("with", dictionary)]
    for number in range(rounds + 1):  # the first one warms up
        for name, given in ways[:: 1 if number % 2 else -1]:
            pipe.dictionary = given
            began = time.process_time()
            for _ in nlp.pipe(texts):
                pass
            if number:
                seconds[name].append(time.process_time() - began)
    pipe.dictionary = None
    ratios = [b / a for a, b in zip(seconds["without"], seconds["with"], strict=True)]
    matches = sum(len(dictionary.find(nlp.make_doc(text))) for text in texts)
    return {
        "texts": len(texts),
        "characters": sum(map(len, texts)),
        "matches": matches,
        "seconds": seconds,
        "ratio": median(ratios),
        "ratios": ratios,
    }


def measure(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of one pipeline. Raises Failed, BertCrfError."""
    nlp = load_pipeline(path)
    dev = read_docs(args.dev, nlp, args.limit)
    fit = read_docs(args.fit, nlp, 0)
    known = names_of(read_docs(args.train, nlp, 0))
    names, as_name, as_word = read_sentences(args.sentences, nlp)
    soft = Dictionary.of(known, SOFT)
    fitted = fit_dictionary(nlp, fit, soft)
    bonus = dict(fitted.dictionary.bonus)
    ways = {
        NONE: None,
        DEFAULT: soft,
        FITTED: fitted.dictionary,
        HARD: Dictionary.of(known, HARD),
    }
    result: dict[str, Any] = {"bonus": bonus, "dev": {}, "sentences": {}, "known": len(known)}
    for name, dictionary in ways.items():
        result["dev"][name] = f_score(predict(nlp, dev, dictionary), dev)
        say(f"  dev, {name}: {percent(result['dev'][name])}")
    ways = {
        NONE: None,
        DEFAULT: Dictionary.of(names, SOFT),
        FITTED: Dictionary.of(names, SOFT, bonus),
        HARD: Dictionary.of(names, HARD),
    }
    for name, dictionary in ways.items():
        found = [predict(nlp, some, dictionary) for some in (as_name, as_word)]
        both = [*as_name, *as_word]
        result["sentences"][name] = {
            "as_name": right(found[0], as_name) / len(as_name),
            "as_word": right(found[1], as_word) / len(as_word),
            "f": f_score([*found[0], *found[1]], both),
        }
        say(f"  sentences, {name}: {result['sentences'][name]}")
    large = Dictionary.of(many(known, args.names), SOFT)
    result["cost"] = costs(nlp, dev, large, args.rounds)
    say(f"  {args.names:,} names: {result['cost']['ratio']:.3f} of the time without")
    return result


def markdown(content: dict[str, Any]) -> str:
    """The result for people."""
    runs = content["pipelines"]
    first = next(iter(runs.values()))
    lines = [
        "# A dictionary of names", "",
        f"Command: `{content['command']}`", "",
        f"{content['machine']}, {content['threads']} threads. Versions: "
        f"{words(content['versions'])}. Pipelines: {', '.join(runs)}.", "",
        f"## Names of train, {first['known']:,}: entity F1 on dev in percent", "",
    ]  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for way in first["dev"]:
        scores = [run["dev"][way] for run in runs.values()]
        more = [run["dev"][way] - run["dev"][NONE] for run in runs.values()]
        each = ", ".join(map(percent, scores))
        rows.append((way, percent(mean(scores)), f"{mean(more) * 100:+.2f}", each))
    lines += [*table(("dictionary", "F", "to none", "each pipeline"), rows), ""]
    lines += ["## Names that are also words: sentences with all entities right, in percent", ""]
    rows = []
    for way in first["sentences"]:
        found = [run["sentences"][way] for run in runs.values()]
        cells = [percent(mean(each[key] for each in found)) for key in ("as_name", "as_word", "f")]
        rows.append((way, *cells))
    head: tuple[str, ...] = (
        "dictionary",
        "where it is a name",
        "where it is a word",
        "entity F1 of both",
    )
    lines += [*table(head, rows), ""]
    said = [
        f"{name}: {', '.join(f'{label} {nats:.2f}' for label, nats in run['bonus'].items())}"
        for name, run in runs.items()
    ]
    lines += ["Fitted bonus in nats. " + "; ".join(said) + ".", ""]
    rows = []
    for name, run in runs.items():
        cost = run["cost"]
        median_seconds = [f"{median(cost['seconds'][key]):.2f}" for key in ("without", "with")]
        ratios = cost["ratios"]
        rows.append((
            name, f"{cost['texts']:,}", f"{cost['characters']:,}", f"{cost['matches']:,}",
            *median_seconds, f"{cost['ratio']:.3f}", f"{min(ratios):.3f}–{max(ratios):.3f}",
        ))  # fmt: skip
    lines += [f"## {content['names']:,} names: seconds of CPU of `nlp.pipe` on dev", ""]
    head = ("pipeline", "texts", "characters", "names in them", "without", "with", "with / without")
    lines += table((*head, "of each round"), rows)
    return "\n".join(lines) + "\n"


def run(args: argparse.Namespace) -> None:
    """Measure each pipeline and write the result after each. Raises Failed, BertCrfError."""
    content: dict[str, Any] = {
        "command": command_line(),
        "machine": machine(),
        "threads": args.threads,
        "names": args.names,
        "versions": versions(),
        "pipelines": {},
    }
    for name, path in args.pipeline:
        say(name)
        content["pipelines"][name] = measure(path, args)
        write_results(args.stem, content, markdown(content))


def main() -> int:
    """RETURNS: the exit code."""
    args = options()
    torch.set_num_threads(args.threads)
    return status_of(lambda: run(args), args.stem)


if __name__ == "__main__":
    sys.exit(main())
