"""A pipeline of this package as a worker of benchmarks.lac; orders come on stdin.

python -m benchmarks.lac.own_worker
"""

import time
from typing import Any

import torch

from benchmarks import golden
from benchmarks.peers.peer_loop import evenly, serve, times_of
from benchmarks.speed.own_worker import load


class Pipeline:
    """`nlp.pipe` with its fastest batch size, and `nlp` text by text.

    quantize: the component's setting of that name; "" leaves it out.
    """

    #: Batch sizes of `nlp.pipe` that are tried.
    SIZES = (16, 64, 256, 1000)
    #: Texts they are tried on.
    SAMPLE = 256

    def __init__(self, pipeline: str, texts: list[str], threads: int, quantize: str = "") -> None:
        torch.set_num_threads(threads)
        self.texts = texts
        self.nlp = load(pipeline, quantize)
        self.batch_size = self.nlp.batch_size

    def warm_up(self) -> dict[str, Any]:
        sample = evenly(self.texts, self.SAMPLE)
        list(self.nlp.pipe(sample[:16]))
        times = times_of(self.SIZES, lambda size: self._time(sample, size))
        self.batch_size = min(times, key=lambda size: times[size])
        return {"batches": f"batch_size={self.batch_size}"}

    def run(self) -> dict[str, Any]:
        """Seconds of `nlp.pipe`, and of a call for each text."""
        seconds = self._time(self.texts, self.batch_size)
        began = time.perf_counter()
        for text in self.texts:
            self.nlp(text)
        return {"batches": seconds, "single": time.perf_counter() - began}

    def entities(self) -> dict[str, Any]:
        """[start, end, label] by characters for each entity of each text."""
        return {"entities": golden.entities(self.nlp.pipe(self.texts))}

    def _time(self, texts: list[str], size: int) -> float:
        began = time.perf_counter()
        list(self.nlp.pipe(texts, batch_size=size))
        return time.perf_counter() - began


if __name__ == "__main__":
    serve({"pipeline": Pipeline})
