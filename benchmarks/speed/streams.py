"""The part "streams": long docs, long streams, processes, imports, loading."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import spacy
from spacy.tokens import Doc
from spacy.training import Example

from benchmarks.harness.common import Failed, say
from benchmarks.harness.workers import OWN_WORKER, Crew, Worker

LENGTHS = (50, 500, 5_000, 50_000, 900_000)
#: The longest doc for the real encoder.
LONGEST_REAL = 5_000
STREAMS = {"its beginning": 100_000, "the whole stream": 10_000_000}
#: Docs that go to a process together.
BATCH = 128
#: Fewest batches for each process, so that an uneven division does not decide.
BATCHES = 10
#: Seconds after which n_process is taken for deadlocked.
PATIENCE = 900.0

IMPORT = """
import time, spacy
began = time.perf_counter()
import spacy_bert_crf
print(1000 * (time.perf_counter() - began))
"""


def streams(
    pipeline: Path,
    encoder: Path,
    gold: list[Doc],
    python: Path,
    work: Path,
    threads: int,
    rounds: int,
    stream: int,
) -> dict[str, Any]:
    """Measure all parts of "streams". A part that fails is reported, and the others run.

    gold: texts, and labels for the toy pipeline. stream: characters of the long stream.
    """
    toy = toy_pipeline(work, gold)
    texts = [doc.text for doc in gold]
    sizes = {name: min(size, stream) for name, size in STREAMS.items()}
    tasks: dict[str, Callable[[], dict[str, Any]]] = {
        "docs": lambda: long_docs({"toy": toy, "real": pipeline}, texts, work, threads, rounds),
        "memory": lambda: long_streams(toy, texts, sizes, work, threads),
        "processes": lambda: processes(pipeline, texts, work, threads, rounds),
        "import_ms": lambda: import_time(rounds),
        "loading": lambda: loading(pipeline, encoder, python, work, threads, rounds),
    }
    result: dict[str, Any] = {}
    for name, task in tasks.items():
        say(f"  {name}")
        try:
            result[name] = task()
        except Failed as err:
            say(f"  {name}: {err}")
            result[name] = {"not_available": str(err)}
    return result


def long_docs(
    pipelines: dict[str, Path], texts: list[str], work: Path, threads: int, rounds: int
) -> dict[str, Any]:
    """Microseconds per character, by the length of docs: medians over rounds. Of the component,
    and of spaCy's tokenizer."""
    found: dict[str, dict[int, dict[str, list[float]]]] = {}
    workers = {name: Worker(None, OWN_WORKER, threads, work / "docs.log") for name in pipelines}
    try:
        for name, worker in workers.items():
            load = {"pipeline": str(pipelines[name]), "texts": texts}
            worker.ask("load", kind="long", threads=threads, **load)
            wanted = [n for n in LENGTHS if name == "toy" or n <= LONGEST_REAL]
            found[name] = {length: {"component": [], "tokenizer": []} for length in wanted}
            worker.ask("docs_of", length=LENGTHS[1])
        for _ in range(rounds):
            for name, worker in workers.items():
                for length, values in found[name].items():
                    answer = worker.ask("docs_of", length=length)
                    for what, row in values.items():
                        row.append(1e6 * answer[what] / answer["characters"])
    finally:
        for worker in workers.values():
            worker.close()
    return {
        f"{name} encoder, {what}": {str(n): median(values[what]) for n, values in rows.items()}
        for name, rows in found.items()
        for what in ("component", "tokenizer")
    }


def long_streams(
    toy: Path, texts: list[str], sizes: dict[str, int], work: Path, threads: int
) -> dict[str, Any]:
    """Peak memory of a short and of a long stream, each in a process of its own."""
    out: dict[str, Any] = {}
    for name, size in sizes.items():
        worker = Worker(None, OWN_WORKER, threads, work / "stream.log")
        try:
            worker.ask("load", kind="long", threads=threads, pipeline=str(toy), texts=texts)
            out[name] = worker.ask("stream", characters=size)
        finally:
            worker.close()
    return out


def processes(
    pipeline: Path, texts: list[str], work: Path, threads: int, rounds: int
) -> dict[str, Any]:
    """n_process = `threads` with one thread each against one process with all threads."""
    found: dict[str, list[float]] = {}
    texts = texts * math.ceil(BATCHES * BATCH * threads / len(texts))
    plans = {
        f"1 process, {threads} threads": (1, threads),
        f"{threads} processes, 1 thread each": (threads, 1),
    }
    workers: dict[str, Worker] = {}
    try:
        for name, (count, each) in plans.items():
            workers[name] = Worker(None, OWN_WORKER, each, work / f"processes-{count}.log")
            load: dict[str, Any] = {"pipeline": str(pipeline), "texts": texts}
            if count > 1:  # the pipeline's batches would be too few for several
                load |= {"processes": count, "batch_size": BATCH}
            workers[name].ask("load", kind="pipe", threads=each, **load)
            workers[name].ask("warm_up")
            found[name] = []
        for _ in range(rounds):
            for name, worker in workers.items():
                answer = worker.ask("run", patience=PATIENCE)
                found[name].append(answer["characters"] / answer["seconds"])
    finally:
        for worker in workers.values():
            worker.close()
    return {name: median(speeds) for name, speeds in found.items()}


def import_time(rounds: int) -> dict[str, Any]:
    """Milliseconds of `import spacy_bert_crf` after `import spacy`, in new processes."""
    values = []
    for _ in range(max(5, rounds)):
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"the import failed: {done.stderr.strip()[-300:]}")
        values.append(float(done.stdout))
    return {"median": median(values), "min": min(values), "max": max(values)}


def loading(
    pipeline: Path, encoder: Path, python: Path, work: Path, threads: int, rounds: int
) -> dict[str, Any]:
    """Seconds of spacy.load against transformers' loading of the same encoder, in turns."""
    with Crew(python, work, threads) as crew:
        crew.add("spacy.load", OWN_WORKER, "loading", pipeline=str(pipeline))
        crew.add(
            "AutoModel + AutoTokenizer", "transformers_encoder.py", "loading", folder=str(encoder)
        )
        crew.take_turns(max(5, rounds))
        if crew.failed:
            raise Failed("; ".join(f"{name}: {said}" for name, said in crew.failed.items()))
        return {name: median(run["seconds"] for run in runs) for name, runs in crew.runs.items()}


def toy_pipeline(work: Path, gold: list[Doc]) -> Path:
    """A pipeline with a toy encoder, untrained: so small that the cost of everything else shows."""
    from scripts.toy_encoder import make_encoder
    from spacy_bert_crf.encoder.checkpoint import convert_checkpoint

    source, encoder, target = work / "toy", work / "toy-encoder", work / "toy-pipeline"
    texts = [doc.text for doc in gold]
    make_encoder(source, texts, layers=2, width=16, heads=2, feed_forward=32)
    convert_checkpoint(source, encoder)
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config={"model": {"tok2vec": {"name": str(encoder)}}})
    spacy.util.fix_random_seed(0)
    pairs = [Example(nlp.make_doc(doc.text), doc) for doc in gold if doc.ents]
    nlp.initialize(lambda: pairs)
    nlp.to_disk(target)
    return target
