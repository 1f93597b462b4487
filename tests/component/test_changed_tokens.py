"""Docs whose tokens change after the component: probabilities stay with their entities."""

import pytest
import spacy
from spacy.tokens import Doc

from support.toys import train_toy

TEXTS = ["王小明昨天在北京参观了清华大学。", "张三和李四都喜欢南京。"]


def scores_of(doc):
    return {(ent.start_char, ent.end_char, ent.label_): ent._.score for ent in doc.ents}


@pytest.fixture(scope="module")
def nlp(encoder_path):
    nlp = train_toy(encoder_path)
    nlp.get_pipe("bert_crf").scores = True
    return nlp


@pytest.mark.parametrize("text", [*TEXTS, "".join(TEXTS * 3)])
def test_merged_entities_keep_their_probabilities(nlp, text):
    before = scores_of(nlp(text))
    assert before and all(score is not None for score in before.values())
    doc = nlp(text)
    spacy.pipeline.merge_entities(doc)
    assert scores_of(doc) == before


def test_any_retokenization_and_a_saved_doc_keep_them(nlp):
    before = scores_of(nlp(TEXTS[0]))
    doc = nlp(TEXTS[0])
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[3:5])  # no entity: 昨天
    assert scores_of(doc) == before
    # A DocBin with span groups, and the bytes of a doc.
    again = Doc(nlp.vocab).from_bytes(doc.to_bytes())
    assert scores_of(again) == before


def test_an_entity_that_is_no_longer_there_lends_its_probability_to_none(nlp):
    doc = nlp(TEXTS[0])
    predicted = scores_of(doc)
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[0:2])
    # Spans that were not predicted, at token indices at which one was.
    for start in range(len(doc)):
        for end in range(start + 1, len(doc) + 1):
            span = doc.char_span(doc[start].idx, doc[end - 1].idx + 1, label="PER")
            if span is not None:
                key = (span.start_char, span.end_char, "PER")
                assert span._.score == predicted.get(key)
