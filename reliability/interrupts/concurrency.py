"""One pipeline with its own encoder in 8 threads and in 2 processes: the entities it finds alone.

    python -m reliability.interrupts.concurrency --rounds 20

After torch has used its threads, a forked child must not wait for them for ever (DEADLOCK
seconds). A transformer that is shared through spacy-transformers is not safe in threads; see
docs/reliability.md.
"""

import os
import signal
import sys
import threading
import time
from typing import Any

from reliability import toys
from reliability.common import Result, parser_for

DEADLOCK = 120


def found(docs: Any) -> list[list[tuple[int, int, str]]]:
    return [[(ent.start, ent.end, ent.label_) for ent in doc.ents] for doc in docs]


def in_threads(nlp: Any, texts: list[str], want: Any, threads: int, rounds: int) -> int:
    """Predict in threads; number of results that differ."""
    bad: list[int] = []

    def work(number: int) -> None:
        for _ in range(rounds):
            size = 1 + number * 3
            if found(nlp.pipe(texts, batch_size=size)) != want:
                bad.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(bad)


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    import spacy
    import torch

    torch.set_num_threads(2)
    nlp = spacy.load(toys.pipeline())
    texts = [text for text, _ in toys.sentences(60, 3)]
    # Alone, and with torch's threads in use, which a fork does not take along.
    want = found(nlp(text) for text in texts)
    torch.ones(600, 600) @ torch.ones(600, 600)
    result = Result("concurrency")

    def add(what: str, tries: int, bad: int, began: float) -> None:
        command = f"python -m reliability.interrupts.concurrency --rounds {args.rounds}"
        note = f"{time.monotonic() - began:.0f} s"
        result.add(what, tries=tries, bad=bad, command=command, note=note)

    signal.signal(signal.SIGALRM, lambda *a: os._exit(3))
    signal.alarm(DEADLOCK + 5 * args.rounds)
    began = time.monotonic()
    add("8 threads", 8 * args.rounds, in_threads(nlp, texts, want, 8, args.rounds), began)
    began, bad = time.monotonic(), 0
    processes = max(args.rounds // 4, 1)
    for _ in range(processes):
        bad += found(nlp.pipe(texts, n_process=2, batch_size=8)) != want
    add("n_process=2, after torch's threads were used", processes, bad, began)
    began, bad = time.monotonic(), 0
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            list(nlp.pipe(texts[:8]))

    worker = threading.Thread(target=busy)
    worker.start()
    for _ in range(processes):
        bad += found(nlp.pipe(texts, n_process=2, batch_size=8)) != want
    stop.set()
    worker.join()
    add("n_process=2, forked while another thread predicts", processes, bad, began)
    result.write()
    return result.status()


if __name__ == "__main__":
    sys.exit(main())
