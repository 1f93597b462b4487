"""Ways to run a pipeline in two processes, other than `annotate`. Each leaves loading out."""

import multiprocessing
import queue
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import spacy

from benchmarks.harness.common import Failed

WORKERS = 2
#: Texts that a process gets together.
BATCH = 256
#: The pipeline, for processes that are forked.
_LOADED: list[Any] = []


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


def entities_of(texts: list[str]) -> list[Any]:
    """Entities of texts, by the pipeline that was loaded before this process was forked."""
    return [
        [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]
        for doc in _LOADED[0].pipe(texts)
    ]


def edsnlp_stream(pipeline: Path, texts: list[str], int8: bool, results: Any, folder: Path) -> None:
    """A stream of EDS-NLP, whose processes run `nlp.pipe` and bring entities back."""
    _LOADED[:] = [loaded(pipeline, int8)]
    sys.path.insert(0, str(folder))
    import edsnlp.data

    began = time.perf_counter()
    stream = edsnlp.data.from_iterable(texts).map_batches(entities_of, batch_size=BATCH)
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
    while True:
        try:
            seconds, count = results.get(timeout=1)
            break
        except queue.Empty as err:
            if not process.is_alive():
                raise Failed(f"{target.__name__} ended with {process.exitcode}") from err
    process.join()
    if count != len(texts):
        raise Failed(f"{target.__name__}: {count} of {len(texts)} texts came back")
    return float(seconds)
