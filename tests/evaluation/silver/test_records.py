"""Entities of another program: by offsets, or by their text."""

import pytest

from spacy_bert_crf.annotation.formats.records import BadRecord, Unannotated
from spacy_bert_crf.evaluation.silver.sources.records import parse_record, resolve
from spacy_bert_crf.evaluation.silver.sources.spec import ALL, UNKNOWN

TEXT = "北京大学在北京,李伟在北京"


def read(entities, text=TEXT, repeats=UNKNOWN, **more):
    item = resolve(parse_record({"entities": entities, "text": text, **more}, "f:1", 1), text,
                   repeats)  # fmt: skip
    return [tuple(entity) for entity in item.entities], item.unknown


def name(text, label, **more):
    return {"text": text, "label": label, **more}


def test_offsets_of_several_spellings():
    entities = [[0, 4, "ORG"], {"start": 5, "end": 7, "label": "LOC"}]
    assert read(entities) == ([(0, 4, "ORG"), (5, 7, "LOC")], [])


def test_a_name_that_occurs_once_is_found():
    assert read([name("李伟", "PER"), name("北京大学", "ORG")]) == (
        [(0, 4, "ORG"), (8, 10, "PER")], [],
    )  # fmt: skip


def test_a_name_that_occurs_several_times_is_unknown_or_each_time_an_entity():
    everywhere = [(0, 2), (5, 7), (11, 13)]
    assert read([name("北京", "LOC")]) == ([], everywhere)
    assert read([name("北京", "LOC")], repeats=ALL) == ([(*p, "LOC") for p in everywhere], [])
    # It is listed as often as it occurs.
    assert read([name("北京", "LOC")] * 3) == ([(*p, "LOC") for p in everywhere], [])
    assert read([name("北京", "LOC", nth=2)]) == ([(5, 7, "LOC")], [])


def test_a_name_in_a_longer_one_does_not_count():
    found = read([name("北京", "LOC"), name("北京大学", "ORG")], "北京大学在北京")
    assert found == ([(0, 4, "ORG"), (5, 7, "LOC")], [])


def test_a_name_with_two_labels_is_unknown():
    assert read([name("李伟", "PER"), name("李伟", "ORG")]) == ([], [(8, 10)])


def test_marks_of_a_record_are_kept():
    record = {"text": TEXT, "label": [[0, 4, "ORG"]], "covers": ["ORG"], "unknown": [[5, 7]]}
    item = resolve(parse_record(record, "f:1", 1), TEXT, UNKNOWN)
    assert item.covers == {"ORG"} and item.unknown == [(5, 7)] and not item.partial


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        ([name("上海", "LOC")], "'上海' .LOC. is not in the text"),
        ([name("北京", "LOC", nth=4)], "occurs 3 times"),
        ([name("北京", "LOC", nth=0)], "nth must be a number"),
        ([[0, 99, "LOC"]], "outside of the text 0:13"),
        ([[3, 3, "LOC"]], "is empty"),
        ([{"start": 0, "end": 2, "label": "LOC", "text": "上海"}], "is '北京' there"),
        ([name("", "LOC")], "start and end, or a text"),
        ([name("北京", "")], "the label of an entity must be a text"),
        (["北京"], "a start, an end and a label"),
    ],
)
def test_what_does_not_fit_is_refused(entities, message):
    with pytest.raises(BadRecord, match=message):
        read(entities)


def test_a_record_without_entities_is_not_annotated():
    with pytest.raises(Unannotated):
        parse_record({"text": TEXT, "error": "no answer"}, "f:1", 1)
    with pytest.raises(BadRecord, match="no text"):
        parse_record({"entities": []}, "f:1", 1)
