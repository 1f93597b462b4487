"""Where predicted entities differ from gold ones: in label, in borders, or altogether.

Each gold entity is in exactly one class, and so is each predicted one. Gold and predicted
entities become pairs in this order, each of them at most once: same span; overlapping with the
same label; overlapping with another label (of several, the pair that shares the most tokens, and
of these the one further left). What is left of the gold was missed, what is left of the predicted
is spurious.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .scores import SpanTuple

#: How the borders of a predicted entity differ from the gold one's: it lies within it, around it,
#: or is shifted against it.
SHORT, LONG, SHIFTED = "too short", "too long", "shifted"
BORDERS = (SHORT, LONG, SHIFTED)


@dataclass
class Confusion:
    """Counts of entities.

    same_span: pairs of the same span, by (gold label, predicted label); equal labels are right.
    borders: overlapping pairs of the same label with other borders, by (label, one of BORDERS).
    overlapping: overlapping pairs of other borders and another label, by (gold, predicted label).
    missed: gold entities without a partner, by label. spurious: predicted ones.
    """

    same_span: Counter[tuple[str, str]] = field(default_factory=Counter)
    borders: Counter[tuple[str, str]] = field(default_factory=Counter)
    overlapping: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    spurious: Counter[str] = field(default_factory=Counter)

    @property
    def labels(self) -> list[str]:
        """All labels, sorted."""
        pairs = {label for pair in (*self.same_span, *self.overlapping) for label in pair}
        return sorted({*pairs, *(label for label, _ in self.borders), *self.missed, *self.spurious})

    @property
    def exact(self) -> int:
        """Entities that are right."""
        return sum(n for (gold, ours), n in self.same_span.items() if gold == ours)

    @property
    def gold(self) -> int:
        """Gold entities: the sum of all classes but the spurious ones."""
        return self._pairs() + self.missed.total()

    @property
    def predicted(self) -> int:
        """Predicted entities: the sum of all classes but the missed ones."""
        return self._pairs() + self.spurious.total()

    def _pairs(self) -> int:
        return self.same_span.total() + self.borders.total() + self.overlapping.total()

    def add(self, predicted: Sequence[SpanTuple], gold: Sequence[SpanTuple]) -> None:
        """Count the (start, end, label) entities of a doc."""
        pairs, missed, spurious = match(predicted, gold)
        for (a, b, label), (start, end, other) in pairs:
            if (a, b) == (start, end):
                self.same_span[label, other] += 1
            elif label == other:
                self.borders[label, border_error((start, end), (a, b))] += 1
            else:
                self.overlapping[label, other] += 1
        self.missed.update(label for _, _, label in missed)
        self.spurious.update(label for _, _, label in spurious)

    def to_dict(self) -> dict[str, Any]:
        """The entry `confusion` of the metrics: totals, and counts by label."""
        wrong = Counter({pair: n for pair, n in self.same_span.items() if pair[0] != pair[1]})
        kinds = Counter[str]()
        for (_, kind), n in self.borders.items():
            kinds[kind] += n
        return {
            "gold": self.gold,
            "predicted": self.predicted,
            "exact": self.exact,
            "same_span_other_label": wrong.total(),
            "other_borders_same_label": {kind: kinds[kind] for kind in BORDERS},
            "other_borders_other_label": self.overlapping.total(),
            "missed": self.missed.total(),
            "spurious": self.spurious.total(),
            "labels": self.labels,
            "same_span_by_label": _nested(self.same_span),
            "borders_by_label": _nested(self.borders),
            "overlapping_by_label": _nested(self.overlapping),
            "missed_by_label": dict(sorted(self.missed.items())),
            "spurious_by_label": dict(sorted(self.spurious.items())),
        }

    def table(self) -> str:
        """The totals as text."""
        told = self.to_dict()
        rows = [
            ("exact", told["exact"]),
            ("same span, other label", told["same_span_other_label"]),
            *((f"same label, {kind}", n) for kind, n in told["other_borders_same_label"].items()),
            ("other borders, other label", told["other_borders_other_label"]),
            ("missed", told["missed"]),
            ("spurious", told["spurious"]),
        ]
        lines = [f"{self.gold} gold entities, {self.predicted} predicted"]
        return "\n".join([*lines, *(f"{name:<28}{n:>7}" for name, n in rows)])


def confusion(pairs: Iterable[tuple[Sequence[SpanTuple], Sequence[SpanTuple]]]) -> Confusion:
    """Compare the predicted and the gold (start, end, label) entities of docs."""
    found = Confusion()
    for predicted, gold in pairs:
        found.add(predicted, gold)
    return found


def match(
    predicted: Sequence[SpanTuple], gold: Sequence[SpanTuple]
) -> tuple[list[tuple[SpanTuple, SpanTuple]], list[SpanTuple], list[SpanTuple]]:
    """(gold, predicted) pairs, gold entities and predicted ones without a partner."""
    ranked = []
    for i, (a, b, label) in enumerate(gold):
        for j, (start, end, other) in enumerate(predicted):
            shared = min(b, end) - max(a, start)
            if shared > 0:
                same = (a, b) == (start, end)
                ranked.append((not same, label != other, -shared, a, start, i, j))
    left, free = set(range(len(gold))), set(range(len(predicted)))
    pairs = []
    for *_, i, j in sorted(ranked):
        if i in left and j in free:
            left.remove(i)
            free.remove(j)
            pairs.append((gold[i], predicted[j]))
    return pairs, [gold[i] for i in sorted(left)], [predicted[j] for j in sorted(free)]


def border_error(span: tuple[int, int], gold: tuple[int, int]) -> str:
    """One of BORDERS: how a predicted span differs from an overlapping, unequal gold one."""
    if gold[0] <= span[0] and span[1] <= gold[1]:
        return SHORT
    if span[0] <= gold[0] and gold[1] <= span[1]:
        return LONG
    return SHIFTED


def _nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    out: dict[str, dict[str, int]] = {}
    for (first, second), n in sorted(counts.items()):
        out.setdefault(first, {})[second] = n
    return out
