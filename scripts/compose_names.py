"""Compose names of organisations out of parts, by the patterns of names/composed.yml.

A list of names is soon known by heart. A composed name is new each time, so a model learns what
names are made of: a place, a brand, a trade, a form.
"""

import random
import re
from pathlib import Path

import srsly

from spacy_bert_crf.errors import BertCrfError

_SLOT = re.compile(r"\{(\w+)\}")
#: Numbers of signs of a brand, each as likely as another.
_BRAND = (2, 2, 2, 3)


class Composer:
    """Composes names.

    path: the file of parts and patterns.
    lists: names by kind, for the parts that the file does not have.
    Raises BertCrfError for a pattern with a part that neither has.
    """

    def __init__(self, path: Path, lists: dict[str, list[str]]) -> None:
        data = srsly.read_yaml(path)
        self.patterns: dict[str, list[str]] = data["patterns"]
        self.parts: dict[str, list[str]] = {
            name: text.split() for name, text in data["parts"].items()
        }
        for pattern in (each for kind in self.patterns.values() for each in kind):
            for name in _SLOT.findall(pattern):
                if name not in self.parts:
                    self.parts[name] = lists.get(name, [])
                if not self.parts[name]:
                    raise BertCrfError(
                        f"{path}: the pattern {pattern} needs the part {name}, which is neither "
                        "there nor a list of names: add it to `parts`."
                    )

    def compose(self, kind: str, rng: random.Random) -> str:
        """A name of this kind, a key of `patterns`."""
        return _SLOT.sub(lambda match: self._part(match[1], rng), rng.choice(self.patterns[kind]))

    def _part(self, name: str, rng: random.Random) -> str:
        if name == "brand":
            return "".join(rng.sample(self.parts[name], rng.choice(_BRAND)))
        return rng.choice(self.parts[name])
