"""Entities of sentences of words with parts of speech, as far as they are sure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spacy_bert_crf.errors import BertCrfError

from .bodies import Marks, company_names, find_bodies
from .persons import find_persons, given_names
from .places import find_places
from .rules import OUTSIDE, Rules, read_rules
from .words import Sentence, text_of

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc


@dataclass(frozen=True)
class Annotated:
    """A sentence with its entities.

    text: the text.
    entities: (start, end, label) in characters, in order.
    unknown: (start, end) in characters, in order: whether there is an entity is not known.
    """

    text: str
    entities: list[tuple[int, int, str]]
    unknown: list[tuple[int, int]]


class Annotator:
    """Finds persons, places and organisations in the sentences of one corpus."""

    def __init__(self, sentences: list[Sentence], rules: Rules | None = None) -> None:
        """sentences: the whole corpus, which shows what is a given name and what a company.
        rules: the rules; None for those of the quickstart.
        """
        self.rules = rules or read_rules()
        self.surnames = set(self.rules.surnames)
        self.given = given_names(sentences)
        self.companies = company_names(sentences, self.rules)

    def annotate(self, words: Sentence) -> Annotated:
        """The sentence with its entities."""
        persons = find_persons(words, self.surnames, self.given)
        marks = Marks(words, persons.words)
        find_bodies(marks, self.rules, self.companies)
        find_places(marks, self.rules)
        text = text_of(words)
        entities = [(start, end, "PER") for start, end in persons.entities]
        unsure = list(persons.unknown)
        for first, last, label in marks.found:
            start, end = words[first].start, words[last - 1].end
            if not label:
                unsure.append((start, end))
            elif words[first].tag == "j" and label == "LOC":
                entities += [(at, at + 1, label) for at in range(start, end)]
            else:
                entities.append((start, end, label))
        unknown = []
        for start, end in unsure:
            settled = self.rules.settled.get(text[start:end])
            over = [span for span in entities if span[0] < end and start < span[1]]
            if settled is None or any(a < start or end < b for a, b, _ in over):
                unknown.append((start, end))
                continue
            entities = [span for span in entities if span not in over]
            if settled != OUTSIDE:
                entities.append((start, end, settled))
        hidden = [span for span in entities if any(a < span[1] and span[0] < b for a, b in unknown)]
        return Annotated(
            text,
            sorted(span for span in entities if span not in hidden),
            sorted(unknown),
        )


def make_doc(nlp: "Language", sentence: Annotated) -> "Doc":
    """A Doc of the sentence. Unknown tokens have no annotation, as spaCy's missing values.

    nlp: a blank pipeline, for its tokenizer.
    sentence: the sentence.
    Raises BertCrfError if an entity does not begin and end at tokens.
    """
    doc = nlp.make_doc(sentence.text)
    ents = [doc.char_span(start, end, label=label) for start, end, label in sentence.entities]
    for span, ent in zip(sentence.entities, ents, strict=True):
        if ent is None:
            raise BertCrfError(
                f"{sentence.text[span[0] : span[1]]!r} is cut by the tokenizer of {nlp.lang!r} in "
                f"{sentence.text!r}: use the language zh."
            )
    missing = [
        doc.char_span(start, end, alignment_mode="expand") for start, end in sentence.unknown
    ]
    doc.set_ents(ents, missing=missing, default="outside")
    return doc
