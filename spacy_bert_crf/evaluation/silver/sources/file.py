"""A file of annotation by another program as a source."""

from collections.abc import Sequence
from pathlib import Path
from typing import Union

from .index import CorpusIndex, LineIndex
from .source import Outcome, Text, aligned
from .spec import Spec

#: Suffixes of files that are read line by line. Others are corpora, which lie in memory.
_LINES = (".jsonl", ".ndjson")


class FileSource:
    """Annotation of the same texts: JSON lines, or a corpus of any format of `convert-corpus`.

    spec: its settings.
    Raises BertCrfError, with file and line, if it can't be used.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        path = Path(spec.path)
        if not path.exists():
            raise spec.error(f"there is no file {path}: name another one")
        is_lines = path.suffix in _LINES
        self._index: Union[LineIndex, CorpusIndex] = (LineIndex if is_lines else CorpusIndex)(spec)
        self.labels = sorted(self._index.labels)
        self._found = 0

    def opinions(self, texts: Sequence[Text]) -> list[Outcome]:
        """What the file says of each text, or why it can't be used."""
        covers = self.spec.covered(self.labels)
        outcomes: list[Outcome] = []
        for text, found in zip(texts, self._index.find(list(texts)), strict=True):
            if isinstance(found, str):
                self._found += 1
                outcomes.append(found)
            elif found is None:
                outcomes.append(f"{self.spec.path} does not have it")
            else:
                self._found += 1
                item, shift = found
                item = self.spec.label_map.apply(item)
                outcomes.append(aligned(text.doc, item, covers, shift))
        return outcomes

    def close(self, asked: int) -> list[str]:
        """How many records were of other texts.

        Raises BertCrfError if all were.
        """
        if asked and not self._found:
            raise self.spec.error(
                f"none of the {asked:,} texts is among the {self._index.records:,} of "
                f"{self.spec.path}: give the same texts, or the field of their id by --id-field"
            )
        unused = self._index.unused
        if not unused:
            return []
        return [f"{self.spec.name}: {unused:,} of {self._index.records:,} records not used"]
