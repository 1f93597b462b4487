"""The peer of the accuracy benchmark: bert4torch's CRF example, epoch by epoch, and what it finds.

python bert4torch_accuracy.py   (orders on stdin, see peer_loop.py)
"""

import platform
import random
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import torch
from bert4torch_speed import BATCH, FEWEST_IDS, Fit
from peer_loop import serve
from torch.utils.data import DataLoader, Sampler

#: Sentences that are sorted at a time; what comes together otherwise stays random.
BUFFER = 1024
#: Most wordpieces of a text that is predicted, special ones included.
LONGEST = 512
#: Texts that are predicted at a time.
PREDICTED = 64


class ByLength(Sampler[list[int]]):
    """Batches of sentences of like length, in random order; others in each epoch."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        full, rest = divmod(len(self.lengths), BUFFER)
        return full * (BUFFER // BATCH) + -(-rest // BATCH)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(len(self.lengths)))
        random.shuffle(order)
        for i in range(0, len(order), BUFFER):
            held = sorted(order[i : i + BUFFER], key=self.lengths.__getitem__)
            batches = [held[j : j + BATCH] for j in range(0, len(held), BATCH)]
            random.shuffle(batches)
            yield from batches


class Trial(Fit):
    """Its training in batches of like length; predicts texts after any epoch.

    train: as for Fit. Texts that its tokenizer can't find its wordpieces in are left out.
    spelling: prefixes of the tags, see bert4torch_model.BIO.
    """

    def __init__(self, train: list[Any], spelling: list[str], **job: Any) -> None:
        self.left_out = 0
        super().__init__(train=train, spelling=spelling, **job)

    def loader(self, collate: Any) -> DataLoader:
        """The batches of an epoch."""
        kept = [pair for pair in self.train if self._read(pair[0])[1] is not None]
        self.left_out, self.train = len(self.train) - len(kept), kept
        lengths = [len(text) for text, _ in kept]
        return DataLoader(kept, batch_sampler=ByLength(lengths), collate_fn=collate)

    def about(self) -> dict[str, Any]:
        """Versions, and texts left out of the training."""
        names = ("bert4torch", "torch4keras", "torch", "numpy")
        found = {"python": platform.python_version(), **{n: metadata.version(n) for n in names}}
        return {"versions": found, "left_out": self.left_out}

    def run(self) -> dict[str, Any]:
        """Train for one epoch."""
        self.model.train()
        return super().run()

    def find(self, texts: list[str]) -> dict[str, Any]:
        """For each text the characters of its wordpieces as [start, end], and their tag ids,
        special ones left out; None for one whose wordpieces can't be found in it.

        Texts are cut at 512 wordpieces, as the example cuts them at its maximum length. cut: how
        many are.
        """
        read = [self._read(text, maxlen=LONGEST) for text in texts]
        cut = sum(len(self.tokenizer.tokenize(text)) > LONGEST for text in texts)
        found: list[Any] = [None] * len(texts)
        known = [i for i, (tokens, mapping) in enumerate(read) if mapping and len(tokens) > 2]
        known.sort(key=lambda i: len(read[i][0]))
        for j in range(0, len(known), PREDICTED):
            members = known[j : j + PREDICTED]
            ids = [self.tokenizer.tokens_to_ids(read[i][0]) for i in members]
            longest = max(FEWEST_IDS, *map(len, ids))
            rows = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
            for i, path in zip(members, self.model.predict(rows).tolist(), strict=True):
                pairs = [
                    ((places[0], places[-1] + 1), tag)
                    for places, tag in zip(read[i][1], path, strict=False)
                    if places
                ]
                found[i] = [[place for place, _ in pairs], [tag for _, tag in pairs]]
        return {"found": found, "cut": cut}

    def _read(self, text: str, **limit: int) -> tuple[list[str], list[list[int]] | None]:
        tokens = self.tokenizer.tokenize(text, **limit)
        try:
            return tokens, self.tokenizer.rematch(text, tokens)
        except ValueError:  # a wordpiece that is not in the text
            return tokens, None


if __name__ == "__main__":
    serve({"trial": Trial})
