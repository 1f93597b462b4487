"""Sources of annotation: how they are named, what they say, and what is refused."""

import json

import pytest
import spacy

from spacy_bert_crf.annotation.coverage.label_map import LabelMap
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.silver.agreement import Opinion
from spacy_bert_crf.evaluation.silver.sources import (
    Text,
    open_sources,
    parse_source,
    read_sources,
)
from spacy_bert_crf.evaluation.silver.sources.spec import SKIP, Spec
from support import bulk
from support.bulk import RAISES

WORDS = "Anna of Apple is in Berlin"


@pytest.fixture(scope="module")
def ruler(tmp_path_factory):
    """A pipeline that finds Apple and Berlin, and raises an error where a text requests it."""
    return bulk.write_ruler(tmp_path_factory.mktemp("silver") / "ruler", "toy_faults")


def texts(*words, ids=()):
    nlp = spacy.blank("en")
    made = [Text(f"t{i}", f"texts:{i}", nlp.make_doc(each)) for i, each in enumerate(words)]
    if ids:
        made = [t._replace(id=own, has_id=True) for t, own in zip(made, ids, strict=True)]
    return made


def said(spec, *words, label_map=None, ids=()):
    (source,) = open_sources([spec], label_map)
    return source.opinions(texts(*words, ids=ids))


def lines(path, *records):
    path.write_text("".join(f"{json.dumps(each)}\n" for each in records), encoding="utf8")
    return path


def spec_of(path, kind="file", **settings):
    return Spec(kind, str(path), "own", **settings)


# Pipelines


def test_a_pipeline_covers_its_labels(ruler):
    (opinion,) = said(spec_of(ruler, "pipeline"), WORDS)
    assert opinion == Opinion(((2, 3, "ORG"), (5, 6, "LOC")), frozenset({"ORG", "LOC"}))


def test_labels_get_other_names_or_are_dropped(ruler):
    spec = spec_of(ruler, "pipeline")
    (opinion,) = said(spec, WORDS, label_map=LabelMap.of({"ORG": "FIRM"}, outside=["LOC"]))
    assert opinion == Opinion(((2, 3, "FIRM"),), frozenset({"FIRM"}))
    (opinion,) = said(spec, WORDS, label_map=LabelMap.of({}, unknown=["LOC"]))
    assert opinion == Opinion(((2, 3, "ORG"),), frozenset({"ORG"}), ((5, 6),))
    (opinion,) = said(spec_of(ruler, "pipeline", covers=("*",)), WORDS)
    assert opinion.covers is None


def test_a_text_that_raises_an_error_has_no_opinion_and_the_others_have(ruler):
    found = said(spec_of(ruler, "pipeline"), WORDS, RAISES, WORDS)
    assert isinstance(found[0], Opinion) and found[0] == found[2]
    assert found[1] == "ValueError: raised as requested"


def test_entities_of_low_probability_are_in_doubt(trained_path):
    from support.toys import TEXTS

    text, spans = TEXTS[0]
    doc = spacy.blank("zh").make_doc(text)
    one = [Text("t", "t", doc)]
    (source,) = open_sources([spec_of(trained_path, "pipeline", min_probability=0.01)])
    (sure,) = source.opinions(one)
    assert sure.entities == tuple(spans) and sure.doubts == ()
    (source,) = open_sources([spec_of(trained_path, "pipeline", min_probability=1.0)])
    (unsure,) = source.opinions(one)
    assert unsure.entities == () and unsure.doubts == tuple(span[:2] for span in spans)


def test_a_pipeline_must_write_entities_and_have_probabilities_if_need_be(ruler, tmp_path):
    with pytest.raises(BertCrfError, match="needs a component bert_crf"):
        open_sources([spec_of(ruler, "pipeline", min_probability=0.5)])
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(BertCrfError, match="writes entities"):
        open_sources([spec_of(tmp_path / "blank", "pipeline")])
    with pytest.raises(BertCrfError, match="no pipeline folder"):
        open_sources([spec_of(tmp_path / "none", "pipeline")])


# Files


def test_a_file_is_matched_by_the_text_or_by_the_id(tmp_path):
    record = {"text": f" {WORDS}\n", "entities": [[1, 5, "PER"]]}
    path = lines(tmp_path / "a.jsonl", {"text": "other", "entities": []}, record)
    assert said(spec_of(path), WORDS) == [Opinion(((0, 1, "PER"),), frozenset({"PER"}))]
    by_id = [{"id": 7, "entities": [{"text": "Anna", "label": "PER"}]}, {"id": "x", "ents": []}]
    path = lines(tmp_path / "b.jsonl", *by_id)
    found = said(spec_of(path, id_field="id"), "Bob", WORDS, ids=["x", "7"])
    assert [opinion.entities for opinion in found] == [(), ((0, 1, "PER"),)]


