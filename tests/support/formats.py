"""Corpora of several formats, and DocBins as plain values."""

from spacy.tokens import DocBin
from spacy.vocab import Vocab


def read_docs(path):
    """The text and the entities of each doc of a DocBin."""
    docs = DocBin().from_disk(path).get_docs(Vocab())
    return [(d.text, [(e.start_char, e.end_char, e.label_) for e in d.ents]) for d in docs]
