"""Peers of the speed benchmark: bert4torch's own CRF example, predicting and training.

python bert4torch_speed.py   (orders on stdin, see peer_loop.py)
"""

import json
import random
import time
from pathlib import Path
from typing import Any

from bert4torch_model import Model, check_loaded, labelled, read_entities  # isort: skip
import numpy as np
import torch
from bert4torch.snippets import sequence_padding
from bert4torch.tokenizers import Tokenizer
from peer_loop import memory, serve
from torch import Tensor, nn
from torch.utils.data import DataLoader

#: As in the example.
BATCH, MAX_LENGTH, RATE = 16, 256, 2e-5
#: Its CRF misreads a batch that is one step wide.
FEWEST_IDS = 4


class Predict:
    """Its loop over batches in arrival order: tokenise, predict, read the entities.

    Texts are cut at 512 wordpieces, not at the example's 256, so that as little as possible of
    the text is left out. The gold labels, which its evaluate() makes too, are left out.
    folder: an export to bert4torch.
    """

    def __init__(
        self, folder: str, texts: list[str], threads: int, tags: list[str], lower: bool
    ) -> None:
        torch.set_num_threads(threads)
        self.texts, self.tags = texts, tags
        path = Path(folder)
        self.model = Model(path, None, len(tags))
        self.model.load_weights(str(path / "best_model.pt"), strict=True)
        self.tokenizer = Tokenizer(str(path / "vocab.txt"), do_lower_case=lower)

    def warm_up(self) -> dict[str, Any]:
        self._pass(self.texts[: 2 * BATCH])
        return {"batches": f"{BATCH} texts, in arrival order"}

    def run(self) -> dict[str, Any]:
        began = time.perf_counter()
        found = self._pass(self.texts)
        seconds = time.perf_counter() - began
        characters = sum(map(len, self.texts))
        return {"seconds": seconds, "characters": characters, "entities": found}

    def _pass(self, texts: list[str]) -> int:
        found = 0
        for i in range(0, len(texts), BATCH):
            part = texts[i : i + BATCH]
            tokens = [self.tokenizer.tokenize(text, maxlen=512) for text in part]
            ids = [self.tokenizer.tokens_to_ids(each) for each in tokens]
            longest = max(FEWEST_IDS, *map(len, ids))
            rows = [row + [0] * (longest - len(row)) for row in ids]
            best = self.model.predict(torch.tensor(rows))
            for text, each, path in zip(part, tokens, best.tolist(), strict=True):
                path = path[: len(each)]
                found += len(read_entities(self.tokenizer, text, each, path, self.tags) or ())
        return found


class Fit:
    """Its training as published: shuffled batches of 16 as they come, Adam at 2e-5, model.fit.

    folder: holds bert4torch_config.json. train: (text, spans) pairs. Where other things than speed
    are measured: rate: of Adam. lower: whether to lower-case. device: "cpu" or "cuda:N". products:
    torch's float32 matmul precision ("medium": products in bfloat16 where the CPU has them).
    how: further arguments of labelled.
    """

    def __init__(
        self,
        folder: str,
        checkpoint: str,
        vocab: str,
        train: list[Any],
        tags: list[str],
        threads: int,
        seed: int,
        rate: float = RATE,
        lower: bool = True,
        device: str = "cpu",
        products: str = "highest",
        **how: Any,
    ) -> None:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(products)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.train = train
        self.model = Model(Path(folder), checkpoint, len(tags))
        check_loaded(self.model, checkpoint)
        self.model.to(device)
        tokenizer = self.tokenizer = Tokenizer(vocab, do_lower_case=lower)
        ids = {tag: i for i, tag in enumerate(tags)}
        model = self.model

        def collate(batch: list[list[Any]]) -> tuple[Tensor, Tensor]:
            pairs = [
                labelled(tokenizer, text, spans, ids, MAX_LENGTH, **how) for text, spans in batch
            ]
            tokens, labels = (sequence_padding(list(part)) for part in zip(*pairs, strict=True))
            return torch.tensor(tokens), torch.tensor(labels, dtype=torch.long)

        class Loss(nn.Module):
            def forward(self, outputs: Any, labels: Tensor) -> Tensor:
                return model.crf(*outputs, labels)

        self.batches = self.loader(collate)
        self.model.compile(loss=Loss(), optimizer=torch.optim.Adam(model.parameters(), lr=rate))

    def loader(self, collate: Any) -> DataLoader:
        """The batches of an epoch."""
        return DataLoader(self.train, batch_size=BATCH, shuffle=True, collate_fn=collate)

    def run(self) -> dict[str, Any]:
        before = memory()
        began = time.perf_counter()
        history = self.model.fit(self.batches, epochs=1)
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "characters": sum(len(text) for text, _ in self.train),
            "loss": json.loads(json.dumps(history.history["loss"], default=float))[-1],
            "loaded": before["now"],
            "peak": memory()["peak"],
        }


if __name__ == "__main__":
    serve({"predict": Predict, "fit": Fit})
