"""Peers of the speed benchmark: transformers' encoder alone, and its pipeline.

python transformers_encoder.py   (orders on stdin, see peer_loop.py)
"""

import time
from typing import Any

import torch
from batching import Batched, windows
from peer_loop import serve
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, pipeline


class Bare(Batched):
    """The encoder alone, on ids made beforehand.

    folder: a Hugging Face folder with its weights. order: see Batched.
    """

    def __init__(self, folder: str, texts: list[str], threads: int, order: str) -> None:
        torch.set_num_threads(threads)
        self.model = AutoModel.from_pretrained(
            folder, add_pooling_layer=False, attn_implementation="sdpa"
        ).eval()
        ids = windows(AutoTokenizer.from_pretrained(folder), texts)
        super().__init__(ids, sum(map(len, texts)), order)

    def prepare(self, rows: list[list[int]]) -> Any:
        ids, mask = padded(rows)
        return ids, None if bool(mask.all()) else mask

    @torch.inference_mode()
    def run_batch(self, batch: Any) -> None:
        self.model(input_ids=batch[0], attention_mask=batch[1])

    def work(self) -> dict[str, Any]:
        """Multiply-adds that the texts need, without padding; wordpieces with special ones."""
        config = self.model.config
        width, inner = config.hidden_size, config.intermediate_size
        pieces = sum(map(len, self.ids))
        squares = sum(len(row) ** 2 for row in self.ids)
        linear = pieces * (4 * width * width + 2 * width * inner)
        return {
            "pieces": pieces,
            "multiply_adds": config.num_hidden_layers * (linear + 2 * squares * width),
        }


class Scripted(Batched):
    """The TorchScript of an export, from ids to emissions."""

    def __init__(self, folder: str, texts: list[str], threads: int) -> None:
        torch.set_num_threads(threads)
        self.model = torch.jit.load(f"{folder}/emissions.pt")
        ids = windows(AutoTokenizer.from_pretrained(folder), texts)
        super().__init__(ids, sum(map(len, texts)))

    def prepare(self, rows: list[list[int]]) -> Any:
        ids, mask = padded(rows)
        return ids, mask, torch.zeros_like(ids)

    def run_batch(self, batch: Any) -> None:
        # As the package opens it: the optimising executor specialises to each new shape.
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            self.model(*batch)


class Pipeline:
    """transformers.pipeline("token-classification"), from texts to entities."""

    def __init__(self, folder: str, texts: list[str], threads: int, batch_size: int) -> None:
        torch.set_num_threads(threads)
        self.texts = texts
        self.batch_size = batch_size
        self.nlp = pipeline(
            "token-classification", model=folder, aggregation_strategy="simple", device="cpu"
        )

    def warm_up(self) -> dict[str, Any]:
        self.nlp(self.texts[:8], batch_size=self.batch_size)
        return {"batches": f"batch_size={self.batch_size}"}

    def run(self) -> dict[str, Any]:
        began = time.perf_counter()
        self.nlp(self.texts, batch_size=self.batch_size)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "characters": sum(map(len, self.texts))}


class Peak:
    """What the machine's matrix products reach: float32, 2048 x 2048."""

    SIZE, REPEATS = 2048, 20

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self.a, self.b = (torch.rand(self.SIZE, self.SIZE) for _ in range(2))

    def warm_up(self) -> dict[str, Any]:
        self.run()
        return {}

    def run(self) -> dict[str, Any]:
        """GFLOPS (two operations for each multiply-add), the best of some."""
        best = float("inf")
        for _ in range(self.REPEATS):
            began = time.perf_counter()
            torch.mm(self.a, self.b)
            best = min(best, time.perf_counter() - began)
        return {"gflops": 2 * self.SIZE**3 / best / 1e9}


class Loading:
    """Loading an encoder and its tokenizer as transformers does."""

    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.folder = folder

    def warm_up(self) -> dict[str, Any]:
        self.run()
        return {}

    def run(self) -> dict[str, Any]:
        began = time.perf_counter()
        AutoModel.from_pretrained(self.folder)
        AutoTokenizer.from_pretrained(self.folder)
        return {"seconds": time.perf_counter() - began}


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask of a batch, int64. [B, T] each"""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(longest) < lengths[:, None]).long()


if __name__ == "__main__":
    serve(
        {
            "bare": Bare,
            "scripted": Scripted,
            "pipeline": Pipeline,
            "peak": Peak,
            "loading": Loading,
        }
    )
