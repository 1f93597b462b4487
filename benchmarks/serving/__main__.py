"""Measure `bert-crf serve` under load and alone, beside `nlp.pipe` and `nlp(text)`.

    python -m benchmarks.serving --pipeline training/quickstart/model-best \
        --data corpus/quickstart/test.spacy --output benchmarks/results/serving

Texts of mixed length are made of the corpus: sentences, and paragraphs of several of them. In turn
`nlp.pipe` annotates them and clients ask the server for them, one text a request, on loopback. Each
answer is compared with the entities of `nlp.pipe`. Then one client asks for a short text, in turn
with `nlp(text)`. The exit status is 1 if an answer is wrong.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import spacy
import torch
from spacy.tokens import DocBin

from benchmarks.harness.common import (
    ROOT,
    command_line,
    parser_for,
    stem_of,
    write_results,
)
from benchmarks.harness.machine_info import describe_machine
from benchmarks.harness.tables import table, words
from benchmarks.serving.load import ask
from spacy_bert_crf._provenance import versions


def mixed_texts(nlp, path: Path, n: int) -> list[str]:
    """Texts of 1 to 8 sentences of a corpus, half of them of one sentence."""
    sentences = [doc.text for doc in DocBin().from_disk(path).get_docs(nlp.vocab) if doc.text]
    draw = random.Random(0)
    counts = [draw.choice((1, 1, 1, 1, 2, 3, 5, 8)) for _ in range(n)]
    return ["".join(draw.choices(sentences, k=count)) for count in counts]


def entities(doc) -> list[list]:
    """Entities as the server gives them."""
    return [[ent.start_char, ent.end_char, ent.label_] for ent in doc.ents]


class Server:
    """The command in a process of its own, within a `with` block."""

    def __init__(self, pipeline: Path, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spacy", "bert-crf", "serve", str(pipeline), "--port", "0",
             "--threads", str(threads)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        for line in self.process.stdout or ():
            if line.startswith("ready: "):
                self.port = int(line.rsplit(":", 1)[1])
                return
        raise RuntimeError("the server did not start")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)

    def memory(self) -> int:
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf8")
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    def load(self, texts: list[str], clients: int, seconds: float) -> dict:
        """Ask for texts, see `load`."""
        plan = {"port": self.port, "texts": texts, "clients": clients, "seconds": seconds}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.serving.load"], input=json.dumps(plan), cwd=ROOT,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)


def pipe_speed(nlp, texts: list[str], seconds: float) -> float:
    """Characters a second of `nlp.pipe`, for about this time."""
    begin, n_chars, at = time.monotonic(), 0, 0
    while time.monotonic() - begin < seconds:
        part = [texts[(at + i) % len(texts)] for i in range(256)]
        n_chars += sum(len(doc.text) for doc in nlp.pipe(part))
        at += 256
    return n_chars / (time.monotonic() - begin)


async def latency(nlp, port: int, text: str, pairs: int) -> dict[str, float]:
    """Median seconds of `nlp(text)` and of a request for it alone, in turn, and their ratio."""
    body = json.dumps({"texts": [text]}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    own, served = [], []
    for _ in range(pairs):
        begin = time.perf_counter()
        nlp(text)
        between = time.perf_counter()
        status, _ = await ask(reader, writer, body)
        served.append(time.perf_counter() - between)
        own.append(between - begin)
        if status != 200:
            raise RuntimeError(f"the server answered with {status}")
    writer.close()
    return {
        "nlp": median(own),
        "server": median(served),
        "ratio": median(b / a for a, b in zip(own, served, strict=True)),
    }


def measure(args) -> dict:
    """All figures."""
    torch.set_num_threads(args.threads)
    nlp = spacy.load(args.pipeline)
    texts = mixed_texts(nlp, args.data, args.texts)
    expected = [entities(doc) for doc in nlp.pipe(texts)]
    lengths = np.array([len(text) for text in texts])
    pipe, served, rows, ratios = [], [], [], []
    with Server(args.pipeline, args.threads) as server:
        server.load(texts, args.clients, 3)
        first = server.memory()
        part = args.seconds / args.rounds
        for _ in range(args.rounds):
            pipe.append(pipe_speed(nlp, texts, part / 3))
            found = server.load(texts, args.clients, part)
            n_chars = sum(lengths[i] for i, status, _, _ in found["rows"] if status == 200)
            served.append(float(n_chars / found["seconds"]))
            ratios.append(served[-1] / pipe[-1])
            rows += found["rows"]
        last = server.memory()
        short = asyncio.run(latency(nlp, server.port, args.short, args.pairs))
    seconds = np.array([row[2] for row in rows])
    good = [row for row in rows if row[1] == 200]
    return {
        "threads": args.threads, "clients": args.clients, "requests": len(rows),
        "texts": {"different": len(texts), "median_chars": float(np.median(lengths)),
                  "longest": int(lengths.max())},
        "characters_a_second": {"nlp.pipe": median(pipe), "server": median(served)},
        "ratio": median(ratios), "ratios": ratios,
        "wrong": sum(row[3] != expected[row[0]] for row in good),
        "other_statuses": len(rows) - len(good),
        "seconds": {f"p{q}": float(np.percentile(seconds, q)) for q in (50, 90, 99)},
        "memory_mib": {"first": first, "last": last},
        "short_text": {"chars": len(args.short), "pairs": args.pairs, **short},
    }  # fmt: skip


def markdown(found: dict) -> str:
    """The page."""
    speeds, seconds, short = found["characters_a_second"], found["seconds"], found["short_text"]
    memory, texts = found["memory_mib"], found["texts"]
    rows = [
        ["characters a second of nlp.pipe", f"{speeds['nlp.pipe']:,.0f}"],
        ["of the server", f"{speeds['server']:,.0f}"],
        ["ratio, median of the rounds", f"{found['ratio']:.2f}"],
        ["in each round", ", ".join(f"{ratio:.2f}" for ratio in found["ratios"])],
        ["requests", f"{found['requests']:,}"],
        ["wrong answers", found["wrong"]],
        ["other statuses than 200", found["other_statuses"]],
        *([f"{name} of the latency", f"{1000 * value:,.0f} ms"] for name, value in seconds.items()),
        ["memory of the server before and after", f"{memory['first']:,}, {memory['last']:,} MiB"],
        [f"a text of {short['chars']} characters alone, by nlp(text)",
         f"{1000 * short['nlp']:.1f} ms"],
        ["by the server", f"{1000 * short['server']:.1f} ms"],
        [f"ratio, median of {short['pairs']} pairs in turn", f"{short['ratio']:.2f}"],
    ]  # fmt: skip
    return "\n".join([
        "# A server under load", "",
        f"{found['clients']} clients on loopback for {found['load_seconds']:.0f} seconds, one text "
        f"a request, in turn with nlp.pipe. {texts['different']:,} texts of {found['data']}, of "
        f"1 to 8 sentences: {texts['median_chars']:.0f} characters in the median, "
        f"{texts['longest']:,} at most. {found['threads']} threads.", "",
        *table(["", ""], rows), "",
        f"Machine: {found['machine']['machine']}, load before the start "
        f"{found['machine']['load_average']:.1f}. Versions: {words(found['versions'])}.", "",
        f"Command: `{found['command']}`", "",
    ])  # fmt: skip


def main() -> int:
    """Measure, print and write. RETURNS: the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=180, help="of load, in all")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--texts", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--short", default="王小明昨天在北京。")
    parser.add_argument("--pairs", type=int, default=200, help="of nlp(text) and a request")
    parser.add_argument("--output", type=Path, help="NAME.json and NAME.md")
    args = parser.parse_args()
    machine = describe_machine(args.threads)
    found = measure(args) | {
        "data": args.data.name,
        "load_seconds": args.seconds,
        "machine": machine,
        "versions": versions(),
        "command": command_line(),
    }
    text = markdown(found)
    print(text)
    if args.output:
        write_results(str(stem_of(args.output)), found, text)
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
