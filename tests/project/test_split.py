"""Dividing a corpus: whole documents, equal texts together, labels in each part."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert_crf.annotation.formats import AnnotatedText, Entity
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.project.split import MIN_DOCUMENTS, split_texts, text_key

SHARES = {"dev": 0.1, "test": 0.1}


def text(words, labels=(), document=""):
    entities = [Entity(i, i + 1, label) for i, label in enumerate(labels)]
    return AnnotatedText(words, entities, document=document)


def labels_of(texts, rows):
    return Counter(entity.label for i in rows for entity in texts[i].entities)


corpora = st.lists(
    st.builds(
        text,
        st.sampled_from(["a b", "a  b", " a b", *"cdefghijklmnop"]),
        st.lists(st.sampled_from(["PER", "LOC", "RARE"]), max_size=2),
        st.sampled_from(["", *map(str, range(14))]),
    ),
    min_size=1,
    max_size=60,
)


@given(corpora, st.integers(0, 3))
def test_each_text_has_one_part_and_equal_texts_and_documents_stay_together(texts, seed):
    try:
        split = split_texts(texts, shares=SHARES, seed=seed)
    except BertCrfError:
        names = {item.document for item in texts if item.document}
        if len(names) < MIN_DOCUMENTS:
            assert len({text_key(item.text) for item in texts}) < 3
        return
    rows = [i for part in split.parts.values() for i in part]
    assert sorted(rows) == list(range(len(texts)))
    assert all(split.parts.values()) and list(split.parts) == ["train", "dev", "test"]
    part_of = {i: part for part, some in split.parts.items() for i in some}
    parts = {}
    for i, item in enumerate(texts):
        parts.setdefault(text_key(item.text), set()).add(part_of[i])
        if split.by_document and item.document:
            parts.setdefault(("document", item.document), set()).add(part_of[i])
    assert all(len(found) == 1 for found in parts.values())


def test_parts_have_their_share_of_each_label():
    kinds = [["PER"], ["LOC", "LOC"], ["PER", "ORG"], [], [], ["LOC"], []]
    texts = [text(f"text {i}", kinds[i % len(kinds)]) for i in range(700)]
    texts += [text(f"rare {i}", ["RARE"]) for i in range(10)]
    split = split_texts(texts, shares=SHARES, seed=1)
    assert abs(len(split.parts["dev"]) - 71) <= 1 and abs(len(split.parts["test"]) - 71) <= 1
    for part in SHARES:
        found = labels_of(texts, split.parts[part])
        assert found["RARE"] == 1
        assert abs(found["PER"] - 20) <= 1 and abs(found["LOC"] - 30) <= 2
        assert abs(found["ORG"] - 10) <= 1


def test_a_label_with_few_examples_is_learned():
    texts = [text(f"text {i}", ["PER"]) for i in range(50)] + [text("once", ["ONCE"])]
    for seed in range(5):
        assert 50 in split_texts(texts, shares=SHARES, seed=seed).parts["train"]


def test_the_seed_decides():
    texts = [text(f"text {i}", ["PER"]) for i in range(100)]
    first = split_texts(texts, shares=SHARES, seed=1)
    assert split_texts(texts, shares=SHARES, seed=1) == first
    assert split_texts(texts, shares=SHARES, seed=2) != first


def test_few_documents_are_divided():
    """A corpus of two documents would otherwise have no test."""
    texts = [text(f"text {i}", ["PER"], document=str(i % 2)) for i in range(40)]
    assert not split_texts(texts, shares=SHARES).by_document
    texts = [text(f"text {i}", ["PER"], document=str(i % 20)) for i in range(40)]
    assert split_texts(texts, shares=SHARES).by_document


def test_too_few_texts():
    with pytest.raises(BertCrfError, match="2 different text.*--dev and --test"):
        split_texts([text("a"), text("b"), text(" b ")], shares=SHARES)
