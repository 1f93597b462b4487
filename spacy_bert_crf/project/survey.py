"""What is in a corpus, and what may be wrong with it, before a model is trained on it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..annotation.coverage.table import coverage_table
from ..annotation.formats import FORMATS, AnnotatedText, Problem
from ..errors import first_of
from .language import Guess
from .split import text_key

if TYPE_CHECKING:
    from spacy.tokens import Doc

#: Fewest entities of a label in train, and of all labels in dev, that are not doubtful.
MIN_EXAMPLES = 20
#: Share of texts without an entity above which some may not be annotated yet.
MANY_WITHOUT = 2 / 3


@dataclass
class Survey:
    """A corpus in parts, and what was found out about it.

    formats: names of the formats that were read, in the order of the files.
    details: what the readers found out, such as the tag scheme.
    language: the language, found or given.
    is_language_given: whether the language was given.
    labels: the labels in the order of the pipeline.
    texts: the texts of each part: `train`, `dev`, and `test` if there is one.
    docs: the doc of each text, with its entities on the tokens.
    problems: what was wrong in the files, lost entities included.
    unplaced: entities with a border inside a token.
    how_split: how the parts were made, for the table.
    left_out: labels that were not wanted, with the number of their entities.
    """

    formats: list[str]
    details: dict[str, str]
    language: Guess
    is_language_given: bool
    labels: list[str]
    texts: dict[str, list[AnnotatedText]]
    docs: "dict[str, list[Doc]]"
    problems: list[Problem] = field(default_factory=list)
    unplaced: list[Problem] = field(default_factory=list)
    how_split: str = ""
    left_out: dict[str, int] = field(default_factory=dict)

    def counts(self, part: str) -> Counter[str]:
        """The number of entities of each label in a part."""
        return Counter(ent.label_ for doc in self.docs[part] for ent in doc.ents)

    def doubts(self) -> list[str]:
        """What may be wrong, a line for each."""
        train, lines = self.counts("train"), []
        if not self.language.certain and not self.is_language_given:
            lines.append(
                f"the language is not certain: {self.language.lang} is a guess. Name it with --lang"
            )
        for label in self.labels:
            others = [part for part in self.docs if part != "train" and self.counts(part)[label]]
            if not train[label] and others:
                lines.append(f"{label} is in {' and '.join(others)} only: it can't be learned")
            elif train[label] < MIN_EXAMPLES:
                found = _counted(train[label], "example")
                lines.append(f"{label} has {found} in train, under {MIN_EXAMPLES}")
        n_dev = sum(self.counts("dev").values())
        if n_dev < MIN_EXAMPLES:
            found = _counted(n_dev, "entity", "entities")
            lines.append(f"dev has {found}: the best epoch will be a matter of chance")
        without, texts = self._without(), sum(map(len, self.texts.values()))
        if without > MANY_WITHOUT * texts:
            lines.append(
                f"{without:,} of {texts:,} texts have no entity: they are learned so. Remove those "
                'that are not annotated yet, or give each "partial": true'
            )
        lines += _twice(self.texts)
        if self.left_out:
            listed = ", ".join(f"{label} ({n:,})" for label, n in self.left_out.items())
            lines.append(f"labels that --labels does not name are left out: {listed}")
        if lost := sum(problem.outcome == "lost" for problem in self._all_problems()):
            lines.append(f"lost: {_counted(lost, 'entity', 'entities')}")
        if skipped := sum(problem.outcome == "skipped" for problem in self._all_problems()):
            lines.append(f"left out: {_counted(skipped, 'text')}")
        return lines

    def table(self) -> str:
        """The survey as plain text: a table, one of the labels, problems and doubts."""
        from wasabi.tables import table

        texts = [text for part in self.texts.values() for text in part]
        lengths = [len(text.text) for text in texts]
        sizes = ", ".join(f"{part} {len(self.texts[part]):,}" for part in self.texts)
        names = [FORMATS[name].title for name in dict.fromkeys(self.formats)]
        rows = [("format", ", ".join(names))]
        rows += list(self.details.items())
        rows += [
            ("language", self._language()),
            ("texts", f"{len(texts):,}"),
            ("documents", _documents(texts)),
            ("characters", f"{sum(lengths):,}"),
            ("longest text", f"{max(lengths):,} characters"),
            ("split", f"{sizes} ({self.how_split})"),
        ]
        if without := self._without():
            rows.append(("without entities", f"{without:,} texts"))
        if partial := sum(text.partial for text in texts):
            rows.append(("annotated in part", f"{partial:,} texts"))
        counts = {part: self.counts(part) for part in self.docs}
        labels = [
            (label, *(f"{counts[part][label]:,}" for part in counts)) for label in self.labels
        ]
        labels.append(("all", *(f"{sum(counts[part].values()):,}" for part in counts)))
        aligns = ("l", *("r" for _ in counts))
        parts = [
            table(rows, aligns=("l", "l")).strip("\n"),
            table(labels, header=("label", *counts), divider=True, aligns=aligns).strip("\n"),
        ]
        rows_of = ((part, doc) for part, docs in self.docs.items() for doc in docs)
        if covered := coverage_table(rows_of):
            parts.append(f"Entities by label (-: not annotated there):\n{covered}")
        if found := [str(problem) for problem in self.problems]:
            parts.append("\n".join(["Problems in the files:", *_listed(found)]))
        listed = [f"{problem} ({problem.outcome})" for problem in self.unplaced]
        head = f"Entities that can't be placed on tokens: {len(listed):,}"
        parts.append("\n".join([head, *_listed(listed)]))
        parts.append("\n".join(["Doubtful:", *_listed(self.doubts() or ["nothing"])]))
        lines = "\n\n".join(parts).splitlines()
        return "\n".join(line.rstrip() for line in lines)

    def _without(self) -> int:
        """Number of texts without an entity that count as annotated."""
        return sum(
            not text.entities and not text.partial for part in self.texts.values() for text in part
        )

    def _all_problems(self) -> list[Problem]:
        return [*self.problems, *self.unplaced]

    def _language(self) -> str:
        how = "as given" if self.is_language_given else "found from the text"
        return f"{self.language.lang} ({how})"


def _documents(texts: Sequence[AnnotatedText]) -> str:
    named = {text.document for text in texts if text.document}
    return f"{len(named):,}" if named else "none named: each text counts as one"


def _twice(parts: dict[str, list[AnnotatedText]]) -> list[str]:
    """Doubts about texts that stand in two parts, or in one part with other entities."""
    lines, where = [], dict[str, dict[str, str]]()
    first: dict[str, AnnotatedText] = {}
    other = 0
    for part, texts in parts.items():
        for text in texts:
            key = text_key(text.text)
            where.setdefault(key, {}).setdefault(part, text.place)
            earlier = first.setdefault(key, text)
            other += earlier.text == text.text and earlier.entities != text.entities
    shared = [places for places in where.values() if len(places) > 1]
    if shared:
        example = " and ".join(filter(None, shared[0].values()))
        lines.append(
            f"in two parts: {_counted(len(shared), 'text')}"
            + (f", such as {example}" if example else "")
            + ". Scores will be too high"
        )
    if other:
        lines.append(f"again with other entities: {_counted(other, 'text')}")
    return lines


def _counted(count: int, one: str, many: str = "") -> str:
    """A count with its noun: `1 text`, `2 texts`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _listed(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in first_of(lines)]
