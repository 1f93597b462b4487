"""The words by which places and organisations are found, as patterns."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import srsly

#: Folder of the quickstart's sentences, names and rules.
QUICKSTART = Path(__file__).resolve().parent.parent.parent / "assets" / "quickstart"
RULES = QUICKSTART / "news" / "rules.yml"
#: The label of what is no entity.
OUTSIDE = "O"


@dataclass(frozen=True)
class Rules:
    """The lists of rules.yml, where each is explained, and lists of names.

    words: lists of plain words.
    patterns: lists of which an item may be a regular expression for a whole word.
    surnames: Chinese surnames.
    countries: names of countries.
    settled: label of texts that the words around them leave unknown, `OUTSIDE` for no entity.
    """

    words: dict[str, frozenset[str]]
    patterns: dict[str, re.Pattern[str]]
    surnames: frozenset[str]
    countries: frozenset[str]
    settled: dict[str, str]
    _matched: dict[tuple[str, str], bool] = field(default_factory=dict, repr=False)

    def matches(self, name: str, text: str) -> bool:
        """Whether an item of a list of patterns fits a whole word."""
        key = name, text
        if key not in self._matched:
            self._matched[key] = self.patterns[name].fullmatch(text) is not None
        return self._matched[key]


_WORDS = (
    "abbreviations",
    "doubtful_abbreviations",
    "organisations",
    "parties",
    "describing",
    "common_names",
)
#: Lists of what is read by itself where the words around it leave it unknown, and its label.
_SETTLED = {
    "settled_organisations": "ORG",
    "settled_places": "LOC",
    "settled_persons": "PER",
    "settled_outside": OUTSIDE,
}


def read_rules(folder: Path = QUICKSTART) -> Rules:
    """Read the rules and the names beside them."""
    lists = {
        name: text.split() for name, text in srsly.read_yaml(folder / "news/rules.yml").items()
    }
    words = {name: frozenset(lists.pop(name)) for name in _WORDS}
    settled = {text: label for name, label in _SETTLED.items() for text in lists.pop(name)}
    patterns = {name: re.compile("|".join(items)) for name, items in lists.items()}
    return Rules(words, patterns, _names(folder, "surnames"), _names(folder, "country"), settled)


def _names(folder: Path, kind: str) -> frozenset[str]:
    lines = (folder / "names" / f"{kind}.txt").read_text(encoding="utf8").split()
    return frozenset(line.partition("*")[0] for line in lines)
