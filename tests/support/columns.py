"""Column files, and texts with entities to write to them."""

from hypothesis import strategies as st

from spacy_bert_crf.annotation.formats.columns import read_columns
from spacy_bert_crf.annotation.schemes import EntitySpan
from spacy_bert_crf.annotation.tags import Row

GOOD = "北 B-LOC\n京 I-LOC\n\n好 O\n"
ODD = "\u3000 \t\xa0\u2028\u2029\x0b\x0c\x85\x1c\x1d\x1e\x1f\0\u200b\ufeff\ue000\ufffd😀-O龘"
labels = st.sampled_from(["LOC", "PER.NOM", "A-b-c", "-", "人", "B-I", "O", "."])
characters = st.one_of(
    st.sampled_from(ODD),
    st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]),
)
lengths = st.integers(1, 3)


def write(folder, content, name="corpus.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf8"))
    return path


def rows_of(*tags, token="字"):
    parts = [tag.partition("-") for tag in tags]
    return [Row(i, token, prefix, label) for i, (prefix, _, label) in enumerate(parts, 1)]


def columns_of(path, join=None):
    return [
        [(row.token, row.prefix, row.label) for row in rows]
        for rows in read_columns(path, join=join).sentences
    ]


@st.composite
def texts_and_spans(draw):
    """A text and entities over it, many of them adjacent."""
    spans, at = [], 0
    for label, length in draw(st.lists(st.tuples(st.none() | labels, lengths), min_size=1)):
        if label:
            spans.append(EntitySpan(at, at + length, label))
        at += length
    return draw(st.text(characters, min_size=at, max_size=at)), spans
