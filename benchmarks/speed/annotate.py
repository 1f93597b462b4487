"""`annotate` with two workers beside other ways to run a pipeline in two processes.

    python -m benchmarks.speed.annotate PIPELINE TEXTS.spacy --characters 300000 --rounds 3 \
        --engines local ray --edsnlp FOLDER --output benchmarks/results/annotate

In each round all run one after the other, on the same texts. *two nlp.pipe* are two processes side
by side that share the texts, without a word between them. Loading is left out everywhere: that of
`annotate` is the time of a run on one text. --edsnlp names a folder where `pip install --target`
has put EDS-NLP and what it needs beside this environment.
"""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from spacy.tokens import DocBin
from spacy.vocab import Vocab

from benchmarks.harness.common import command_line, parser_for, say, stem_of, write_results
from benchmarks.harness.machine_info import describe_machine
from benchmarks.harness.tables import table, words
from benchmarks.speed.others import WORKERS, edsnlp_stream, in_process, n_process, pipes
from spacy_bert_crf.bulk.annotate import annotate
from spacy_bert_crf.bulk.job import Settings

#: What the others are compared with.
BASE = "two nlp.pipe"


def ours(pipeline: Path, texts: list[str], int8: bool, engine: str = "local") -> float:
    """Seconds of `annotate`."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
        corpus.write_text("\n".join(lines), encoding="utf8")
        # Several shards for each worker, as a large corpus has.
        settings = Settings(shard_rows=max(1, len(texts) // (8 * WORKERS)), int8=int8)
        made = annotate(
            pipeline, [corpus], Path(folder) / "out", settings=settings, workers=WORKERS,
            engine=engine,
        )  # fmt: skip
        assert made.done.documents == len(texts)
        return made.seconds


def measure(args: Any, texts: list[str]) -> dict[str, list[float]]:
    """Seconds of each way in each round."""
    found: dict[str, list[float]] = {}
    pair = (args.pipeline, args.int8)

    def add(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)
        say(f"{name}: {seconds:.1f} s")

    for engine in args.engines:  # the first run reads files that the others find in memory
        ours(args.pipeline, texts[:1], args.int8, engine)
    for _ in range(args.rounds):
        add(BASE, pipes(args.pipeline, texts, args.int8)[0])
        for engine in args.engines:
            load = ours(args.pipeline, texts[:1], args.int8, engine)
            add(f"annotate, {engine}", ours(args.pipeline, texts, args.int8, engine) - load)
        add("nlp.pipe(n_process=2)", in_process(n_process, texts, *pair))
        if args.edsnlp:
            add("EDS-NLP stream", in_process(edsnlp_stream, texts, *pair, args.edsnlp))
    return found


def markdown(content: dict[str, Any]) -> str:
    """The page."""
    size, base = content["characters"], content["seconds"][BASE]
    rows = []
    for name, seconds in content["seconds"].items():
        ratios = [theirs / own for theirs, own in zip(base, seconds, strict=True)]
        rows.append([
            name, f"{median(size / each for each in seconds):,.0f}", f"{median(ratios):.2f}",
            ", ".join(f"{ratio:.2f}" for ratio in ratios),
        ])  # fmt: skip
    return "\n".join([
        "# A pipeline in two processes", "",
        f"{content['texts']:,} texts ({content['different']:,} different) of {content['data']}, "
        f"{size:,} characters{', 8-bit integers' if content['int8'] else ''}. One thread each.", "",
        *table(["", "characters a second", f"to {BASE}", "in each round"], rows), "",
        f"Machine: {content['machine']['machine']}, load before the start "
        f"{content['machine']['load_average']:.1f}. Versions: {words(content['versions'])}.", "",
        f"Command: `{content['command']}`", "",
    ])  # fmt: skip


def main() -> None:
    parser = parser_for(__doc__ or "")
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--characters", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["local"], choices=["local", "ray"])
    parser.add_argument("--edsnlp", type=Path, help="folder with EDS-NLP")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--output", type=Path, help="NAME.json and NAME.md")
    args = parser.parse_args()
    machine = describe_machine(1)
    texts: list[str] = []
    size = 0
    for doc in DocBin().from_disk(args.texts).get_docs(Vocab()):
        if size < args.characters:
            texts.append(doc.text)
            size += len(doc.text)
    names = ["spacy", "torch", "transformers", "pyarrow"]
    names += ["ray"] if "ray" in args.engines else []
    content = {
        "data": args.texts.name,
        "texts": len(texts),
        "different": len(set(texts)),
        "characters": size,
        "int8": args.int8,
        "seconds": measure(args, texts),
        "machine": machine,
        "versions": {name: version(name) for name in names},
        "command": command_line(),
    }
    if args.edsnlp:
        sys.path.insert(0, str(args.edsnlp))
        content["versions"]["edsnlp"] = version("edsnlp")
    text = markdown(content)
    print(text)
    if args.output:
        write_results(str(stem_of(args.output)), content, text)


if __name__ == "__main__":
    main()