def test_a_text_that_is_not_in_the_file_has_no_opinion(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"text": WORDS, "entities": []}, {"text": "x", "ents": []})
    (source,) = open_sources([spec_of(path)])
    assert source.opinions(texts("Bob", WORDS))[0] == f"{path} does not have it"
    assert source.close(2) == ["own: 1 of 2 records not used"]
    (source,) = open_sources([spec_of(path)])
    source.opinions(texts("Bob"))
    with pytest.raises(BertCrfError, match=r"none of the 1 texts is among the 2 of .*--id-field"):
        source.close(1)


def test_borders_inside_of_a_token_are_in_doubt(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"text": WORDS, "entities": [[0, 2, "PER"], [8, 14, "ORG"]]})
    assert said(spec_of(path), WORDS)[0] == Opinion(
        ((2, 3, "ORG"),), frozenset({"PER", "ORG"}), ((0, 1),)
    )


def test_what_a_text_covers_and_what_it_leaves_open(tmp_path):
    first = {"text": "Anna", "label": [[0, 4, "PER"]], "covers": ["PER"]}
    second = {"text": "Berlin", "label": [[0, 6, "LOC"]], "partial": True}
    path = lines(tmp_path / "a.jsonl", first, second)
    found = said(spec_of(path), "Anna", "Berlin")
    assert [opinion.covers for opinion in found] == [{"PER"}, frozenset()]


