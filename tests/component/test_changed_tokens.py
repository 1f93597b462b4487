"""Docs whose tokens change after the component: probabilities stay with their entities."""

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from spacy_bert_crf.evaluation.calibrate import calibrate
from spacy_bert_crf.evaluation.evaluate import evaluate
from spacy_bert_crf.evaluation.suspects import find_errors
from spacy_bert_crf.export.compare import compare_exports
from spacy_bert_crf.export.folder import export_pipeline
from spacy_bert_crf.export.open import find_exports
from support.toys import ENGLISH, make_examples, train_toy
from support.toys import TEXTS as ZH

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


# Everything that reads scores, after each kind of change


@Language.component("test_merge_names_and_neighbours")
def merge_across(doc):
    """Like merge_noun_chunks: spans that cross the borders of entities."""
    with doc.retokenize() as retokenizer:
        for start in range(1, len(doc) - 2, 3):
            retokenizer.merge(doc[start : start + 2])
    return doc


@Language.component("test_split_tokens")
def split_tokens(doc):
    with doc.retokenize() as retokenizer:
        for token in doc:
            if len(token) > 3:
                parts = [token.text[:2], token.text[2:]]
                retokenizer.split(token, parts, heads=[token, token])
    return doc


#: Component, language and texts of which it changes tokens, whether all entities stay.
CHANGES = {
    "merge_entities": ("zh", ZH, True),
    "test_merge_names_and_neighbours": ("zh", ZH, False),
    "test_split_tokens": ("en", ENGLISH, True),
}


@pytest.fixture(scope="module", params=CHANGES)
def changed(request, encoder_path):
    """A pipeline without and with a component that changes tokens, gold, whether entities stay."""
    lang, data, stays = CHANGES[request.param]
    plain, nlp = (train_toy(encoder_path, lang=lang, data=data) for _ in range(2))
    nlp.add_pipe(request.param)
    for each in (plain, nlp):
        each.get_pipe("bert_crf").scores = True
        each.get_pipe("bert_crf").candidates = 0.01
    return plain, nlp, [example.reference for example in make_examples(plain, data)], stays


def test_scores_of_changed_docs(changed):
    plain, nlp, gold, stays = changed
    seen = 0
    for doc in gold:
        right, found = scores_of(plain(doc.text)), scores_of(nlp(doc.text))
        seen += len(right)
        assert all(right.get(key) == score for key, score in found.items() if key in right)
        assert all(score is None for key, score in found.items() if key not in right)
        assert not stays or found == right
    assert seen > 3


def test_a_docbin_of_changed_docs(changed):
    plain, nlp, gold, _ = changed
    docs = list(nlp.pipe(doc.text for doc in gold))
    if "test_split_tokens" not in nlp.pipe_names:
        # spaCy can't save any span group of a doc whose tokens were merged.
        for doc in docs:
            doc.spans.clear()
    before = [scores_of(doc) for doc in docs]
    packed = DocBin(docs=docs, store_user_data=True).to_bytes()
    again = list(DocBin().from_bytes(packed).get_docs(nlp.vocab))
    assert [scores_of(doc) for doc in again] == before
    assert [[e.text for e in doc.ents] for doc in again] == [
        [e.text for e in doc.ents] for doc in docs
    ]


def test_evaluation_calibration_and_suspects_of_changed_docs(changed):
    plain, nlp, gold, stays = changed
    scored, want = evaluate(nlp, gold, confusion=True), evaluate(plain, gold, confusion=True)
    if stays:
        assert scored.scores.entities.f == want.scores.entities.f > 0
        assert scored.reliability.to_dict() == want.reliability.to_dict()
    assert calibrate(nlp, gold) == calibrate(plain, gold)
    assert find_errors(nlp, gold) == find_errors(plain, gold)


def test_best_paths_of_a_changed_pipeline(changed):
    plain, nlp, gold, _ = changed
    for doc in gold:
        texts = [
            [[(e.text, e.label_) for e in found.entities] for found in each]
            for each in (
                pipeline.get_pipe("bert_crf").nbest([pipeline.make_doc(doc.text)], 3)[0]
                for pipeline in (plain, nlp)
            )
        ]
        assert texts[0] == texts[1]
    # The changed docs themselves: tokens of another cut, which are read as they are.
    docs = [nlp(doc.text) for doc in gold]
    assert all(nlp.get_pipe("bert_crf").nbest(docs, 2))


def test_exports_of_a_changed_pipeline(changed, tmp_path):
    _, nlp, gold, stays = changed
    export_pipeline(nlp, tmp_path / "out", formats=["huggingface"])
    nlp.to_disk(tmp_path / "pipeline")
    result = compare_exports(tmp_path / "pipeline", nlp, gold, find_exports(tmp_path / "out"))
    assert len(result["rows"]) == 3
    for row in result["rows"]:
        # Entities that the later component changed are not those of an export.
        assert row["same"] == 1 or not stays
