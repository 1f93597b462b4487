"""One tree of the package as a worker of benchmarks.speed.host; orders come on stdin.

The tree is the one that PYTHONPATH names, so nothing here imports another part of the benchmarks.
"""

import functools
import hashlib
import importlib
import time
from collections.abc import Callable
from typing import Any

import spacy
import torch
from peer_loop import serve
from spacy.language import Language

#: Functions of the package by part: module, name of a class or "", name of the function. Those
#: that a tree does not have are left out. A name counts where it is looked up.
MARKS: dict[str, list[tuple[str, str, str]]] = {
    "wordpieces": [
        ("encoder.passes", "", "tokenize"),
        ("encoder.passes", "", "tokenize_joined"),
    ],
    "plan": [("model.shims", "EncoderShim", "plan")],
    "vectors": [("model.shims", "", "run")],
    "decoding": [("model.crf_batches", "", "decode")],
    "entities": [("component.pipe", "BertCrf", "set_annotations")],
}


class Clock:
    """Seconds of process time by part, without what is called of other parts."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    def reset(self) -> None:
        """Begin anew, in the part `rest`."""
        self.spent = {}
        self._open = ["rest"]
        self._since = time.process_time()

    def _turn(self) -> None:
        now = time.process_time()
        if self._open:
            part = self._open[-1]
            self.spent[part] = self.spent.get(part, 0.0) + now - self._since
        self._since = now

    def stop(self) -> dict[str, float]:
        """The seconds of each part."""
        self._turn()
        self._open = []
        return self.spent

    def marked(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """A function whose time counts for a part."""

        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            self._open.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._turn()
                self._open.pop()

        return inner


class Host:
    """`nlp.pipe` over texts, timed by part.

    pipeline: folder of a pipeline. texts: what it reads. batch_size: of `nlp.pipe`.
    """

    def __init__(self, pipeline: str, texts: list[str], batch_size: int) -> None:
        torch.set_num_threads(1)
        self.texts, self.batch_size = texts, batch_size
        self.nlp = spacy.load(pipeline)
        self.clock = Clock()
        self._mark()

    def _mark(self) -> None:
        for part, places in MARKS.items():
            for module, owner, name in places:
                place: Any = importlib.import_module(f"spacy_bert_crf.{module}")
                place = getattr(place, owner) if owner else place
                if hasattr(place, name):
                    setattr(place, name, self.clock.marked(getattr(place, name), part))
        # Encoders of several kinds run; all are modules.
        shims = importlib.import_module("spacy_bert_crf.model.shims")
        run, marked = shims.run, self.clock.marked

        class Timed:
            def __init__(self, module: Any) -> None:
                self.module = module

            def __getattr__(self, name: str) -> Any:
                return getattr(self.module, name)

            def __call__(self, *args: Any, **kwargs: Any) -> Any:
                return marked(self.module, "encoder")(*args, **kwargs)

        @functools.wraps(run)
        def run_timed(module: Any, *args: Any, **kwargs: Any) -> Any:
            return run(Timed(module), *args, **kwargs)

        shims.run = run_timed
        nlp: Language = self.nlp
        nlp.make_doc = self.clock.marked(nlp.make_doc, "doc")  # type: ignore[method-assign]

    def run(self) -> dict[str, Any]:
        """RETURNS: microseconds a character of each part, and a checksum of all entities."""
        self.clock.reset()
        docs = list(self.nlp.pipe(self.texts, batch_size=self.batch_size))
        spent = self.clock.stop()
        found = [[(e.start_char, e.end_char, e.label_) for e in doc.ents] for doc in docs]
        each = 1e6 / sum(map(len, self.texts))
        parts = ("doc", *MARKS, "rest")
        return {
            "parts": {part: spent.get(part, 0.0) * each for part in parts},
            "encoder": spent.get("encoder", 0.0) * each,
            "entities": hashlib.sha256(repr(found).encode()).hexdigest(),
        }


if __name__ == "__main__":
    serve({"host": Host})
