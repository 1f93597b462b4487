"""A dictionary of names as a source. It finds some entities, and its silence says nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ....annotation.gold import BoolArray
from ....component.decoding.dictionary import NOT, Dictionary
from ....component.decoding.dictionary_file import read_dictionary
from ....component.decoding.words import continuations
from ..agreement import Opinion, Span
from .source import Outcome, Text
from .spec import Spec


class DictionarySource:
    """Names of a dictionary, wherever they are in a text.

    A name with several labels is in doubt. A name of mode `not` is no entity of its label.

    spec: its settings.
    dictionary: the names.
    Raises BertCrfError if there are none.
    """

    def __init__(self, spec: Spec, dictionary: Dictionary) -> None:
        self.spec, self.dictionary = spec, dictionary
        if not dictionary.entries:
            raise spec.error(f"{spec.path} has no names: name another file")
        self.labels = sorted({entry.label for entry in dictionary.entries})

    @classmethod
    def open(cls, spec: Spec) -> "DictionarySource":
        """Read the file. Raises BertCrfError, with file and line, if it can't be used."""
        return cls(spec, read_dictionary(Path(spec.path)))

    def opinions(self, texts: Sequence[Text]) -> list[Outcome]:
        """The names in each text."""
        words = continuations([text.doc for text in texts])
        return [self._opinion(text, own) for text, own in zip(texts, words, strict=True)]

    def close(self, asked: int) -> list[str]:
        """Nothing is left to do."""
        return []

    def _opinion(self, text: Text, words: Optional[BoolArray]) -> Opinion:
        fate = self.spec.label_map.fate
        entities: list[Span] = []
        doubts: list[tuple[int, int]] = []
        denied: set[Span] = set()
        for start, end, names in self.dictionary.find(text.doc, words):
            fates = [(fate(label), mode) for label, mode in names]
            labels = {label for (label, _), mode in fates if label and mode != NOT}
            denied |= {(start, end, label) for (label, _), mode in fates if label and mode == NOT}
            if len(labels) == 1:
                entities.append((start, end, labels.pop()))
            elif labels or any(unknown and mode != NOT for (_, unknown), mode in fates):
                doubts.append((start, end))
        covers = self.spec.covered(()) if self.spec.covers else frozenset()
        return Opinion(tuple(entities), covers, tuple(doubts), frozenset(denied), parts=True)
