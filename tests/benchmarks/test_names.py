"""Parts of the benchmark of dictionaries."""

import pytest
import spacy

from benchmarks.accuracy.names import SENTENCES, costs, many, names_of, read_sentences, right
from benchmarks.harness.common import Failed
from spacy_bert_crf.component.decoding.dictionary import Dictionary
from support.toys import entities, load_pipeline, make_examples


def test_sentences_have_their_entities_and_are_names_or_words(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text(
        "# names\n\n和平\tPER\n[和平|PER]在[北京|LOC]。\n[李伟|PER]爱和平。\n", encoding="utf8"
    )
    names, as_name, as_word = read_sentences(path, spacy.blank("zh"))
    assert names == [("和平", "PER")]
    assert [(doc.text, entities(doc)) for doc in as_name] == [
        ("和平在北京。", [(0, 2, "PER"), (3, 5, "LOC")])
    ]
    assert [(doc.text, entities(doc)) for doc in as_word] == [("李伟爱和平。", [(0, 2, "PER")])]


def test_each_name_of_the_file_is_twice_a_name_and_twice_a_word():
    names, as_name, as_word = read_sentences(SENTENCES, spacy.blank("zh"))
    assert len(set(names)) == len(names) == 24
    for name, label in names:
        assert sum((name, label) in {(e.text, e.label_) for e in doc.ents} for doc in as_name) == 2
        assert sum(name in doc.text for doc in as_word) >= 2
    assert len(as_name) == len(as_word) == 48


def test_names_are_filled_up_and_timed(trained_path):
    pytest.importorskip("ahocorasick_rs")
    nlp = load_pipeline(trained_path)
    docs = [eg.reference for eg in make_examples(nlp)]
    known = names_of(docs)
    assert ("北京", "LOC") in known and len(known) == 12
    names = many(known, 50)
    assert len(set(names)) == 50 and names[: len(known)] == known
    found = costs(nlp, docs, Dictionary.of(known), 2)
    assert found["matches"] == sum(len(doc.ents) for doc in docs)
    assert len(found["seconds"]["with"]) == len(found["ratios"]) == 2
    assert nlp.get_pipe("bert_crf").dictionary is None
    wrong = [set(), *({(e.start_char, e.end_char, e.label_) for e in d.ents} for d in docs[1:])]
    assert right(wrong, docs) == len(docs) - 1


def test_too_few_names_to_compose_others_are_refused():
    for names in ([("中", "LOC")], [("北京", "LOC"), ("王伟", "PER")]):
        with pytest.raises(Failed, match="too few to compose"):
            many(names, 50)
