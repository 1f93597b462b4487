"""What sources agreed on, counted, and what they do not agree on, for a person to look at."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Optional

from .agreement import Agreement, Opinion
from .pairs import KINDS, SAME, Disagreement, compare

#: Strings that are counted. Beyond it, those that were seen least are forgotten.
_MOST_STRINGS = 100_000
#: Reasons of failures that are kept for each source.
_MOST_REASONS = 5


@dataclass
class SourceCounts:
    """What a source said.

    entities: number of its entities.
    taken: how many of them are in the silver annotation.
    failed: number of texts of which it said nothing.
    reasons: the first reasons, with the place of the text.
    """

    entities: int = 0
    taken: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)


class StringCounts:
    """Counts strings in bounded memory: beyond a number of strings, rare ones are forgotten.

    So the counts of frequent strings are right or a little too low.
    """

    def __init__(self, most: int = _MOST_STRINGS) -> None:
        self.most = most
        self._counts: Counter[tuple[str, ...]] = Counter()

    def add(self, key: tuple[str, ...]) -> None:
        """Count a string."""
        self._counts[key] += 1
        if len(self._counts) > self.most:
            kept = self._counts.most_common(self.most // 2)
            self._counts = Counter(dict(kept))

    def top(self, n: int) -> list[tuple[tuple[str, ...], int]]:
        """The most frequent ones; equal ones in the order of the alphabet."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:n]


@dataclass
class SilverReport:
    """What was annotated, and how the sources compare.

    names: of the sources.
    texts: number of texts that were annotated.
    left_out: number of texts that were left out.
    tokens: number of tokens of the annotated texts.
    unknown: how many of them are unknown.
    entities: number of entities by label.
    disagreements: number of places where the sources do not agree.
    sources: what each source said.
    pairs: counts of KINDS by label and pair of sources.
    strings: the text of a disagreement, and what each source says there.
    remarks: what else the sources report.
    """

    names: list[str]
    texts: int = 0
    left_out: int = 0
    tokens: int = 0
    unknown: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    disagreements: int = 0
    sources: dict[str, SourceCounts] = field(default_factory=dict)
    pairs: dict[tuple[str, str, str], Counter[str]] = field(default_factory=dict)
    strings: StringCounts = field(default_factory=StringCounts)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sources = {name: SourceCounts() for name in self.names}

    def fail(self, name: str, place: str, reason: str) -> None:
        """Count a text of which a source said nothing."""
        counts = self.sources[name]
        counts.failed += 1
        if len(counts.reasons) < _MOST_REASONS:
            counts.reasons.append(f"{place}: {reason}")

    def add(
        self,
        opinions: Sequence[Optional[Opinion]],
        agreement: Agreement,
        places: Sequence[tuple[str, Disagreement]],
        n_tokens: int,
        n_unknown: int,
        text_of: Any,
    ) -> None:
        """Count an annotated text.

        opinions: what each source says.
        agreement: what they agree on.
        places: where they do not, each with its text.
        n_tokens, n_unknown: number of tokens, and of those that are unknown.
        text_of: gives the text of tokens by start and end.
        """
        self.texts += 1
        self.tokens += n_tokens
        self.unknown += n_unknown
        self.entities.update(label for _, _, label in agreement.entities)
        taken = set(agreement.entities)
        for name, opinion in zip(self.names, opinions, strict=True):
            if opinion is not None:
                self.sources[name].entities += len(opinion.entities)
                self.sources[name].taken += sum(span in taken for span in opinion.entities)
        for (a, first), (b, second) in combinations(zip(self.names, opinions, strict=True), 2):
            if first is not None and second is not None:
                for label, kind in compare(first, second):
                    self.pairs.setdefault((label, a, b), Counter())[kind] += 1
        for text, place in places:
            self.disagreements += 1
            said = (
                "no answer" if spans is None else
                ", ".join(f"{text_of(s, e)} {label}" for s, e, label in spans) or "-"
                for spans in place.said
            )  # fmt: skip
            self.strings.add((text, *said))

    @property
    def unknown_share(self) -> float:
        """Share of the tokens that are unknown, 0 to 1."""
        return self.unknown / self.tokens if self.tokens else 0.0

    def to_dict(self, top: int = 100) -> dict[str, Any]:
        """The report as JSON has it.

        top: how many of the most frequent disagreements there are in it.
        """
        return {
            "texts": self.texts,
            "left_out": self.left_out,
            "tokens": self.tokens,
            "unknown_tokens": self.unknown,
            "unknown_share": round(self.unknown_share, 6),
            "entities": dict(sorted(self.entities.items())),
            "disagreements": self.disagreements,
            "sources": {name: vars(counts) for name, counts in self.sources.items()},
            "pairs": [
                {"label": label, "sources": [a, b], **{kind: counts[kind] for kind in KINDS}}
                for (label, a, b), counts in self._sorted_pairs()
            ],
            "strings": [
                {"text": text, "count": count, "said": dict(zip(self.names, said, strict=True))}
                for (text, *said), count in self.strings.top(top)
            ],
            "remarks": self.remarks,
        }

    def table(self, top: int = 20) -> str:
        """The report as text.

        top: how many of the most frequent disagreements are listed.
        """
        entities = sum(self.entities.values())
        lines = [
            f"{self.texts:,} texts, {self.tokens:,} tokens, {entities:,} entities; "
            f"{self.disagreements:,} disagreements, {self.unknown_share:.1%} of tokens unknown"
        ]
        if self.left_out:
            lines.append(f"{self.left_out:,} texts were left out")
        rows = [
            (name, f"{own.entities:,}", f"{own.taken:,}", f"{own.failed:,}")
            for name, own in self.sources.items()
        ]
        lines += ["", _table(("source", "entities", "taken", "texts without"), rows)]
        if self.entities:
            counts = [(label, f"{n:,}") for label, n in sorted(self.entities.items())]
            lines += ["", _table(("label", "entities"), counts)]
        if self.pairs:
            header = ("label", "sources", "same", "only 1st", "only 2nd", "borders", "other label")
            pairs = [
                (label, f"{a}, {b}", *(f"{counts[kind]:,}" for kind in KINDS), _share(counts))
                for (label, a, b), counts in self._sorted_pairs()
            ]
            lines += ["", _table((*header, "agreement"), pairs, left=2)]
        if strings := self.strings.top(top):
            found = [(_short(text), f"{n:,}", *map(_short, said)) for (text, *said), n in strings]
            lines += ["", _table(("disagreement", "times", *self.names), found)]
        for name, own in self.sources.items():
            lines += [f"{name} failed: {reason}" for reason in own.reasons]
        return "\n".join([*lines, *self.remarks])

    def _sorted_pairs(self) -> list[tuple[tuple[str, str, str], Counter[str]]]:
        order = {name: i for i, name in enumerate(self.names)}
        key = lambda item: (item[0][0], order[item[0][1]], order[item[0][2]])  # noqa: E731
        return sorted(self.pairs.items(), key=key)


def _share(counts: Counter[str]) -> str:
    """Share of the spans that both sources have alike."""
    return f"{counts[SAME] / sum(counts.values()):.0%}"


def _short(text: str, most: int = 30) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    from wasabi.tables import table

    aligns = ["l" if i < left or header[0] == "disagreement" and i != 1 else "r"
              for i in range(len(header))]  # fmt: skip
    text = table(rows, header=header, divider=True, aligns=aligns, max_col=80)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
