"""Resident memory of long prediction and of training over several epochs.

    python -m reliability.memory --minutes 30
    python -m reliability.memory --minutes 2.5 --only predict

Texts never repeat, as in a service. Memory is read once a second. Bad: the mean of the last fifth
is more than LIMIT above that of the second fifth; in the first minutes, while the allocator and
spaCy's vocabulary still grow, SHORT_LIMIT. (spaCy's own vocabulary keeps each new word: here
a character is a word, and all of them occur early.) Prediction and training are measured in
processes of their own.
"""

import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from reliability import toys
from reliability.common import ROOT, Result, parser_for

#: Bytes of growth that count as noise: in general, and in runs shorter than SHORT minutes.
LIMIT, SHORT_LIMIT, SHORT = 20 << 20, 100 << 20, 5.0
PARTS = ("predict", "train")


def resident() -> int:
    """Bytes of memory that the process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def drift(samples: list[int]) -> tuple[float, float]:
    """Means of the second and of the last fifth."""
    fifth = max(len(samples) // 5, 1)
    second, last = samples[fifth : 2 * fifth] or samples, samples[-fifth:]
    return sum(second) / len(second), sum(last) / len(last)


def endless_texts(rng: Random) -> Iterator[str]:
    while True:
        parts = [text for text, _ in toys.sentences(rng.randrange(1, 30), rng.randrange(10**9))]
        rng.shuffle(parts)
        yield "".join(parts)


def predict(minutes: float) -> tuple[list[int], str]:
    """Predict for some minutes. RETURNS samples of memory in bytes, and a summary."""
    import spacy

    nlp = spacy.load(toys.pipeline())
    samples: list[int] = []
    began = sampled = time.monotonic()
    texts = characters = 0
    for doc in nlp.pipe(endless_texts(Random(1)), batch_size=64):
        texts, characters = texts + 1, characters + len(doc.text)
        now = time.monotonic()
        if now - sampled >= 1:
            sampled = now
            samples.append(resident())
        if now - began > minutes * 60:
            break
    return samples, f"{texts:,} texts, {characters:,} characters in {minutes:g} minutes"


def train(epochs: int) -> tuple[list[int], str]:
    """Train; a sample of memory after each epoch."""
    from spacy.util import load_config, registry

    from spacy_bert_crf.training.loop import train as train_pipeline

    samples: list[int] = []

    @registry.loggers("reliability.memory.v1")
    def create_sampler() -> Any:
        def log_step(info: Any) -> None:
            if info is not None:  # an epoch has ended
                gc.collect()
                samples.append(resident())

        return lambda nlp, stdout, stderr: (log_step, lambda: None)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        toys.training_files(folder, epochs=epochs, examples=400, count=False)
        config = load_config(folder / "train.cfg", interpolate=False)
        config["training"]["logger"] = {"@loggers": "reliability.memory.v1"}
        train_pipeline(config, folder / "out", save_minutes=0.05)
    return samples, f"{epochs} epochs of 50 updates"


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--only", choices=PARTS)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if args.only is None:
        words = ["--minutes", str(args.minutes), "--epochs", str(args.epochs)]
        command = [sys.executable, "-m", "reliability.memory", *words, "--only"]
        return max(subprocess.run([*command, o], check=False, cwd=ROOT).returncode for o in PARTS)
    import torch

    torch.set_num_threads(1)
    result = Result("memory")
    if args.only == "predict":
        samples, done = predict(args.minutes)
        words = f"--only predict --minutes {args.minutes:g}"
        limit = LIMIT if args.minutes > SHORT else SHORT_LIMIT
        report(result, f"prediction, {done}", samples, words, limit)
    else:
        samples, done = train(args.epochs)
        report(result, f"training, {done}", samples, f"--only train --epochs {args.epochs}")
    result.write()
    return result.status()


def report(result: Result, what: str, samples: list[int], words: str, limit: int = LIMIT) -> None:
    early, late = drift(samples)
    result.add(
        what,
        tries=len(samples),
        bad=int(late - early > limit),
        command=f"python -m reliability.memory {words}",
        note=f"resident memory {early / 1e6:.1f} MB in the second fifth, {late / 1e6:.1f} MB in "
        f"the last, {max(samples) / 1e6:.1f} MB at most",
        megabytes={
            name: round(size / 1e6, 1)
            for name, size in (("early", early), ("late", late), ("peak", max(samples)))
        },
    )


if __name__ == "__main__":
    sys.exit(main())
