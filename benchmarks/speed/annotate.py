"""`annotate` with two workers beside other ways to run a pipeline in two processes.

    python -m benchmarks.speed.annotate PIPELINE TEXTS.spacy --characters 300000 --rounds 3 \
        --engines local ray --edsnlp FOLDER --output benchmarks/results/annotate

In each round all run one after the other, on the same texts. *two nlp.pipe* are two processes side
by side that share the texts, without a word between them. Loading is left out everywhere: that of
`annotate` is the time of a run on one text. --edsnlp names a folder where `pip install --target`
has put EDS-NLP and what it needs beside this environment.
"""

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import spacy
from spacy.tokens import DocBin
from spacy.vocab import Vocab

from benchmarks.harness.common import command_line, parser_for, say, stem_of, write_results
from benchmarks.harness.machine_info import describe_machine
from benchmarks.harness.tables import table, words
from spacy_bert_crf.bulk.annotate import annotate
from spacy_bert_crf.bulk.job import Settings

WORKERS = 2
#: Texts that a peer's process gets together.
BATCH = 256
#: What the others are compared with.
BASE = "two nlp.pipe"


def loaded(pipeline: Path, int8: bool) -> Any:
    """The pipeline, with one thread, after its first text."""
    import torch

    from spacy_bert_crf.bulk.annotator import prepare

    torch.set_num_threads(1)
    nlp = spacy.load(pipeline)
    prepare(nlp, int8=int8)
    nlp("王小明 1998")
    return nlp


def pipe(pipeline: Path, texts: list[str], int8: bool, barrier: Any, results: Any) -> None:
    """Load the pipeline, wait for the other process, and run `nlp.pipe`."""
    nlp = loaded(pipeline, int8)
    barrier.wait()
    began = time.perf_counter()
    for _ in nlp.pipe(texts):
        pass
    results.put((time.perf_counter() - began, psutil.Process().memory_info().rss))


def pipes(pipeline: Path, texts: list[str], int8: bool) -> tuple[float, int]:
    """Seconds of the slower of two processes that share the texts, and the larger memory."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(WORKERS), context.Queue()
    processes = [
        context.Process(target=pipe, args=(pipeline, texts[n::WORKERS], int8, barrier, results))
        for n in range(WORKERS)
    ]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return max(seconds for seconds, _ in found), max(memory for _, memory in found)


def n_process(pipeline: Path, texts: list[str], int8: bool, results: Any) -> None:
    """`nlp.pipe` that starts the processes itself, and brings the docs back."""
    nlp = loaded(pipeline, int8)
    began = time.perf_counter()
    count = sum(1 for _ in nlp.pipe(texts, n_process=WORKERS, batch_size=BATCH))
    results.put((time.perf_counter() - began, count))


def edsnlp_stream(pipeline: Path, texts: list[str], int8: bool, results: Any, folder: Path) -> None:
    """A stream of EDS-NLP, whose processes run `nlp.pipe` and bring entities back."""
    nlp = loaded(pipeline, int8)
    sys.path.insert(0, str(folder))
    import edsnlp.data

    def run(batch: list[str]) -> list[Any]:
        return [
            [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]
            for doc in nlp.pipe(batch)
        ]

    began = time.perf_counter()
    stream = edsnlp.data.from_iterable(texts).map_batches(run, batch_size=BATCH)
    stream = stream.set_processing(num_cpu_workers=WORKERS, process_start_method="fork")
    count = sum(1 for _ in stream)
    results.put((time.perf_counter() - began, count))


def in_process(target: Callable[..., None], texts: list[str], *args: Any) -> float:
    """Seconds that a function of this module puts into its queue, run in a process of its own."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    pipeline, int8, *more = args
    process = context.Process(target=target, args=(pipeline, texts, int8, results, *more))
    process.start()
    seconds, count = results.get()
    process.join()
    assert count == len(texts), f"{count} of {len(texts)} texts came back"
    return float(seconds)


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
    for number in range(args.rounds):
        row = {BASE: pipes(args.pipeline, texts, args.int8)[0]}
        for engine in args.engines:
            load = ours(args.pipeline, texts[:1], args.int8, engine)
            row[f"annotate, {engine}"] = ours(args.pipeline, texts, args.int8, engine) - load
        row["nlp.pipe(n_process=2)"] = in_process(n_process, texts, *pair)
        if args.edsnlp:
            row["EDS-NLP stream"] = in_process(edsnlp_stream, texts, *pair, args.edsnlp)
        say(f"round {number}: " + ", ".join(f"{name} {row[name]:.1f} s" for name in row))
        for name, seconds in row.items():
            found.setdefault(name, []).append(seconds)
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
