"""Scores of predicted entities against gold ones: by entity and by token, over all and per type.

By entity: an entity counts if its borders and its label are those of a gold one (as conlleval and
seqeval in strict mode do). By token: of the tags other than `O`, as the usual BERT-CRF training
scripts count them: right tags of gold entities' tokens, over the predicted and the gold ones.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..annotation.schemes import TagSet

SpanTuple = tuple[int, int, str]


@dataclass
class Count:
    """Right, predicted and gold ones."""

    right: int = 0
    predicted: int = 0
    gold: int = 0

    @property
    def p(self) -> float:
        """Precision, 0 where nothing was predicted."""
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def r(self) -> float:
        """Recall, 0 where there is no gold."""
        return self.right / self.gold if self.gold else 0.0

    @property
    def f(self) -> float:
        """F1."""
        return 2 * self.right / (self.predicted + self.gold) if self.right else 0.0


@dataclass
class Scores:
    """Counts of a corpus."""

    entities: Count = field(default_factory=Count)
    tokens: Count = field(default_factory=Count)
    per_type: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    docs: int = 0
    n_tokens: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The entries of metrics.json."""
        out: dict[str, Any] = {
            f"{name}_{which}": getattr(count, which)
            for name, count in (("ents", self.entities), ("tokens", self.tokens))
            for which in "prf"
        }
        out["ents_per_type"] = {
            label: {"p": count.p, "r": count.r, "f": count.f, "gold": count.gold}
            for label, count in sorted(self.per_type.items())
        }
        return {**out, "docs": self.docs, "n_tokens": self.n_tokens}


def score(
    pairs: Iterable[tuple[Sequence[SpanTuple], Sequence[SpanTuple], int]], scheme: str
) -> Scores:
    """Compare entities of docs.

    pairs: predicted and gold entities (start, end, label) of each doc, and its number of tokens.
    scheme: the tag scheme in which tokens are compared.
    """
    scores = Scores()
    for predicted, gold, length in pairs:
        scores.docs += 1
        scores.n_tokens += length
        right = set(predicted) & set(gold)
        for spans, what in ((predicted, "predicted"), (gold, "gold"), (right, "right")):
            for _, _, label in spans:
                for count in (scores.entities, scores.per_type[label]):
                    setattr(count, what, getattr(count, what) + 1)
        labels = tuple(sorted({label for _, _, label in (*predicted, *gold)}))
        if labels:
            tags = TagSet(labels, scheme)
            # A gold entity without a place in these tokens stands before token 0.
            there = [span for span in gold if span[0] >= 0]
            ours, theirs = tags.encode(predicted, length), tags.encode(there, length)
            scores.tokens.right += sum(a == b != 0 for a, b in zip(ours, theirs, strict=True))
            scores.tokens.predicted += sum(a != 0 for a in ours)
            scores.tokens.gold += sum(b != 0 for b in theirs)
    return scores


def table(scores: Scores, title: str) -> str:
    """The scores as text."""
    rows = [(label, count) for label, count in sorted(scores.per_type.items())]
    rows += [("all entities", scores.entities), ("tokens", scores.tokens)]
    width = max(len(title), *(len(label) for label, _ in rows))
    lines = [f"{title:<{width}}  precision  recall      F1     gold"]
    for label, count in rows:
        p, r, f = (f"{value * 100:.2f}" for value in (count.p, count.r, count.f))
        lines.append(f"{label:<{width}}  {p:>9}  {r:>6}  {f:>6}  {count.gold:>7}")
    return "\n".join(lines)
