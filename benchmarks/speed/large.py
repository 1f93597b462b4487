"""A large corpus annotated by each engine: speed, memory over time, and equal shards.

    python -m benchmarks.speed.large PIPELINE FOLDER A.spacy B.spacy --characters 20000000 \
        --output benchmarks/results/large

The corpus is made of the docs of the DocBins. Each text gets an id, and its entities are replaced
by others of the same label, so that few texts are equal. The speed is compared with processes of
`nlp.pipe` that share a sample of the corpus, run just before and just after each engine. FOLDER
keeps what each engine wrote: with the same options, another call adds an engine, and goes on where
one was interrupted.
"""

import argparse
import json
import os
import random
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from itertools import count
from pathlib import Path
from statistics import mean, median
from typing import Any

import psutil
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from benchmarks.harness.common import command_line, parser_for, stem_of, write_json, write_results
from benchmarks.harness.machine_info import describe_machine
from benchmarks.harness.tables import table, words
from benchmarks.speed.others import WORKERS, pipes
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
    """Reads the resident memory of this process and of its workers in the background."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.worker = 0
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
        own = me.cmdline()
        while not self._ends.wait(_EVERY):
            self.parent.append(me.memory_info().rss)
            for child in me.children(recursive=True):
                try:
                    words = child.cmdline()  # forked, or started by an actor of Ray
                    if words == own or any("multiprocessing.spawn" in word for word in words):
                        self.worker = max(self.worker, child.memory_info().rss)
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
        "worker": memory.worker,
        "nlp_pipe_process": rss,
        "load": os.getloadavg()[0],
    }


def same_shards(folders: list[Path]) -> tuple[int, bool]:
    """How many shards the first folder has, and whether the others have the same bytes."""
    names = [{path.name for path in folder.iterdir()} for folder in folders]
    same = all(each == names[0] for each in names) and all(
        (folder / name).read_bytes() == (folders[0] / name).read_bytes()
        for folder in folders[1:]
        for name in names[0]
    )
    return len(names[0]), same


def markdown(content: dict[str, Any]) -> str:
    """The page."""
    rows = []
    for row in content["rows"].values():
        first, last, worker, pipe = (
            f"{row[name] / 2**20:,.0f}"
            for name in (
                "parent_first_tenth", "parent_last_tenth", "worker", "nlp_pipe_process",
            )
        )  # fmt: skip
        before, after = row["nlp_pipe"]
        rows.append([
            row["engine"], f"{row['seconds'] / 60:.1f}", f"{row['speed']:,.0f}",
            f"{before:,.0f}, {after:,.0f}", f"{row['ratio']:.2f}", first, last, worker, pipe,
        ])  # fmt: skip
    head = [
        "engine", "minutes", "characters a second", "two nlp.pipe, before and after", "ratio",
        "first tenth", "last tenth", "a worker", "a process of nlp.pipe",
    ]  # fmt: skip
    same = ", equal, byte for byte," if content["equal"] else ", NOT EQUAL,"
    if len(rows) < 2:
        same = ""
    return "\n".join([
        "# A large corpus", "",
        f"{content['texts']:,} texts, {content['characters']:,} characters, of "
        f"{', '.join(content['corpora'])}, with other names. Two workers, one thread each"
        f"{', 8-bit integers' if content['int8'] else ''}. Memory is the largest resident memory "
        "in MiB; of the process that was started, the mean over the first and the last tenth of "
        "the time. Speeds include loading.", "",
        *table(head, rows), "",
        f"{content['shards']:,} shards{same} from {' and '.join(content['rows'])}.", "",
        f"Machine: {content['machine']['machine']}. Versions: {words(content['versions'])}.", "",
        f"Command: `{content['command']}`", "",
    ])  # fmt: skip


def main() -> int:
    """The command line. RETURNS: the exit code, 1 if the shards of the engines differ."""
    parser = parser_for(__doc__ or "")
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("corpora", type=Path, nargs="+")
    parser.add_argument("--characters", type=int, default=20_000_000)
    parser.add_argument("--sample", type=int, default=300_000, help="characters for nlp.pipe")
    parser.add_argument("--engines", nargs="+", default=["local", "ray"])
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="NAME.json and NAME.md")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    vocab = Vocab()
    docs = [doc for path in args.corpora for doc in DocBin().from_disk(path).get_docs(vocab)]
    args.folder.mkdir(parents=True, exist_ok=True)
    corpus = args.folder / "corpus.jsonl"
    sample: list[str] = []
    left, number = args.sample, count()
    lines = []
    for text in texts_of(docs, args.characters, args.seed):
        lines.append(json.dumps({"id": f"d{next(number)}", "text": text}, ensure_ascii=False))
        if left > 0:
            sample.append(text)
            left -= len(text)
    written = "\n".join([*lines, ""])
    if not corpus.is_file() or corpus.read_text(encoding="utf8") != written:
        corpus.write_text(written, encoding="utf8")
    result = args.folder / "result.json"
    rows = json.loads(result.read_text(encoding="utf8"))["rows"] if result.is_file() else {}
    content: dict[str, Any] = {
        "corpora": [path.name for path in args.corpora],
        "texts": len(lines),
        "int8": args.int8,
        "machine": describe_machine(1),
        "command": command_line(),
        "rows": rows,
    }
    del docs, vocab, lines, written  # the memory over time is that of `annotate`
    for engine in args.engines:
        rows[engine] = measure(args, engine, corpus, sample)
        print(json.dumps(rows[engine]), flush=True)
        write_json(result, content)
    content["characters"] = max(row["characters"] for row in rows.values())
    content["shards"], content["equal"] = same_shards(
        [args.folder / engine / "data" for engine in rows]
    )
    names = ["spacy", "torch", "transformers", "pyarrow", *(["ray"] if "ray" in rows else [])]
    content["versions"] = {name: version(name) for name in names}
    write_json(result, content)
    text = markdown(content)
    print(text)
    if args.output:
        write_results(str(stem_of(args.output)), content, text)
    return 0 if content["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
