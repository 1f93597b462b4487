"""Annotated texts to spaCy's docs and back."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ...errors import BertCrfError, quote
from ..coverage.covers import covers_of, set_covers
from ..docbin import read_docbin
from .text import (
    LOST,
    MENDED,
    SKIPPED,
    AnnotatedText,
    Entity,
    Options,
    Problem,
    RawSpan,
    RawText,
    is_unspaced,
)

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span


def to_docs(nlp: "Language", texts: Iterable[AnnotatedText]) -> "tuple[list[Doc], list[Problem]]":
    """Make a doc of each text.

    Entities with a border inside a token are widened to the borders of the tokens. They are lost
    if they would then overlap another one, or consist of spaces only. In a partly annotated text,
    tokens outside of the entities have no annotation (`token.ent_iob` is 0). So do the tokens of
    unknown parts. Other tokens are O. The doc says which labels it covers, if the text does.

    nlp: its tokenizer makes the docs.
    RETURNS: a doc for each text, and a problem for each entity with a border inside a token.
    """
    docs, problems = [], []
    for item in texts:
        doc, found = make_doc(nlp, item)
        docs.append(doc)
        problems.extend(found)
    return docs, problems


def make_doc(nlp: "Language", item: AnnotatedText) -> "tuple[Doc, list[Problem]]":
    """The doc of one text, and its problems; see `to_docs`."""
    doc = nlp.make_doc(item.text)
    ents: list[Span] = []
    loose: list[Entity] = []
    for entity in item.entities:
        ent = doc.char_span(entity.start, entity.end, label=entity.label)
        if ent is None:
            loose.append(entity)
        else:
            ents.append(ent)
    problems = []
    for entity in loose:
        ent = _widen(doc, entity)
        outcome = MENDED
        if ent is None or any(ent.start < e.end and e.start < ent.end for e in ents):
            outcome = LOST
        else:
            ents.append(ent)
        number, place = _place(item, entity)
        problems.append(Problem(number, _border_message(doc, entity), outcome, place))
    # Without any entity, the doc must still count as annotated.
    doc.set_ents(
        ents, missing=_unknown(doc, item, ents), default="missing" if item.partial else "outside"
    )
    set_covers(doc, item.covers)
    return doc, problems


def _unknown(doc: "Doc", item: AnnotatedText, ents: "Iterable[Span]") -> "list[Span]":
    """The tokens of unknown parts, as spans of one token, without those of entities."""
    taken = {token.i for ent in ents for token in ent}
    parts = [doc.char_span(*part, alignment_mode="expand") for part in item.unknown]
    rest = {token.i for part in parts if part is not None for token in part} - taken
    return [doc[i : i + 1] for i in sorted(rest)]


def _place(item: AnnotatedText, entity: Entity) -> tuple[int, str]:
    """The line or record of an entity, as number and name."""
    if not item.lines:
        return item.number, item.place
    at = entity.start
    if item.words is not None:
        at = bisect_right(item.words, entity.start, key=lambda word: word[0]) - 1
    return item.lines[at], f"{item.place.rpartition(':')[0]}:{item.lines[at]}"


def _widen(doc: "Doc", entity: Entity) -> "Span | None":
    # A space belongs to the token before it, so widening over a space would include that token.
    words = doc.text[entity.start : entity.end].strip(" ")
    if not words:
        return None
    start = doc.text.find(words, entity.start)
    return doc.char_span(start, start + len(words), label=entity.label, alignment_mode="expand")


def _border_message(doc: "Doc", entity: Entity) -> str:
    start, end, label = entity
    border = end - 1 if any(token.idx == start for token in doc) else start
    token = [token.text_with_ws for token in doc if token.idx <= border][-1]
    name = f"entity {quote(doc.text[start:end])} ({label})"
    return f"{name} has a border inside the tokenizer's token {quote(token)}"


def read(path: Path, options: Options) -> tuple[list[RawText], dict[str, str]]:
    """The docs of a DocBin as texts. Raises BertCrfError as `read_docbin` does."""
    from spacy.vocab import Vocab

    raws = []
    for index, doc in enumerate(read_docbin(path, Vocab())):
        raw = RawText("", [], f"{path}: doc index {index}", index, exact=True)
        raws.append(raw)
        try:
            item = text_of(doc, options.join)
        except BertCrfError as err:
            raw.problems.append(Problem(index, str(err), SKIPPED, raw.place))
            continue
        raw.text, raw.words, raw.partial = item.text, item.words, item.partial
        raw.covers, raw.unknown = item.covers, item.unknown
        raw.spans = [RawSpan(*entity) for entity in item.entities]
    return raws, {}


def text_of(doc: "Doc", join: Optional[str] = None) -> AnnotatedText:
    """The text and the entities of a doc, with what is unknown and which labels it covers.

    The text is partial if no token is known to be outside of the entities. White space does not
    count.

    join: the text between two tokens if the doc does not know its spaces; None decides by the
        script.
    Raises BertCrfError if the doc is empty, or if tokens are blocked, which no format expresses.
        Also if it says in another way than by a list which labels it covers.
    """
    iobs = doc.to_array(["ENT_IOB", "ENT_TYPE"]).tolist()
    if any(iob == 3 and not label for iob, label in iobs):
        raise BertCrfError("no entity annotation for some tokens, they are blocked")
    if not len(doc):
        raise BertCrfError("the doc is empty")
    if join is None:
        join = "" if is_unspaced(doc.text) else " "
    words, at = [], 0
    for token in doc:
        words.append((at, at + len(token.text)))
        at = words[-1][1] + len(join if doc.has_unknown_spaces else token.whitespace_)
    text = doc.text
    if doc.has_unknown_spaces:
        text = join.join(token.text for token in doc)
    entities = [Entity(words[e.start][0], words[e.end - 1][1], e.label_) for e in doc.ents]
    is_open = [iob == 0 for iob, _ in iobs]
    outside = any(
        iob == 2 and not token.is_space for token, (iob, _) in zip(doc, iobs, strict=True)
    )
    found = AnnotatedText(text, entities, words=words, covers=covers_of(doc))
    found.partial = any(is_open) and not outside
    if outside:
        for place, group in groupby(range(len(doc)), key=is_open.__getitem__):
            run = list(group)
            if place:
                found.unknown.append((words[run[0]][0], words[run[-1]][1]))
    return found
