"""Checks the offsets that a file records: their unit, borders, whitespace and overlaps."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ...errors import quote
from .text import LOST, MENDED, SKIPPED, AnnotatedText, Entity, Problem, RawSpan, RawText

OVERLAP = ("longest", "first", "fail")
CODE_POINTS = "characters (code points)"


@dataclass
class Checked:
    """Texts with checked entities.

    texts: one for each raw text, None for a text that can't be used.
    problems: of each raw text.
    unit: the unit of the offsets in the file, as a message names it.
    overlaps: the problems that are overlaps.
    """

    texts: list[Optional[AnnotatedText]]
    problems: list[list[Problem]]
    unit: str
    overlaps: list[Problem] = field(default_factory=list)


def check_texts(raws: Sequence[RawText], overlap: str) -> Checked:
    """Check the offsets of all texts of a file.

    overlap: which of two overlapping entities stays: `longest`, `first` in the file, or `fail`.
    """
    unit = find_unit(raws)
    done = Checked([], [], unit)
    for raw in raws:
        problems = list(raw.problems)
        done.problems.append(problems)
        is_skipped = any(problem.outcome == SKIPPED for problem in problems)
        if not is_skipped and (wrong := _unusable(raw)):
            message, noted = wrong
            problems.append(Problem(raw.number, message, SKIPPED, raw.place, noted))
            is_skipped = True
        if is_skipped:
            done.texts.append(None)
            continue
        spans = raw.spans if raw.exact else _in_bounds(raw, unit, problems)
        done.texts.append(
            AnnotatedText(
                text=raw.text,
                entities=_choose(raw, spans, overlap, problems, done.overlaps),
                document=raw.document.encode("utf8", "replace").decode("utf8"),
                partial=raw.partial,
                place=raw.place,
                words=raw.words,
                number=raw.number,
                lines=raw.lines,
                covers=raw.covers,
                unknown=raw.unknown,
            )
        )
    return done


def find_unit(raws: Iterable[RawText]) -> str:
    """The unit in which all offsets of a file fit, a key of UNITS. Code points if none does.

    An offset does not fit if it lies outside the text or inside a character. It does not fit
    either if the file records another text for the entity than the text has there.
    """
    inexact = [(raw, span) for raw in raws if not raw.exact for span in raw.spans]
    for same in (same_characters, same_surface):
        if all(_fits(raw, span, same) for raw, span in inexact):
            return CODE_POINTS
        for unit, convert in UNITS.items():
            there = [(raw, convert(raw, span)) for raw, span in inexact]
            if all(span is not None and _fits(raw, span, same) for raw, span in there):
                return unit
    return CODE_POINTS


def same_characters(text: str, surface: str) -> bool:
    """Whether two texts are the same but for the kind of each whitespace character."""
    return text == surface or (
        len(text) == len(surface)
        and all(a == b or (a.isspace() and b.isspace()) for a, b in zip(text, surface, strict=True))
    )


def same_surface(text: str, surface: str) -> bool:
    """Whether two texts are the same but for whitespace."""
    return text == surface or " ".join(text.split()) == " ".join(surface.split())


def _fits(raw: RawText, span: RawSpan, same: Callable[[str, str], bool] = same_surface) -> bool:
    if not 0 <= span.start < span.end <= len(raw.text):
        return False
    return span.surface is None or same(raw.text[span.start : span.end], span.surface)


def _encoded(encoding: str, width: int) -> Callable[[RawText, RawSpan], Optional[RawSpan]]:
    def convert(raw: RawText, span: RawSpan) -> Optional[RawSpan]:
        if raw.text.isascii():
            return span
        data = raw.text.encode(encoding, "surrogatepass")
        if not 0 <= span.start < span.end <= len(data) // width:
            return None
        try:
            before = data[: span.start * width].decode(encoding)
            inside = data[span.start * width : span.end * width].decode(encoding)
        except UnicodeDecodeError:
            return None
        return span._replace(start=len(before), end=len(before) + len(inside))

    return convert


def _inclusive(raw: RawText, span: RawSpan) -> Optional[RawSpan]:
    return None if span.surface is None else span._replace(end=span.end + 1)


UTF_16, BYTES = "UTF-16 units", "UTF-8 bytes"
INCLUSIVE = "characters (code points) with the end inclusive"
#: The span in code points of a span in each other unit, None if it can't be one.
UNITS: dict[str, Callable[[RawText, RawSpan], Optional[RawSpan]]] = {
    UTF_16: _encoded("utf-16-le", 2),
    BYTES: _encoded("utf8", 1),
    INCLUSIVE: _inclusive,
}


def _unusable(raw: RawText) -> Optional[tuple[str, bool]]:
    """Why no doc can be made of a text, and whether this is only listed."""
    text = raw.text
    if not text or not (raw.exact or text.strip()):
        return "the text is empty", True
    try:
        text.encode("utf8")
    except UnicodeEncodeError as err:
        code = f"U+{ord(text[err.start]):04X}"
        return f"the text holds half of a surrogate pair ({code}) at {err.start}", False
    return None


def _in_bounds(raw: RawText, unit: str, problems: list[Problem]) -> list[RawSpan]:
    """The spans of a text in code points, inside the text and without whitespace at the ends."""
    out = []
    text = raw.text

    def add(message: str, outcome: str, noted: bool = False) -> None:
        problems.append(Problem(raw.number, message, outcome, raw.place, noted))

    for recorded in raw.spans:
        span = recorded if unit == CODE_POINTS else UNITS[unit](raw, recorded)
        if span is None or not _fits(raw, span):
            span = _search(raw, recorded)
            what = f"entity {recorded.label!r} at {recorded.start}:{recorded.end}"
            if 0 <= recorded.start < recorded.end <= len(text):
                found = quote(text[recorded.start : recorded.end])
                what += f" is {found} there, but the file says {quote(recorded.surface or '')}"
            elif recorded.start == recorded.end:
                what += " is empty"
            else:
                what += f" lies outside of the text 0:{len(text)}"
            if span is None:
                add(what, LOST)
                continue
            add(f"{what}: it is taken from {span.start}:{span.end}", MENDED)
        inside = text[span.start : span.end]
        start = span.end - len(inside.lstrip())
        end = span.start + len(inside.rstrip())
        if start >= end:
            add(f"entity {span.label!r} at {span.start}:{span.end} is whitespace", LOST)
            continue
        if (start, end) != (span.start, span.end):
            add(f"entity {quote(inside)} ({span.label}): whitespace at an end", MENDED, noted=True)
        out.append(span._replace(start=start, end=end))
    return out


def _search(raw: RawText, span: RawSpan) -> Optional[RawSpan]:
    """Where the recorded text of an entity is, if it occurs only once."""
    if not span.surface or raw.text.count(span.surface) != 1:
        return None
    start = raw.text.index(span.surface)
    if raw.text.find(span.surface, start + 1) >= 0:  # It overlaps itself.
        return None
    return span._replace(start=start, end=start + len(span.surface))


def _choose(
    raw: RawText,
    spans: Iterable[RawSpan],
    overlap: str,
    problems: list[Problem],
    overlaps: list[Problem],
) -> list[Entity]:
    """Entities without overlaps, in the order of the text."""
    entities = [Entity(span.start, span.end, span.label) for span in spans]
    order = list(dict.fromkeys(entities))
    if overlap == "longest":
        order.sort(key=lambda entity: (entity.start - entity.end, entity.start))
    kept: list[Entity] = []
    for entity in order:
        at = bisect_left(kept, entity)
        near = kept[max(at - 1, 0) : at + 1]
        other = next((e for e in near if e.start < entity.end and entity.start < e.end), None)
        if other is None:
            insort(kept, entity)
            continue
        names = [f"{quote(raw.text[e.start : e.end])} ({e.label})" for e in (entity, other)]
        message = f"entity {names[0]} at {entity.start}:{entity.end} overlaps {names[1]}"
        problems.append(Problem(raw.number, message, LOST, raw.place, noted=True))
        overlaps.append(problems[-1])
    return kept
