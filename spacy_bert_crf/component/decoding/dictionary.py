"""A dictionary of names that takes part in decoding: hard, soft, or as a list of what is no name.

The names are found in the text by the algorithm of Aho & Corasick (1975), in the library
ahocorasick_rs. Of overlapping ones the longest counts, then the first.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import torch
from numpy.typing import NDArray
from spacy.tokens import Doc
from torch import Tensor

from ...annotation.gold import BoolArray
from ...annotation.schemes import TagSet
from ...errors import BertCrfError

#: A name is always an entity of its label; is more likely one; is never one.
HARD, SOFT, NOT = "hard", "soft", "not"
MODES = (HARD, SOFT, NOT)
#: Key of the cfg of a component.
DICTIONARY = "dictionary"
#: Bonus in nats of a label without one of its own.
DEFAULT_BONUS = 2.0


class Name(NamedTuple):
    """An entry of a dictionary.

    text: the name.
    label: its entity type.
    mode: one of MODES.
    """

    text: str
    label: str
    mode: str


class Match(NamedTuple):
    """Names that stand at tokens `start` to `end - 1`: pairs of label and mode."""

    start: int
    end: int
    names: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Dictionary:
    """Names and their labels. It is not changed: to change the names, make another one.

    entries: the names.
    bonus: by how many nats the reading of a soft name as its label is more likely, by label.
    Raises BertCrfError for an empty name or label, an unknown mode, or a bonus that is no number.
    """

    entries: tuple[Name, ...] = ()
    bonus: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.entries:
            if not entry.text.strip() or not entry.label.strip() or entry.mode not in MODES:
                raise BertCrfError(
                    f"the dictionary has {tuple(entry)!r}: an entry is a name, its label, and one "
                    f"of {', '.join(MODES)}."
                )
        for label, nats in self.bonus.items():
            is_number = isinstance(nats, (int, float)) and not isinstance(nats, bool)
            if not is_number or not math.isfinite(nats):
                raise BertCrfError(f"the bonus of {label} is {nats!r}: it must be a number.")

    @classmethod
    def of(
        cls,
        names: Iterable[Sequence[str]],
        mode: str = SOFT,
        bonus: Optional[Mapping[str, float]] = None,
    ) -> "Dictionary":
        """The dictionary of names.

        names: a name and its label, or a name, its label and a mode.
        mode: mode of names without one.
        bonus: see Dictionary.
        Raises BertCrfError as Dictionary does, and for an entry of another length.
        """
        entries = []
        for name in names:
            if len(name) not in (2, 3):
                raise BertCrfError(f"the dictionary has {name!r}: give a name and its label.")
            entries.append(Name(name[0], name[1], name[2] if len(name) > 2 else mode))
        return cls(tuple(dict.fromkeys(entries)), dict(bonus or {}))

    @classmethod
    def from_cfg(cls, cfg: Mapping[str, Any]) -> Optional["Dictionary"]:
        """The dictionary that a component's cfg holds, None if it has none.

        Raises BertCrfError if it is damaged.
        """
        if (saved := cfg.get(DICTIONARY)) is None:
            return None
        try:
            return cls(tuple(Name(*entry) for entry in saved["entries"]), dict(saved["bonus"]))
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise BertCrfError(
                f"{DICTIONARY} in the cfg is damaged ({err}): set it again."
            ) from err

    def to_cfg(self) -> dict[str, Any]:
        """The entry of a component's cfg from which `from_cfg` restores the dictionary."""
        return {"entries": [list(entry) for entry in self.entries], "bonus": dict(self.bonus)}

    @property
    def labels(self) -> list[str]:
        """The labels of the names and of the bonus, sorted."""
        return sorted({*(entry.label for entry in self.entries), *self.bonus})

    @cached_property
    def _texts(self) -> dict[str, tuple[tuple[str, str], ...]]:
        found: dict[str, list[tuple[str, str]]] = {}
        for entry in self.entries:
            found.setdefault(entry.text, []).append((entry.label, entry.mode))
        # Names of the same labels share one tuple. Python's garbage collector visits each of them.
        shared: dict[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]] = {}
        return {text: shared.setdefault(key := tuple(names), key) for text, names in found.items()}

    @cached_property
    def _finder(self) -> Any:
        try:
            from ahocorasick_rs import AhoCorasick
        except ImportError as err:
            raise BertCrfError(
                "a dictionary needs the library ahocorasick_rs: pip install "
                '"spacy-bert-crf[dictionary]".'
            ) from err
        return AhoCorasick(list(self._texts)), list(self._texts.values())

    def find(self, doc: Doc, continues: Optional[BoolArray] = None) -> list[Match]:
        """The names in a doc that begin and end with a token, in order, without overlaps.

        doc: the doc.
        continues: whether each token continues a word that stays whole; a name does not end inside
            of one. [tokens]
        """
        return _longest(doc, self._everywhere(doc, continues))

    def _everywhere(self, doc: Doc, continues: Optional[BoolArray] = None) -> list[Match]:
        """As `find`, with those that overlap."""
        finder, names = self._finder
        found = finder.find_matches_as_indexes(doc.text, overlapping=True) if len(names) else []
        if not found:
            return []
        array = doc.to_array(["IDX", "LENGTH"]).astype(np.int64)
        starts = {at: i for i, at in enumerate(array[:, 0].tolist())}
        ends = {at: i + 1 for i, at in enumerate(array.sum(1).tolist())}
        spans = []
        for which, start, end in found:
            first, stop = starts.get(start), ends.get(end)
            if first is None or stop is None:
                continue
            if continues is not None and (
                continues[first] or (stop < len(continues) and continues[stop])
            ):
                continue
            spans.append(Match(first, stop, names[which]))
        return spans

    def bonus_of(self, label: str) -> float:
        """The bonus of a soft name of this label, in nats."""
        return self.bonus.get(label, DEFAULT_BONUS)


