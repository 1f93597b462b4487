"""A table of corpora by labels: how many entities there are, and what is not annotated."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .covers import covers_of

if TYPE_CHECKING:
    from spacy.tokens import Doc

#: Marks a label that no text of a corpus covers.
NOT_COVERED = "-"


def coverage_table(docs: "Iterable[tuple[str, Doc]]") -> str:
    """The number of entities of each label in each corpus, as text.

    A label that a corpus does not cover has a hyphen. One that some of its texts cover has the
    share of these texts in parentheses.

    docs: the docs, each with the name of its corpus.
    RETURNS: the table; "" if all docs cover all labels.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    texts, open_texts = Counter[str](), Counter[str]()
    covered: dict[str, Counter[str]] = defaultdict(Counter)
    for name, doc in docs:
        texts[name] += 1
        counts[name].update(ent.label_ for ent in doc.ents)
        covers = covers_of(doc)
        if covers is None:
            open_texts[name] += 1
        else:
            covered[name].update(covers)
    if not covered and open_texts == texts:
        return ""
    from wasabi.tables import table

    labels = sorted({label for own in (*counts.values(), *covered.values()) for label in own})

    def cell(name: str, label: str) -> str:
        share = (covered[name][label] + open_texts[name]) / texts[name]
        count = f"{counts[name][label]:,}"
        if not share and not counts[name][label]:
            return NOT_COVERED
        return count if share == 1 else f"{count} ({share:.0%})"

    rows = [(name, f"{texts[name]:,}", *(cell(name, label) for label in labels)) for name in texts]
    aligns = ("l", "r", *("r" for _ in labels))
    text = table(rows, header=("corpus", "texts", *labels), divider=True, aligns=aligns)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
