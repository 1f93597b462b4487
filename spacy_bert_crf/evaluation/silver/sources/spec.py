"""How a source is named and set up: on the command line, or in a JSON file of sources."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, Optional

import srsly

from ....annotation.coverage.covers import checked
from ....annotation.coverage.label_map import LabelMap
from ....annotation.formats.text import read_text
from ....errors import BertCrfError, first_line

PIPELINE, FILE, DICTIONARY = "pipeline", "file", "dictionary"
KINDS = (PIPELINE, FILE, DICTIONARY)
#: In `covers`: all labels, whatever they are.
EVERY = "*"
#: What a name means that occurs several times in its text: nothing is known, or each is an entity.
UNKNOWN, ALL = "unknown", "all"
#: Settings that Spec has by the same names, and all settings.
_PLAIN = ("weight", "min_probability", "repeats", "id_field")
_SETTINGS = ("name", "map", "outside", "unknown", "covers", *_PLAIN)
#: What happens to bad records of a file: an error, or the source says nothing of their texts.
FAIL, SKIP = "fail", "skip-text"


@dataclass(frozen=True)
class Spec:
    """A source and its settings.

    kind: one of KINDS.
    path: a folder or name of a pipeline, or a file.
    name: its name in reports.
    label_map: other names for its labels, and labels that are dropped.
    covers: labels, by their new names, of which it would find every entity. (EVERY,) for all. None
        for the labels that a pipeline or file has; and none for a dictionary.
    weight: how much it counts.
    min_probability: entities of a pipeline below this probability are in doubt. 0 for none.
    repeats: what a name of a file means that is given without a place and occurs several times.
    id_field: the field of a file's records with the id of their text; "" for none.
    on_error: FAIL or SKIP.
    place: where it was named, for messages.
    """

    kind: str
    path: str
    name: str
    label_map: LabelMap = field(default_factory=LabelMap)
    covers: Optional[tuple[str, ...]] = None
    weight: float = 1.0
    min_probability: float = 0.0
    repeats: str = UNKNOWN
    id_field: str = ""
    on_error: str = FAIL
    place: str = "--source"

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.path:
            raise BertCrfError(
                f"{self.place}: the source {self.name or self.path!r} is of no known kind: use "
                f"{', '.join(f'{kind}:PATH' for kind in KINDS)}."
            )
        if not self.name.strip():
            raise BertCrfError(f"{self.place}: the source {self.path} has an empty name: name it.")
        for key, low, high in (("weight", 0.0, float("inf")), ("min_probability", -1e-300, 1.0)):
            value = getattr(self, key)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not isfinite(value) or not low < value <= high:
                wanted = "above 0" if key == "weight" else "from 0 to 1"
                raise self.error(f"{key} is {value!r}: it must be a number {wanted}")
        if self.min_probability and self.kind != PIPELINE:
            raise self.error("min_probability is for pipelines only: leave it out")
        if self.repeats not in (UNKNOWN, ALL):
            raise self.error(f"repeats is {self.repeats!r}: use {UNKNOWN} or {ALL}")

    def error(self, message: str) -> BertCrfError:
        """An error of this source."""
        return BertCrfError(f"{self.place}: source {self.name}: {message}.")

    def with_map(self, label_map: LabelMap, labels: Optional[Sequence[str]]) -> "Spec":
        """This source with another label map, of which labels that it lacks are left out."""
        known = None if labels is None else set(labels)
        names = {old: new for old, new in label_map.names.items() if known is None or old in known}
        return replace(self, label_map=replace(label_map, names=names))

    def check_map(self, labels: Optional[Sequence[str]]) -> None:
        """Raise BertCrfError if the map renames a label that the source does not have.

        labels: those that it has, by their old names; None if they are not known.
        """
        unknown = [] if labels is None else sorted(set(self.label_map.names) - set(labels))
        if unknown:
            has = ", ".join(sorted(labels or ())) or "none"
            raise self.error(
                f"the map renames {', '.join(unknown)}, and the labels of {self.path} are {has}: "
                "correct the map"
            )

    def covered(self, labels: Sequence[str]) -> Optional[frozenset[str]]:
        """The labels of which the source would find every entity; None for all.

        labels: those that it has, by their old names. They count unless `covers` says another.
        """
        if self.covers is None:
            new = (self.label_map.fate(label)[0] for label in labels)
            return frozenset(label for label in new if label)
        return None if EVERY in self.covers else frozenset(self.covers)


def parse_source(text: str) -> Spec:
    """The source of `KIND:PATH` or `NAME=KIND:PATH`. Raises BertCrfError for other texts."""
    head, colon, path = text.partition(":")
    name, equals, kind = head.rpartition("=")
    if not colon or kind.strip() not in KINDS:
        raise BertCrfError(
            f"--source {text!r} is of no known kind: write {', '.join(f'{k}:PATH' for k in KINDS)}"
            ", perhaps with NAME= before it."
        )
    path = path.strip()
    return Spec(kind.strip(), path, name.strip() if equals else Path(path).stem)


def read_sources(path: Path) -> list[Spec]:
    """The sources of a JSON file: a list of objects.

    Each has `pipeline`, `file` or `dictionary` with a path, and perhaps further settings of Spec.
    The label map is `map`, `outside` and `unknown`. Paths are relative to the current folder.
    Raises BertCrfError, with the number of the source, for another file.
    """
    try:
        value = srsly.json_loads(read_text(path))
    except ValueError as err:
        if isinstance(err, BertCrfError):
            raise
        raise BertCrfError(f"{path}: this is no JSON: {first_line(err)}. Correct it.") from err
    if not isinstance(value, list) or not value:
        raise BertCrfError(
            f'{path}: write a list of sources, such as [{{"pipeline": "big"}}, {{"file": "a.jsonl"'
            "}]."
        )
    return [_source(each, f"{path}: source {number}") for number, each in enumerate(value, 1)]


def _source(value: Any, place: str) -> Spec:
    kinds = [kind for kind in KINDS if isinstance(value, dict) and kind in value]
    if len(kinds) != 1 or not isinstance(value[kinds[0]], str):
        raise BertCrfError(f"{place}: give one of {', '.join(KINDS)} with its path.")
    if other := sorted(set(value) - {*kinds, *_SETTINGS}):
        raise BertCrfError(f"{place} has no setting {other[0]!r}: use {', '.join(_SETTINGS)}.")
    names = value.get("map", {})
    is_map = isinstance(names, dict) and all(isinstance(new, str) for new in names.values())
    if not is_map:
        raise BertCrfError(f'{place}: map is {names!r}: write {{"OLD": "NEW"}}.')
    dropped = [
        checked(value.get(key, ()), f"{place}: {key}") or () for key in ("outside", "unknown")
    ]
    covers = checked(value.get("covers"), f"{place}: covers")
    path = value[kinds[0]]
    return Spec(
        kinds[0],
        path,
        str(value.get("name", Path(path).stem)),
        LabelMap.of(names, *dropped),
        None if covers is None else tuple(sorted(covers)),
        place=place,
        **{key: value[key] for key in _PLAIN if key in value},
    )


def with_distinct_names(specs: Sequence[Spec]) -> list[Spec]:
    """The sources, of which those with a name that another has before get a number."""
    out: list[Spec] = []
    for spec in specs:
        taken, name, number = {each.name for each in out}, spec.name, 1
        while name in taken:
            number += 1
            name = f"{spec.name}-{number}"
        out.append(replace(spec, name=name))
    return out