@dataclass(frozen=True)
class Extended:
    """A dictionary with further names, in place of its own of the same text.

    It takes no longer to make than one of the further names alone.

    own: the dictionary.
    further: the further names. Their bonus is that of `own`.
    """

    own: Dictionary
    further: Dictionary

    def find(self, doc: Doc, continues: Optional[BoolArray] = None) -> list[Match]:
        """See Dictionary.find."""
        further = self.further._everywhere(doc, continues)
        own = self.own._everywhere(doc, continues)
        texts = self.further._texts
        own = [match for match in own if doc[match.start : match.end].text not in texts]
        return _longest(doc, [*further, *own])

    def bonus_of(self, label: str) -> float:
        """See Dictionary.bonus_of."""
        return self.own.bonus_of(label)


#: What takes part in decoding.
Names = Union[Dictionary, Extended]


def _longest(doc: Doc, spans: Iterable[Match]) -> list[Match]:
    """Of matches that overlap the longest, then the first; in order."""
    taken = np.zeros(len(doc), dtype=bool)
    kept = []
    for match in sorted(spans, key=lambda match: (match.start - match.end, match.start)):
        if not taken[match.start : match.end].any():
            taken[match.start : match.end] = True
            kept.append(match)
    return sorted(kept)


def can_find_names() -> bool:
    """Whether the library that finds names in texts is installed."""
    return find_spec("ahocorasick_rs") is not None


def fixed(matches: Sequence[Match]) -> list[tuple[int, int, str]]:
    """The entities that hard names are: of several labels, the first."""
    found = []
    for start, end, names in matches:
        hard = [label for label, mode in names if mode == HARD]
        found += [(start, end, label) for label in hard[:1]]
    return found


def without(matches: Sequence[Match], n_tokens: int, tags: TagSet) -> Optional[BoolArray]:
    """The tags that names on the list of what is no name leave. [tokens, K], None for all

    No entity of the label begins where the name does. A name of one token can't be one either,
    where the scheme has a tag for that; a longer entity may still begin with it.
    """
    out: Optional[BoolArray] = None
    for start, end, names in matches:
        for label in [label for label, mode in names if mode == NOT]:
            if out is None:
                out = np.ones((n_tokens, len(tags.tags)), dtype=bool)
            unit, begin, _, _ = tags.parts[label]
            out[start, unit] = False
            if end - start > 1:
                out[start, begin] = False
    return out


class Bonus(NamedTuple):
    """What soft names add to the emissions of docs: values at rows and columns. [n] each"""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float32]

    @classmethod
    def of(
        cls, dictionary: Names, matches: Sequence[Sequence[Match]], lengths: Sequence[int],
        tags: TagSet,
    ) -> Optional["Bonus"]:  # fmt: skip
        """The bonus of docs; None without soft names.

        A name of several tokens has half of the bonus at its first token and half at its last, so
        that exactly this reading has all of it. An entity that shares one end has half.

        matches: the names in each doc.
        lengths: number of tokens of each doc.
        tags: the K tags.
        """
        found: list[tuple[int, int, float]] = []
        at = 0
        for each, length in zip(matches, lengths, strict=True):
            for start, end, names in each:
                for label in [label for label, mode in names if mode == SOFT]:
                    unit, begin, _, last = tags.parts[label]
                    nats = dictionary.bonus_of(label)
                    if end - start == 1:
                        found.append((at + start, unit, nats))
                    else:
                        found += [(at + start, begin, nats / 2), (at + end - 1, last, nats / 2)]
            at += length
        if not found:
            return None
        rows, columns, values = zip(*found, strict=True)
        return cls(np.array(rows), np.array(columns), np.array(values, dtype=np.float32))

    def added(self, emissions: Tensor) -> Tensor:
        """Emissions with the bonus. [N, K]"""
        device = emissions.device
        rows, columns = (torch.from_numpy(x).to(device) for x in (self.rows, self.columns))
        values = torch.from_numpy(self.values).to(device, emissions.dtype)
        return emissions.index_put((rows, columns), values, accumulate=True)
