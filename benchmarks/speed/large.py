"""A large corpus annotated by each engine: speed, memory over time, and equal shards.

    python -m benchmarks.speed.large PIPELINE FOLDER A.spacy B.spacy --characters 20000000

The corpus is made of the docs of the DocBins. Each text gets an id, and its entities are replaced
by others of the same label, so that few texts are equal. The speed is compared with processes of
`nlp.pipe` that share a sample of the corpus, run just before and just after each engine.
"""

import argparse
import json
import os
import random
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any

import psutil
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from benchmarks.harness.machine_info import describe_machine
from benchmarks.speed.annotate import WORKERS, pipes
from spacy_bert_crf.bulk.annotate import annotate
from spacy_bert_crf.bulk.job import Settings
from spacy_bert_crf.bulk.sources.read import Fields

#: Seconds between two readings of the memory.
_EVERY = 2.0


def texts_of(docs: list[Doc], characters: int, seed: int) -> Iterator[str]:
    """Texts of docs with other names, until there are so many characters."""
    chance = random.Random(seed)
    names: dict[str, list[str]] = {}
    for doc in docs:
        for ent in doc.ents:
            names.setdefault(ent.label_, []).append(ent.text)
    size = 0
    while size < characters:
        doc = chance.choice(docs)
        parts, end = [], 0
        for ent in doc.ents:
            parts += [doc.text[end : ent.start_char], chance.choice(names[ent.label_])]
            end = ent.end_char
        text = "".join([*parts, doc.text[end:]])
        size += len(text)
        yield text


class Memory:
    """Reads the resident memory of this process and of its children in the background."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.largest_child = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._ends.set()
        self._thread.join()

    def _read(self) -> None:
        me = psutil.Process()
        while not self._ends.wait(_EVERY):
            self.parent.append(me.memory_info().rss)
            for child in me.children(recursive=True):
                try:
                    self.largest_child = max(self.largest_child, child.memory_info().rss)
                except psutil.Error:
                    continue

    def tenths(self) -> tuple[float, float]:
        """Mean memory of this process in the first and in the last tenth of the time, in bytes."""
        n = max(1, len(self.parent) // 10)
        return mean(self.parent[:n]), mean(self.parent[-n:])


def measure(
    args: argparse.Namespace, engine: str, corpus: Path, sample: list[str]
) -> dict[str, Any]:
    """Annotate the corpus by one engine, between two runs of `nlp.pipe`."""
    size = sum(map(len, sample))
    before, rss = pipes(args.pipeline, sample, args.int8)
    with Memory() as memory:
        made = annotate(
            args.pipeline, [corpus], args.folder / engine, engine=engine, workers=WORKERS,
            settings=Settings(Fields(id="id"), int8=args.int8), progress=True,
        )  # fmt: skip
    after, _ = pipes(args.pipeline, sample, args.int8)
    first, last = memory.tenths()
    speed = made.done.characters / made.seconds
    pipe = size / median([before, after])
    return {
        "engine": engine,
        "documents": made.done.documents,
        "characters": made.done.characters,
        "seconds": made.seconds,
        "speed": speed,
        "nlp_pipe": [size / before, size / after],
        "ratio": speed / pipe,
        "parent_first_tenth": first,
        "parent_last_tenth": last,
        "largest_child": memory.largest_child,
        "nlp_pipe_process": rss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("corpora", type=Path, nargs="+")
    parser.add_argument("--characters", type=int, default=20_000_000)
    parser.add_argument("--sample", type=int, default=300_000, help="characters for nlp.pipe")
    parser.add_argument("--engines", nargs="+", default=["local", "ray"])
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    vocab = Vocab()
    docs = [doc for path in args.corpora for doc in DocBin().from_disk(path).get_docs(vocab)]
    args.folder.mkdir(parents=True, exist_ok=True)
    corpus = args.folder / "corpus.jsonl"
    sample: list[str] = []
    left = args.sample
    with corpus.open("w", encoding="utf8") as file:
        for n, text in enumerate(texts_of(docs, args.characters, args.seed)):
            file.write(json.dumps({"id": f"d{n}", "text": text}, ensure_ascii=False) + "\n")
            if left > 0:
                sample.append(text)
                left -= len(text)
    rows = []
    for engine in args.engines:
        rows.append(measure(args, engine, corpus, sample))
        print(json.dumps(rows[-1]), flush=True)
    shards = [
        {path.name: path.read_bytes() for path in (args.folder / engine / "data").iterdir()}
        for engine in args.engines
    ]
    same = all(each == shards[0] for each in shards)
    print(f"{len(shards[0])} shards, {'equal' if same else 'NOT EQUAL'} in all engines")
    found = {
        "machine": describe_machine(1),
        "versions": {name: version(name) for name in ("spacy", "torch", "transformers", "pyarrow")},
        "rows": rows,
        "shards": len(shards[0]),
        "equal": same,
    }
    (args.folder / "result.json").write_text(json.dumps(found, indent=1), encoding="utf8")


if __name__ == "__main__":
    main()
