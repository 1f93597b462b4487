"""`annotate` with two workers beside two processes of `nlp.pipe`, on the same texts.

    python -m benchmarks.speed.annotate PIPELINE TEXTS.spacy --characters 300000 --rounds 3

Loading is left out on both sides: that of `annotate` is the time of a run on one text. Both run one
after the other in each round, and medians are printed.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import spacy
from spacy.tokens import DocBin
from spacy.vocab import Vocab

from spacy_bert_crf.bulk.annotate import annotate
from spacy_bert_crf.bulk.job import Settings

WORKERS = 2


def pipe(pipeline: Path, texts: list[str], int8: bool, barrier: Any, results: Any) -> None:
    """Load the pipeline, wait for the other process, and run `nlp.pipe`."""
    import torch

    from spacy_bert_crf.bulk.annotator import prepare

    torch.set_num_threads(1)
    nlp = spacy.load(pipeline)
    prepare(nlp, int8=int8)
    nlp("王小明 1998")
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


def ours(pipeline: Path, texts: list[str], int8: bool) -> float:
    """Seconds of `annotate`."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
        corpus.write_text("\n".join(lines), encoding="utf8")
        # Several shards for each worker, as a large corpus has.
        settings = Settings(shard_rows=max(1, len(texts) // (8 * WORKERS)), int8=int8)
        made = annotate(
            pipeline, [corpus], Path(folder) / "out", settings=settings, workers=WORKERS
        )
        assert made.done.documents == len(texts)
        return made.seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--characters", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--int8", action="store_true")
    args = parser.parse_args()
    texts: list[str] = []
    size = 0
    for doc in DocBin().from_disk(args.texts).get_docs(Vocab()):
        if size < args.characters:
            texts.append(doc.text)
            size += len(doc.text)
    rows = []
    for number in range(args.rounds):
        theirs, memory = pipes(args.pipeline, texts, args.int8)
        load = ours(args.pipeline, texts[:1], args.int8)
        seconds = ours(args.pipeline, texts, args.int8) - load
        rows.append((size / theirs, size / seconds))
        print(
            f"round {number}: nlp.pipe {size / theirs:,.0f} characters a second "
            f"({memory / 2**20:,.0f} MiB), annotate {size / seconds:,.0f}, "
            f"loading {load:.1f} s",
            flush=True,
        )
    ratio = median(ours / theirs for theirs, ours in rows)
    print(
        f"{len(texts):,} texts, {size:,} characters, {len(set(texts)):,} different; medians: "
        f"nlp.pipe {median(r[0] for r in rows):,.0f}, annotate {median(r[1] for r in rows):,.0f}, "
        f"ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
