"""Predictions written to docs: to `doc.ents`, span groups and extensions."""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, Optional

import numpy as np
from spacy.attrs import ENT_IOB, ENT_KB_ID, ENT_TYPE
from spacy.tokens import Doc, Span, SpanGroup, Token

from ..annotation.joined_tags import IntArray, decode_joined
from ..annotation.schemes import TagSet
from .decoding.allowed import labels_extension, taken_tokens
from .reading import Alternative, Path, Reading, ScoredSpan
from .settings import Settings

#: Key of a span group's attrs that holds the probability of each of its spans (as in spancat).
SCORES = "scores"
#: Keys of the offsets in characters [n, 2] and the labels of the spans. A group itself counts
#: tokens, and can't be read once they were merged.
OFFSETS, LABELS = "offsets", "labels"
#: An entity as (start, end, label), in tokens.
EntityTuple = tuple[int, int, str]


class Names(NamedTuple):
    """Names of the span groups and extensions of a component.

    group: group of doc.spans with the entities and their probabilities.
    candidates: group of doc.spans with the candidates.
    log_probability: extension of Doc.
    entropy: extension of Doc.
    """

    group: str
    candidates: str
    log_probability: str
    entropy: str


def names_of(component: str) -> Names:
    """The names of a component: groups of doc.spans, extensions of Doc."""
    return Names(
        component, f"{component}_candidates", f"{component}_log_probability", f"{component}_entropy"
    )


def span_score(groups: Sequence[str], span: Span) -> Optional[float]:
    """The probability of a span with these borders and this label.

    Spans are compared by their characters, since the tokens of the doc may have been merged or
    split since.

    groups: names of span groups. The first that holds the span counts.
    span: the span.
    RETURNS: None if no group holds it.
    """
    key = (span.start_char, span.end_char, span.label_)
    for name in groups:
        group = span.doc.spans.get(name)
        if group is None or SCORES not in group.attrs:
            continue
        at = _place(group, *key)
        if at is not None:
            return float(group.attrs[SCORES][at])
    return None


def _place(group: SpanGroup, start: int, end: int, label: str) -> Optional[int]:
    """The place of a span in a group, by offsets in characters and label; None if it has none.

    Groups are in the order of their starts, so that a doc with many entities is searched by halves.
    """
    attrs = group.attrs
    if OFFSETS in attrs:
        offsets = np.asarray(attrs[OFFSETS]).reshape(-1, 2)
        at = int(np.searchsorted(offsets[:, 0], start))
        while at < len(offsets) and offsets[at, 0] == start:
            if offsets[at, 1] == end and attrs[LABELS][at] == label:
                return at
            at += 1
        return None
    try:  # the group was made by an earlier version
        keys = [(span.start_char, span.end_char, span.label_) for span in group]
    except IndexError:
        return None
    return keys.index((start, end, label)) if (start, end, label) in keys else None


def register_labels(component: str) -> None:
    """Make the extension of Doc that restricts the labels of a doc."""
    _register_doc(labels_extension(component))


def register_scores(component: str, score_extension: str) -> None:
    """Make the extensions that scores need, unless their names are taken.

    Those of Doc hold the figures of the doc. That of Span is the probability of an entity. Several
    components share it.

    component: name of the component.
    score_extension: name of the extension of Span; "" for none.
    """
    names = names_of(component)
    for name in (names.log_probability, names.entropy):
        _register_doc(name)
    if not score_extension:
        return
    own = (names.group, names.candidates)
    if not Span.has_extension(score_extension):
        # Not a lambda: extensions are pickled for the processes of nlp.pipe.
        Span.set_extension(score_extension, getter=partial(span_score, own))
        return
    getter = Span.get_extension(score_extension)[2]
    if isinstance(getter, partial) and getter.func is span_score and own[0] not in getter.args[0]:
        joined = (*getter.args[0], *own)
        Span.set_extension(score_extension, getter=partial(span_score, joined), force=True)


