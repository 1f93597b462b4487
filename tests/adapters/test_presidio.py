"""The recogniser for Presidio: entities and probabilities are ours, also through its analyzer."""

import pytest

from spacy_bert_crf import BertCrfError
from support.predictions import scored
from support.toys import TEXTS

pytest.importorskip("presidio_analyzer", reason="presidio-analyzer is not installed")

from presidio_analyzer import Pattern, PatternRecognizer

from spacy_bert_crf.adapters.presidio import (
    ENTITIES,
    BertCrfRecognizer,
    make_analyzer,
)

GIVEN = [text for text, _ in TEXTS] * 5


@pytest.fixture(scope="module")
def recognizer(trained_path):
    return BertCrfRecognizer(trained_path)


def results(found, names=ENTITIES):
    return [(start, end, names.get(label, label), p) for start, end, label, p in found]


def as_tuples(found):
    ordered = sorted(found, key=lambda each: each.start)
    return [(each.start, each.end, each.entity_type, each.score) for each in ordered]


def test_the_analyzer_has_our_entities_and_probabilities(recognizer, trained_path):
    analyzer = make_analyzer(recognizer)
    assert sorted(analyzer.get_supported_entities("zh")) == recognizer.supported_entities
    total = 0
    for text, ours in zip(GIVEN, scored(trained_path, GIVEN), strict=True):
        theirs = as_tuples(analyzer.analyze(text, language="zh"))
        assert theirs == results(ours)
        total += len(theirs)
    assert total > 10


def test_only_wanted_entities_and_those_above_a_threshold(recognizer):
    analyzer = make_analyzer(recognizer)
    text = TEXTS[0][0]
    every = analyzer.analyze(text, language="zh")
    some = analyzer.analyze(text, language="zh", entities=["PERSON"])
    assert {each.entity_type for each in some} == {"PERSON"} and len(some) < len(every)
    assert analyzer.analyze(text, language="zh", score_threshold=1.0) == []


def test_other_recognisers_and_own_names(trained_path):
    own = BertCrfRecognizer(trained_path, entities={"PER": "NAME"}, name="ours")
    assert "NAME" in own.supported_entities and "LOC" in own.supported_entities
    phone = Pattern("phone", r"\d{11}", 0.7)
    other = PatternRecognizer("PHONE", name="phones", patterns=[phone], supported_language="zh")
    text = TEXTS[0][0] + "13800138000"
    found = make_analyzer(own, other).analyze(text, language="zh", return_decision_process=True)
    kinds = {each.entity_type: each for each in found}
    assert {"NAME", "PHONE"} <= set(kinds)
    assert kinds["NAME"].recognition_metadata["recognizer_name"] == "ours"
    assert kinds["NAME"].analysis_explanation.original_score == kinds["NAME"].score


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    with pytest.raises(BertCrfError, match="name the folder of a pipeline"):
        BertCrfRecognizer(tmp_path / "none")
