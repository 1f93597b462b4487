"""Scores of predicted entities against gold ones, and a confusion matrix of them.

Scores by entity: an entity is right if a gold entity has the same borders and label. conlleval and
seqeval's strict mode count likewise. Scores by token: the tags other than `O` are counted, as in
the usual BERT-CRF training scripts. That is, right tags of gold entities' tokens, over predicted
and over gold ones.

Confusion: each gold entity is in exactly one class, and so is each predicted one. Gold and
predicted entities become pairs in this order, each of them at most once:

1. the same span;
2. overlapping, with the same label;
3. overlapping, with another label.

Of several candidates, the pair that shares the most tokens is taken, then the one further left.
The remaining gold entities were missed. The remaining predicted ones are spurious.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from spacy.scorer import PRFScore

from ..annotation.schemes import TagSet

SpanTuple = tuple[int, int, str]

#: How the borders of a predicted entity differ from those of the gold one. It is within the gold
#: entity, around it, or shifted against it.
SHORT, LONG, SHIFTED = "too short", "too long", "shifted"
BORDERS = (SHORT, LONG, SHIFTED)


class Count(PRFScore):
    """spaCy's counts of right, spurious and missed entities or tags, by the names used here.

    A ratio is 0 where its denominator is.
    """

    @property
    def right(self) -> int:
        """Predicted ones that are gold."""
        return int(self.tp)

    @property
    def predicted(self) -> int:
        """All predicted ones."""
        return int(self.tp + self.fp)

    @property
    def gold(self) -> int:
        """All gold ones."""
        return int(self.tp + self.fn)

    @property
    def p(self) -> float:
        """Precision."""
        return float(self.precision)

    @property
    def r(self) -> float:
        """Recall."""
        return float(self.recall)

    @property
    def f(self) -> float:
        """F1, of the counts: one rounding where spaCy's `fscore` has four."""
        return 2 * self.right / (self.predicted + self.gold) if self.right else 0.0


@dataclass
class Scores:
    """Counts of a corpus.

    entities: counts by entity.
    tokens: counts by token, of the tags other than `O`.
    per_type: counts by entity, for each label.
    docs: number of docs.
    n_tokens: number of tokens.
    """

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

    def table(self, title: str) -> str:
        """The scores as text, under a title."""
        rows = [(label, count) for label, count in sorted(self.per_type.items())]
        rows += [("all entities", self.entities), ("tokens", self.tokens)]
        width = max(len(title), *(len(label) for label, _ in rows))
        lines = [f"{title:<{width}}  precision  recall      F1     gold"]
        for label, count in rows:
            p, r, f = (f"{value * 100:.2f}" for value in (count.p, count.r, count.f))
            lines.append(f"{label:<{width}}  {p:>9}  {r:>6}  {f:>6}  {count.gold:>7}")
        return "\n".join(lines)


def score(
    pairs: Iterable[tuple[Sequence[SpanTuple], Sequence[SpanTuple], int]], scheme: str
) -> Scores:
    """Compare the entities of docs.

    pairs: predicted and gold entities (start, end, label) of each doc, and its number of tokens.
    scheme: the tag scheme in which tokens are compared.
    """
    scores = Scores()
    for predicted, gold, length in pairs:
        scores.docs += 1
        scores.n_tokens += length
        scores.entities.score_set(set(predicted), set(gold))
        labels = tuple(sorted({label for _, _, label in (*predicted, *gold)}))
        for label in labels:
            ours, theirs = ({s for s in spans if s[2] == label} for spans in (predicted, gold))
            scores.per_type[label].score_set(ours, theirs)
        if labels:
            tags = TagSet(labels, scheme)
            # A gold entity that can't be aligned with these tokens is before token 0.
            placed = [span for span in gold if span[0] >= 0]
            scores.tokens.score_set(
                {pair for pair in enumerate(tags.encode(predicted, length)) if pair[1]},
                {pair for pair in enumerate(tags.encode(placed, length)) if pair[1]},
            )
    return scores


@dataclass
class Confusion:
    """Counts of entities.

    same_span: pairs of the same span, by (gold label, predicted label). Equal labels are right.
    borders: overlapping pairs of the same label with other borders, by (label, one of BORDERS).
    overlapping: overlapping pairs of other borders and another label, by (gold, predicted label).
    missed: gold entities without a partner, by label.
    spurious: predicted entities without a partner, by label.
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
        """Gold entities: the sum of all classes except the spurious ones."""
        return self._pairs() + self.missed.total()

    @property
    def predicted(self) -> int:
        """Predicted entities: the sum of all classes except the missed ones."""
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
        totals = self.to_dict()
        rows = [
            ("exact", totals["exact"]),
            ("same span, other label", totals["same_span_other_label"]),
            *((f"same label, {kind}", n) for kind, n in totals["other_borders_same_label"].items()),
            ("other borders, other label", totals["other_borders_other_label"]),
            ("missed", totals["missed"]),
            ("spurious", totals["spurious"]),
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
    """Pair the predicted and gold entities of a doc.

    predicted: predicted entities (start, end, label).
    gold: gold entities (start, end, label).
    RETURNS: the (gold, predicted) pairs, then the gold and the predicted entities without partner.
    """
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
