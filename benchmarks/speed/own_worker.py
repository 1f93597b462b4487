"""This package as a worker of the speed benchmark; orders come on stdin, see peers/peer_loop.py.

python -m benchmarks.speed.own_worker
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import load_config

from benchmarks import golden
from benchmarks.peers.peer_loop import memory, serve
from spacy_bert_crf.training.loop import train

#: Fewest characters that are timed together where docs are short.
LEAST = 5_000


class Pipe:
    """`nlp.pipe` from texts.

    quantize: the component's setting of that name; "" leaves it out. processes: n_process.
    batch_size: 0 for the pipeline's.
    """

    def __init__(
        self,
        pipeline: str,
        texts: list[str],
        threads: int,
        quantize: str = "",
        processes: int = 1,
        batch_size: int = 0,
    ) -> None:
        torch.set_num_threads(threads)
        self.batch_size = batch_size or None
        self.texts = texts
        self.processes = processes
        self.nlp = load(pipeline, quantize)

    def warm_up(self) -> dict[str, Any]:
        if self.processes == 1:
            list(self.nlp.pipe(self.texts[: max(64, len(self.texts) // 10)]))
        return {"batches": f"batch_size={self.nlp.batch_size} (the pipeline's)"}

    def run(self) -> dict[str, Any]:
        began = time.perf_counter()
        docs = list(self._pipe())
        seconds = time.perf_counter() - began
        assert len(docs) == len(self.texts)
        return {"seconds": seconds, "characters": sum(map(len, self.texts))}

    def _pipe(self) -> Iterator[Doc]:
        return self.nlp.pipe(self.texts, n_process=self.processes, batch_size=self.batch_size)

    def entities(self) -> dict[str, Any]:
        """Entities as benchmarks.golden writes them."""
        return {"entities": golden.entities(self.nlp.pipe(self.texts))}


class Train:
    """One pass of `spacy bert-crf train` over some sentences, without the evaluation at its end.

    config: a training config. encoder: replaces its encoder's folder. data, dev: .spacy files.
    """

    def __init__(
        self, config: str, encoder: str, data: str, dev: str, threads: int, seed: int
    ) -> None:
        torch.set_num_threads(threads)
        self.config = load_config(config, interpolate=False)
        name = component_of(self.config["components"])
        self.config["components"][name]["model"]["tok2vec"]["name"] = encoder
        self.config["paths"] |= {"train": data, "dev": dev}
        self.config["training"] |= {"max_epochs": 1, "max_steps": 0, "patience": 0}
        self.config["system"]["seed"] = seed

    def run(self) -> dict[str, Any]:
        folder = Path(tempfile.mkdtemp(prefix="speed-train-"))
        # There is no such file, so that the labels are read from the data.
        self.config["paths"]["labels"] = str(folder / "labels.json")
        before = memory()
        try:
            history = train(self.config, folder, keep_state=False)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        row = history["epochs"][0]
        return {
            "seconds": row["seconds"] - row["evaluation_seconds"],
            "loss": row["loss"],
            "loaded": before["now"],
            "peak": memory()["peak"],
        }


class Loading:
    """`spacy.load` of a pipeline with its own encoder."""

    def __init__(self, pipeline: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.pipeline = pipeline

    def warm_up(self) -> dict[str, Any]:
        self.run()
        return {}

    def run(self) -> dict[str, Any]:
        began = time.perf_counter()
        spacy.load(self.pipeline)
        return {"seconds": time.perf_counter() - began}


class Long:
    """Single docs of chosen lengths, and streams, made of the characters of texts."""

    def __init__(self, pipeline: str, texts: list[str], threads: int) -> None:
        torch.set_num_threads(threads)
        self.texts = texts
        self.nlp = load(pipeline)
        # Longer streams shall not differ by strings that the vocabulary has not seen.
        for text in texts:
            self.nlp.make_doc(text)

    def docs_of(self, length: int, least_seconds: float = 0.5) -> dict[str, Any]:
        """Seconds of the tokenizer and of the component on docs of `length` characters.

        At least LEAST characters are timed together. RETURNS the best of several repeats.
        """
        text = "".join(self.texts)
        text = (text * (max(length, LEAST) // len(text) + 1))[: max(length, LEAST)]
        texts = [text[i : i + length] for i in range(0, len(text) - length + 1, length)]
        pipe: Any = self.nlp.get_pipe(component_of(self.nlp.config["components"]))
        best, spent, repeats = (float("inf"), float("inf")), 0.0, 0
        while spent < least_seconds and repeats < 200:
            began = time.perf_counter()
            docs = [self.nlp.make_doc(each) for each in texts]
            made = time.perf_counter()
            assert sum(len(doc.text) for doc in pipe.pipe(docs)) == length * len(texts)
            done = time.perf_counter()
            best = (min(best[0], made - began), min(best[1], done - made))
            spent, repeats = spent + done - began, repeats + 1
        sizes = {"characters": length * len(texts)}
        return {"tokenizer": best[0], "component": best[1], **sizes}

    def stream(self, characters: int) -> dict[str, Any]:
        """Memory and seconds of a stream of texts."""
        before = memory()
        began = time.perf_counter()
        done = sum(len(doc.text) for doc in self.nlp.pipe(self._texts(characters)))
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "characters": done,
            "loaded": before["now"],
            "peak": memory()["peak"],
        }

    def _texts(self, characters: int) -> Iterator[str]:
        given = 0
        while given < characters:
            for text in self.texts:
                yield text
                given += len(text)
                if given >= characters:
                    break


def load(pipeline: str, quantize: str = "") -> Language:
    """Load a pipeline. quantize: the component's setting of that name, if not empty."""
    if not quantize:
        return spacy.load(pipeline)
    name = component_of(load_config(Path(pipeline) / "config.cfg")["components"])
    return spacy.load(pipeline, config={"components": {name: {"quantize": quantize}}})


def component_of(components: Any) -> str:
    """Name of the bert_crf component of a config."""
    return next(n for n, section in components.items() if section.get("factory") == "bert_crf")


if __name__ == "__main__":
    serve({"pipe": Pipe, "train": Train, "loading": Loading, "long": Long})
