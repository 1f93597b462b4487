"""How the encoder alone is fed: texts cut to its length, batches by length, the fastest rule."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from peer_loop import evenly

Batches = list[list[int]]

#: Of so many texts, evenly taken, each rule is timed.
SAMPLE = 400
#: The larger of these windows is not cut.
LONGEST = 512


def by_count(lengths: Sequence[int], size: int) -> Batches:
    """Batches of `size` members, longest first."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return [order[i : i + size] for i in range(0, len(order), size)]


def by_budget(lengths: Sequence[int], budget: int) -> Batches:
    """Batches of at most `budget` ids, padding included, longest first."""
    out: Batches = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not out or (len(out[-1]) + 1) * lengths[out[-1][0]] > budget:
            out.append([])
        out[-1].append(i)
    return out


#: The rules that are tried; the fastest one is what is measured.
RULES: dict[str, Callable[[Sequence[int]], Batches]] = {
    **{f"{n} texts": lambda lengths, n=n: by_count(lengths, n) for n in (8, 16, 32, 64)},
    **{
        f"{n} ids": lambda lengths, n=n: by_budget(lengths, n)
        for n in (512, 768, 1024, 2048, 4096, 8192)
    },
}


def windows(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of texts with special ones; a text too long for one window becomes several."""
    fast = tokenizer.backend_tokenizer
    fast.no_truncation()
    fast.no_padding()
    before, after = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    step = LONGEST - 2
    out = []
    for encoding in fast.encode_batch(list(texts), add_special_tokens=False):
        for i in range(0, max(1, len(encoding.ids)), step):
            out.append(before + encoding.ids[i : i + step] + after)
    return out


class Batched:
    """Something that runs batches of ids. Subclasses say how to prepare and to run one.

    ids: of each window. characters: of all texts. order: "sorted" takes the fastest of RULES,
    "arrival" takes 16 windows as they come.
    """

    def __init__(self, ids: list[list[int]], characters: int, order: str = "sorted") -> None:
        self.ids = ids
        self.characters = characters
        self.order = order
        self.batches: list[Any] = []
        self.rule = "16 texts, in arrival order"

    def prepare(self, rows: list[list[int]]) -> Any:
        """Arrays of a batch."""
        raise NotImplementedError

    def run_batch(self, batch: Any) -> None:
        """One pass of the encoder."""
        raise NotImplementedError

    def warm_up(self) -> dict[str, Any]:
        """Choose the rule by trying all on a sample, and prepare the batches."""
        sample = evenly(self.ids, SAMPLE)
        self._time([self.prepare(sample[:8])])
        times: dict[str, float] = {}
        if self.order == "sorted":
            lengths = [len(row) for row in sample]
            tries = {name: self._arrays(sample, rule(lengths)) for name, rule in RULES.items()}
            for _ in range(2):
                for name, batches in tries.items():
                    times[name] = min(self._time(batches), times.get(name, float("inf")))
            self.rule = min(times, key=lambda name: times[name])
            chosen = RULES[self.rule]([len(row) for row in self.ids])
        else:
            chosen = [
                list(range(i, min(i + 16, len(self.ids)))) for i in range(0, len(self.ids), 16)
            ]
        self.batches = self._arrays(self.ids, chosen)
        return {"batches": self.rule, "tried": {k: round(v, 3) for k, v in times.items()}}

    def run(self) -> dict[str, Any]:
        """Seconds of all batches."""
        return {"seconds": self._time(self.batches), "characters": self.characters}

    def _arrays(self, ids: list[list[int]], batches: Batches) -> list[Any]:
        return [self.prepare([ids[i] for i in members]) for members in batches]

    def _time(self, batches: list[Any]) -> float:
        began = time.perf_counter()
        for batch in batches:
            self.run_batch(batch)
        return time.perf_counter() - began