def writable(doc: Doc, entities: Iterable[EntityTuple], overwrite: bool) -> list[Optional[Span]]:
    """Predicted entities as they are written, trimmed of white space and marks without width.

    doc: the doc.
    entities: the predicted entities, in tokens.
    overwrite: whether they replace the entities on the doc.
    RETURNS: a span for each entity. None for an entity that is only white space, or that overlaps
        one that stays.
    """
    spans = [_trimmed(doc, *entity) for entity in entities]
    if not overwrite and (found := taken_tokens(doc)) is not None:
        taken, _ = found
        return [s if s is None or not taken[s.start : s.end].any() else None for s in spans]
    return spans


def alternatives(
    doc: Doc, paths: Iterable[Path], tag_set: TagSet, overwrite: bool
) -> list[Alternative]:
    """The entities of a doc for each of several paths. The doc is not changed.

    doc: the doc.
    paths: tag paths and their probabilities.
    tag_set: the tags of the paths.
    overwrite: whether predicted entities replace those on the doc.
    """
    kept = [] if overwrite else list(doc.ents)
    out = []
    for path in paths:
        spans = writable(doc, tag_set.decode(path.tags.tolist()), overwrite)
        entities = sorted([*kept, *(span for span in spans if span is not None)])
        out.append(Alternative(tuple(entities), path.probability))
    return out


def set_tags(
    docs: Sequence[Doc], tags: Sequence[IntArray], tag_set: TagSet, overwrite: bool
) -> None:
    """Write the entities of predicted tags. Every doc counts as annotated afterwards.

    docs: the docs.
    tags: the tag ids of each doc. [tokens] each
    tag_set: the tags.
    overwrite: whether entities replace those on the docs.
    """
    counts = np.fromiter(map(len, tags), np.int64, len(tags))
    joined = np.concatenate([np.zeros(0, dtype=np.int64), *tags])
    found = decode_joined(tag_set, joined, counts)
    stops = np.cumsum(counts)
    by_doc: dict[int, list[tuple[int, int, int]]] = {}
    for i, *entity in zip(*(column.tolist() for column in found), strict=True):
        by_doc.setdefault(i, []).append((entity[0], entity[1], entity[2]))
    # What the tokens of all docs get. shape: (N, 2)
    rows = np.zeros((len(joined), 2), dtype=np.uint64)
    rows[:, 0] = _OUT
    vocab, types = None, []
    edges = zip(docs, (stops - counts).tolist(), stops.tolist(), strict=True)
    for i, (doc, begin, end) in enumerate(edges):
        entities = by_doc.get(i, ())
        if not _is_blank(doc, bool(entities), overwrite):
            labelled = [(a - begin, b - begin, tag_set.labels[at]) for a, b, at in entities]
            set_entities(doc, labelled, overwrite)
            continue
        if entities and doc.vocab is not vocab:
            vocab = doc.vocab
            types = [vocab.strings.add(label) for label in tag_set.labels]
        for first, stop, label in entities:
            first, stop = _visible(doc, first - begin, stop - begin)
            if first < stop:
                rows[begin + first : begin + stop] = _IN, types[label]
                rows[begin + first, 0] = _BEGIN
        doc.from_array(_ENTITY, rows[begin:end])


_ENTITY = [ENT_IOB, ENT_TYPE]
_IN, _OUT, _BEGIN = 1, 2, 3  # spaCy's ENT_IOB


def _is_blank(doc: Doc, has_entities: bool, overwrite: bool) -> bool:
    """Whether `Doc.from_array` writes to a doc what `Doc.set_ents` would.

    `set_ents` takes five times as long. It also removes what an entity linker has left.
    """
    if not overwrite and doc.has_annotation(ENT_IOB):  # also a doc without tokens
        return False
    return not (has_entities and doc.has_annotation(ENT_KB_ID))


def set_entities(doc: Doc, entities: Iterable[EntityTuple], overwrite: bool) -> None:
    """Write predicted entities. The doc counts as annotated afterwards."""
    spans = writable(doc, entities, overwrite)
    set_ents(doc, [span for span in spans if span is not None], overwrite)


