"""Records of annotation: entities by their offsets, or names that are searched in the text."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from ....annotation.formats.records import (
    LIST_KEYS,
    TEXT_KEYS,
    BadRecord,
    Unannotated,
    as_object,
    check_label,
    find_list,
    find_marks,
    find_text,
    parse_spans,
    shown,
)
from ....annotation.formats.spans import check_texts
from ....annotation.formats.text import LOST, SKIPPED, AnnotatedText, RawSpan, RawText
from ....errors import quote
from .spec import ALL

#: Keys of an entity that has no offsets.
_NAME, _NTH = ("text", "surface", "value", "mention", "name"), "nth"
_LABEL = ("label", "type", "entity_type", "tag")
_OFFSETS = ("start", "start_offset", "start_idx", "begin", "offset_start")


class Name(NamedTuple):
    """An entity without a place.

    text: its text.
    label: its entity type.
    nth: which of its occurrences, from 1; None if it is not said.
    """

    text: str
    label: str
    nth: Optional[int] = None


class Parsed(NamedTuple):
    """A record, before its entities are looked for in a text.

    id: its id, "" if it has none.
    raw: its own text, "" if it has none, and its marks.
    spans: entities with offsets.
    names: entities without.
    """

    id: str
    raw: RawText
    spans: list[RawSpan]
    names: list[Name]

    @property
    def labels(self) -> set[str]:
        """The labels of its entities."""
        return {span.label for span in self.spans} | {name.label for name in self.names}


def parse_record(value: Any, place: str, number: int, id_field: str = "") -> Parsed:
    """Read a record.

    value: the value of its line.
    place: the file and the line.
    number: the line.
    id_field: the field of the id; "" for none.
    Raises BadRecord for another value, and Unannotated if it has no list of entities.
    """
    value = as_object(value)
    own_id = value.get(id_field) if id_field else None
    if isinstance(own_id, bool) or not isinstance(own_id, (str, int)):
        own_id = ""
    has_text = any(isinstance(value.get(key), str) for key in TEXT_KEYS)
    raw = RawText(find_text(value) if has_text or own_id == "" else "", [], place, number)
    find_marks(value, raw)
    listed = next((value[key] for key in LIST_KEYS if isinstance(value.get(key), list)), None)
    if listed is None:
        listed = find_list(value)
    if listed is None:
        raise Unannotated(
            f"no list of entities ({', '.join(LIST_KEYS[:4])}): an empty list stands for none"
        )
    parsed = Parsed(str(own_id), raw, [], [])
    for each in listed:
        if isinstance(each, dict) and not any(each.get(key) is not None for key in _OFFSETS):
            parsed.names.append(_name(each))
        else:
            parsed.spans.extend(parse_spans(each))
    return parsed


def _name(value: dict[str, Any]) -> Name:
    text = next((value[key] for key in _NAME if isinstance(value.get(key), str)), "").strip()
    if not text:
        raise BadRecord(f"an entity must have start and end, or a text: {shown(value)}")
    nth = value.get(_NTH)
    if nth is not None and (type(nth) is not int or nth < 1):
        raise BadRecord(f"nth must be a number from 1: {shown(value)}")
    label = next((value[key] for key in _LABEL if key in value), None)
    return Name(text, check_label(label, value), nth)


def resolve(parsed: Parsed, text: str, repeats: str) -> AnnotatedText:
    """The annotation of a text by a record.

    Where entities overlap, the longest stays. A name in the text of a longer one does not count.

    text: the text.
    repeats: what a name means that occurs several times; see Spec.
    Raises BadRecord for a name that is not in the text, and for offsets that do not fit.
    """
    raw = parsed.raw
    whole = RawText(text, list(parsed.spans), raw.place, raw.number, partial=raw.partial)
    whole.covers, whole.unknown = raw.covers, list(raw.unknown)
    if any(end > len(text) for _, end in whole.unknown):
        raise BadRecord(f"a part that is unknown lies outside of the text 0:{len(text)}")
    _place_names(parsed.names, whole, repeats)
    checked = check_texts([whole], "longest")
    for problem in checked.problems[0]:
        if problem.outcome == SKIPPED or (problem.outcome == LOST and not problem.noted):
            raise BadRecord(problem.message)
    (item,) = checked.texts
    assert item is not None  # else there is a problem
    return item


def _place_names(names: Sequence[Name], whole: RawText, repeats: str) -> None:
    """Add the places of names to the entities of a text, or to what is unknown of it."""
    taken = [(span.start, span.end) for span in whole.spans]
    by_text: dict[str, list[Name]] = {}
    for name in names:
        by_text.setdefault(name.text, []).append(name)
    for text, own in sorted(by_text.items(), key=lambda item: (-len(item[0]), item[0])):
        places = [m.start() for m in re.finditer(f"(?={re.escape(text)})", whole.text)]
        if not places:
            raise BadRecord(f"the entity {quote(text)} ({own[0].label}) is not in the text")
        for name in own:
            if name.nth is not None:
                if name.nth > len(places):
                    raise BadRecord(
                        f"the entity {quote(text)} occurs {len(places)} times, so not {name.nth}"
                    )
                start = places[name.nth - 1]
                whole.spans.append(RawSpan(start, start + len(text), name.label))
                taken.append((start, start + len(text)))
        open_names = Counter(name.label for name in own if name.nth is None)
        parts = [(start, start + len(text)) for start in places]
        parts = [part for part in parts if not any(a < part[1] and part[0] < b for a, b in taken)]
        if not open_names or not parts:
            continue
        (label, count), *others = open_names.most_common()
        if not others and (repeats == ALL or count >= len(parts)):
            whole.spans += [RawSpan(start, end, label) for start, end in parts]
        else:
            whole.unknown += parts
        taken += parts