def test_any_format_of_a_corpus_is_a_source(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("Anna B-PER\nlives O\n\nBerlin B-LOC\n", encoding="utf8")
    (source,) = open_sources([spec_of(path)])
    assert source.opinions(texts("Berlin"))[0].entities == ((0, 1, "LOC"),)
    assert source.close(1) == ["own: 1 of 2 records not used"]


BAD = [
    ("{", "this line is no JSON"),
    ('{"text": "a"}x', "this line is no JSON"),
    ('{"text": "Anna", "entities": [[0, 9, "PER"]]}', "outside of the text 0:4"),
    ('{"text": "Anna", "entities": [{"text": "Bob", "label": "PER"}]}', "is not in the text"),
    ('{"entities": []}', "no text"),
    ('{"text": "fine", "entities": [[0, 4, "PER"]]}', "annotates the text of line 1 otherwise"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_bad_record_is_named_with_its_line_or_skipped(tmp_path, line, message):
    path = lines(tmp_path / "a.jsonl", {"text": "fine", "entities": []})
    with path.open("a", encoding="utf8") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(BertCrfError, match=f"a.jsonl:3: .*{message}(.|\n)*1 bad record"):
        open_sources([spec_of(path)])
    (source,) = open_sources([spec_of(path, on_error=SKIP)])
    fine, bad = source.opinions(texts("fine", "Anna"))
    if "otherwise" in message:
        assert "annotated twice" in fine
    else:
        assert fine.entities == () and isinstance(bad, str)


def test_a_record_of_an_id_is_checked_when_its_text_is_there(tmp_path):
    names = [{"text": "Bob", "label": "PER"}]
    path = lines(tmp_path / "a.jsonl", {"id": "1", "entities": names},
                 {"id": "2", "text": "Carl", "entities": []})  # fmt: skip
    (source,) = open_sources([spec_of(path, id_field="id")])
    with pytest.raises(BertCrfError, match="a.jsonl:1: the entity 'Bob' .PER. is not in the text"):
        source.opinions(texts("Anna", ids=["1"]))
    with pytest.raises(BertCrfError, match="a.jsonl:2: .*another text"):
        source.opinions(texts("Anna", ids=["2"]))
    (source,) = open_sources([spec_of(path, id_field="id", on_error=SKIP)])
    assert "is not in the text" in source.opinions(texts("Anna", ids=["1"]))[0]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BertCrfError, match=r"source own: there is no file .*a\.jsonl"):
        open_sources([spec_of(tmp_path / "a.jsonl")])


# Dictionaries


def test_a_dictionary_finds_some_entities_and_its_silence_says_nothing(tmp_path):
    path = tmp_path / "names.tsv"
    path.write_text("Anna\tPER\nApple\tORG\nApple\tWORK\nBerlin\tLOC\tnot\n", encoding="utf8")
    pytest.importorskip("ahocorasick_rs")
    (opinion,) = said(spec_of(path, "dictionary"), WORDS)
    denied = frozenset({(5, 6, "LOC")})
    assert opinion == Opinion(((0, 1, "PER"),), frozenset(), ((2, 3),), denied, True)
    covers = said(spec_of(path, "dictionary", covers=("PER",)), WORDS)[0].covers
    assert covers == {"PER"}


# Settings


def test_a_source_of_the_command_line():
    spec = parse_source("big=pipeline:models/big")
    assert (spec.kind, spec.path, spec.name) == ("pipeline", "models/big", "big")
    assert parse_source("file:answers/llm.jsonl").name == "llm"
    assert parse_source("file:C:\\a.jsonl").path == "C:\\a.jsonl"
    for wrong in ("models/big", "model:big", "pipeline:", "=file:a"):
        with pytest.raises(BertCrfError):
            parse_source(wrong)


def test_sources_of_a_file_have_settings_of_their_own(tmp_path):
    path = tmp_path / "sources.json"
    listed = [
        {"name": "big", "pipeline": "models/big", "map": {"PERSON": "PER"}, "outside": ["*"],
         "covers": ["PER"], "weight": 2, "min_probability": 0.8},
        {"file": "llm.jsonl", "repeats": "all"},
    ]  # fmt: skip
    path.write_text(json.dumps(listed), encoding="utf8")
    big, llm = read_sources(path)
    assert big.label_map == LabelMap.of({"PERSON": "PER"}, ["*"]) and big.weight == 2
    assert (big.covers, big.min_probability) == (("PER",), 0.8)
    assert (llm.name, llm.repeats, llm.covers) == ("llm", "all", None)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"name": "a"}, "give one of pipeline, file, dictionary"),
        ({"file": "a", "pipeline": "b"}, "give one of"),
        ({"file": 1}, "give one of"),
        ({"file": "a", "size": 2}, "no setting 'size'"),
        ({"file": "a", "weight": 0}, "weight is 0: it must be a number above 0"),
        ({"file": "a", "weight": True}, "weight is True"),
        ({"pipeline": "a", "min_probability": 1.5}, "from 0 to 1"),
        ({"file": "a", "min_probability": 0.5}, "for pipelines only"),
        ({"file": "a", "repeats": "each"}, "use unknown or all"),
        ({"file": "a", "map": ["PER"]}, "map is"),
        ({"file": "a", "covers": "PER"}, "give the list"),
        ({"file": "a", "name": " "}, "empty name"),
    ],
)
def test_bad_settings_name_the_file_and_the_source(tmp_path, source, message):
    path = tmp_path / "sources.json"
    path.write_text(json.dumps([{"file": "good.jsonl"}, source]), encoding="utf8")
    with pytest.raises(BertCrfError, match=f"sources.json: source 2.*{message}"):
        read_sources(path)


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_file_of_sources_must_be_a_list(tmp_path, text):
    path = tmp_path / "sources.json"
    path.write_text(text, encoding="utf8")
    with pytest.raises(BertCrfError, match="sources.json: "):
        read_sources(path)


def test_a_map_must_name_labels_that_are_there(tmp_path):
    a = lines(tmp_path / "a.jsonl", {"text": "Anna", "entities": [[0, 4, "PERSON"]]})
    b = lines(tmp_path / "b.jsonl", {"text": "Anna", "entities": [[0, 4, "PER"]]})
    both = [
        parse_source(f"file:{a}"),
        parse_source(f"same=file:{b}"),
        parse_source(f"same=file:{b}"),
    ]
    sources = open_sources(both, LabelMap.of({"PERSON": "PER"}))
    assert [source.spec.name for source in sources] == ["a", "same", "same-2"]
    assert {source.opinions(texts("Anna"))[0] for source in sources} == {
        Opinion(((0, 1, "PER"),), frozenset({"PER"}))
    }
    with pytest.raises(BertCrfError, match="--map renames GPE, .* are PER, PERSON"):
        open_sources(both, LabelMap.of({"GPE": "LOC"}))
    own = spec_of(a, label_map=LabelMap.of({"GPE": "LOC"}))
    with pytest.raises(BertCrfError, match="source own: the map renames GPE, .* are PERSON"):
        open_sources([own])