def set_ents(doc: Doc, spans: Sequence[Span], overwrite: bool) -> None:
    """Write entities that are `writable`. The doc counts as annotated afterwards."""
    blocked: list[Span] = []
    if not overwrite and (found := taken_tokens(doc)) is not None:
        _, is_blocked = found
        blocked = [doc[int(i) : int(i) + 1] for i in np.flatnonzero(is_blocked)]
        spans = [*doc.ents, *spans]
    doc.set_ents(list(spans), blocked=blocked, default="outside")


def set_reading(
    doc: Doc,
    reading: Reading,
    component: str,
    settings: Settings,
    threshold: float,
) -> None:
    """Write a reading to its doc: the entities that reach the threshold, and configured figures.

    With `scores`, all entities and their probabilities become a span group, and the figures of
    the doc its extensions. With `candidates`, the candidates become another group.

    doc: the doc.
    reading: the result of reading it.
    component: name of the component, which decides the names of groups and extensions.
    settings: settings of the component.
    threshold: smallest probability of entities in doc.ents.
    """
    names, overwrite = names_of(component), settings.overwrite
    spans = writable(doc, (entity.span for entity in reading.entities), overwrite)
    found = [(s, e.probability) for s, e in zip(spans, reading.entities, strict=True) if s]
    if settings.candidates > 0:
        # Before doc.ents is written, since candidates may overlap it.
        others = _candidates(doc, reading.candidates, [span for span, _ in found], overwrite)
        _set_group(doc, names.candidates, others)
    set_ents(doc, [span for span, p in found if p >= threshold], overwrite)
    if settings.scores:
        _set_group(doc, names.group, found)
        for name, value in (
            (names.log_probability, reading.log_probability),
            (names.entropy, reading.entropy),
        ):
            if Doc.has_extension(name):
                doc._.set(name, value)


def _candidates(
    doc: Doc, candidates: Sequence[ScoredSpan], entities: Sequence[Span], overwrite: bool
) -> list[tuple[Span, float]]:
    """Candidates as they are written; of equal ones after trimming, the most probable."""
    spans = writable(doc, (candidate.span for candidate in candidates), overwrite)
    best: dict[tuple[int, int, str], tuple[Span, float]] = {}
    known = {(span.start, span.end, span.label_) for span in entities}
    for span, candidate in zip(spans, candidates, strict=True):
        if span is None:
            continue
        key = (span.start, span.end, span.label_)
        if key not in known and candidate.probability > best.get(key, (span, -1.0))[1]:
            best[key] = (span, candidate.probability)
    return [best[key] for key in sorted(best)]


def _set_group(doc: Doc, name: str, scored: Sequence[tuple[Span, float]]) -> None:
    spans = [span for span, _ in scored]
    offsets = [(span.start_char, span.end_char) for span in spans]
    attrs = {
        SCORES: np.array([p for _, p in scored], dtype=np.float32),
        OFFSETS: np.array(offsets, dtype=np.int64).reshape(-1, 2),
        LABELS: [span.label_ for span in spans],
    }
    doc.spans[name] = SpanGroup(doc, name=name, spans=spans, attrs=attrs)


def _trimmed(doc: Doc, start: int, end: int, label: str) -> Optional[Span]:
    start, end = _visible(doc, start, end)
    return Span(doc, start, end, label=label) if start < end else None


def _visible(doc: Doc, start: int, end: int) -> tuple[int, int]:
    """The tokens of an entity without invisible ones at its ends. Equal numbers if none is left."""
    while start < end and _is_invisible(doc[start]):
        start += 1
    while start < end and _is_invisible(doc[end - 1]):
        end -= 1
    return start, end


def _is_invisible(token: Token) -> bool:
    """Whether a token is white space, or only marks without width such as U+200B.

    Tokenizers of wordpieces leave both out, so that nothing says whether they are inside.
    """
    return token.is_space or _is_without_width(token.text)


@lru_cache(maxsize=16_384)
def _is_without_width(text: str) -> bool:
    return all(unicodedata.category(c) == "Cf" for c in text)


def _register_doc(name: str) -> None:
    if not Doc.has_extension(name):
        Doc.set_extension(name, default=None)
