"""A dictionary in decoding: hard, soft, and what is no name, in entities and probabilities."""

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_bert_crf.annotation.schemes import SCHEMES
from spacy_bert_crf.component.decoding.dictionary import (
    HARD,
    NOT,
    SOFT,
    Dictionary,
    Extended,
)
from spacy_bert_crf.component.decoding.dictionary_file import read_dictionary
from spacy_bert_crf.errors import BertCrfError
from support.toys import entities, randomise_head, train_toy

from .test_chains import NLP, Truth, make

TEXT = "王小明昨天在北京参观了清华大学。"


def found(dictionary, text, words=None):
    doc = NLP.make_doc(text)
    return [(m.start, m.end, m.names) for m in dictionary.find(doc, words)]


def test_the_longest_of_overlapping_names_is_found_then_the_first():
    names = Dictionary.of([("和平", "PER"), ("和平街", "LOC"), ("街口", "LOC"), ("张和", "PER")])
    assert found(names, "张和平街口") == [(1, 4, (("LOC", SOFT),))]
    assert found(names, "张和平") == [(0, 2, (("PER", SOFT),))]
    assert found(names, "没有") == [] and found(Dictionary(), "没有") == []


def test_one_name_may_have_several_labels():
    names = Dictionary.of([("长安", "PER"), ("长安", "LOC", HARD)])
    assert found(names, "在长安") == [(1, 3, (("PER", SOFT), ("LOC", HARD)))]


def test_a_name_begins_and_ends_with_a_token_and_outside_of_words():
    nlp = spacy.blank("en")
    names = Dictionary.of([("Paris", "LOC"), ("in", "PER"), ("New York", "LOC")])
    doc = nlp("Parisian in New York")
    assert [(m.start, m.end) for m in names.find(doc)] == [(1, 2), (2, 4)]
    doc = NLP.make_doc("CEO")
    words = np.array([False, True, True])
    assert Dictionary.of([("EO", "PER")]).find(doc) and not Dictionary.of([("EO", "X")]).find(
        doc, words
    )


@st.composite
def dictionaries(draw, text):
    names = []
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start + 1, len(text)))
        label, mode = draw(st.sampled_from("XY")), draw(st.sampled_from([HARD, SOFT, NOT]))
        names.append((text[start:end], label, mode))
    return Dictionary.of(names, bonus={"X": draw(st.floats(-2, 3))})


@settings(max_examples=100)
@given(data=st.data())
def test_further_names_take_the_place_of_those_of_the_same_text(data):
    own, further = data.draw(dictionaries(TEXT)), data.draw(dictionaries(TEXT))
    texts = {name.text for name in further.entries}
    kept = [name for name in own.entries if name.text not in texts]
    remade = Dictionary((*further.entries, *kept), own.bonus)
    extended = Extended(own, further)
    assert found(extended, TEXT) == found(remade, TEXT)
    assert all(extended.bonus_of(label) == remade.bonus_of(label) for label in "XY")


@settings(max_examples=15)
@pytest.mark.parametrize("scheme", list(SCHEMES))
@given(data=st.data(), seed=st.integers(0, 99), text=st.sampled_from(["张三京", "在AB", "李"]))
def test_paths_and_probabilities_equal_enumeration(scheme, data, seed, text):
    chains = make(scheme, ("X", "Y"), seed=seed, scale=0.7)
    doc = NLP.make_doc(text)
    random = np.random.default_rng(seed)
    row = random.normal(size=(len(doc), len(chains.tags.tags))).astype(np.float32)
    names = data.draw(dictionaries(text))
    words = chains.words([doc])[0]
    matches = names.find(doc, words)
    hard, starts, changed = [], set(), row.copy()
    for start, end, each in matches:
        labels = [label for label, mode in each if mode == HARD]
        hard += [(start, end, label) for label in labels[:1]]
        for label, mode in each:
            unit, begin, _, last = chains.tags.parts[label]
            if mode == SOFT and end - start == 1:
                changed[start, unit] += names.bonus_of(label)
            elif mode == SOFT:
                changed[start, begin] += names.bonus_of(label) / 2
                changed[end - 1, last] += names.bonus_of(label) / 2
            elif mode == NOT:
                starts.add((start, end, label))
    in_hard = {i for start, end, _ in hard for i in range(start, end)}

    def may_be(spans, path):
        for start, end, label in spans:
            for first, stop, other in starts:
                is_longer = stop - first == 1 and end > stop
                marks = chains.tags.has_last or words is not None
                is_here = (start, label) == (first, other) and start not in in_hard
                if is_here and not (is_longer and marks):
                    return False
        return True

    truth = Truth(chains, words, changed, fixed=hard, allowed=may_be)
    allowed = chains.allowed([doc], "none", True, names)
    tags, impossible = chains.decode([row], allowed)
    (reading,) = chains.read([row], allowed)
    assert impossible == 0 and reading.within_allowed
    first = truth.order[0]
    assert tags[0].tolist() == truth.paths[first].tolist()
    assert set(hard) <= {tuple(e.span) for e in reading.entities}
    np.testing.assert_allclose(
        reading.log_probability, np.log(truth.p[first]), rtol=1e-4, atol=1e-5
    )
    (best,) = chains.best_paths([row], 3, allowed, 1.0)
    np.testing.assert_allclose(
        [path.probability for path in best], truth.p[truth.order[:3]], rtol=1e-4, atol=1e-6
    )


def test_a_hard_name_is_an_entity_a_soft_one_is_likelier_and_no_name_is_none(encoder_path):
    nlp = train_toy(encoder_path, 0, scheme="BIOES")
    pipe = nlp.get_pipe("bert_crf")
    torch.manual_seed(0)
    randomise_head(nlp, 0.3)
    span = (6, 8, "LOC")

    def probability():
        return pipe.read([nlp.make_doc(TEXT)], requested=[[span]])[0].requested[0]

    before = probability()
    pipe.dictionary = Dictionary.of([("北京", "LOC")], bonus={"LOC": 1.0})
    soft = probability()
    odds = [p / (1 - p) for p in (before, soft)]
    # Paths with this entity gain one nat, those that share an end with it half of that.
    assert 1.0 < odds[1] / odds[0] <= np.e + 1e-4
    pipe.dictionary = Dictionary.of([("北京", "LOC", HARD)])
    assert probability() == pytest.approx(1.0)
    assert span in entities(nlp(TEXT))
    assert all(span in [(e.start, e.end, e.label_) for e in each.entities]
               for each in pipe.nbest([nlp.make_doc(TEXT)], 3)[0])  # fmt: skip
    pipe.dictionary = Dictionary.of([("北京", "LOC", NOT)])
    assert probability() == 0.0
    pipe.dictionary = None
    assert probability() == pytest.approx(before)


def test_entities_on_the_doc_are_stronger_than_hard_names(trained):
    pipe = trained.get_pipe("bert_crf")
    pipe.dictionary = Dictionary.of([("北京参观", "ORG", HARD), ("王小", "PER", NOT)])
    doc = trained.make_doc(TEXT)
    doc.ents = [doc.char_span(0, 2, "PER"), doc.char_span(7, 8, "LOC")]
    found = entities(pipe(doc))
    assert (0, 2, "PER") in found and (7, 8, "LOC") in found
    assert (6, 10, "ORG") not in found


def test_the_dictionary_is_saved_with_the_pipeline(trained, tmp_path):
    names = Dictionary.of([("天气", "PER", HARD), ("北京", "LOC")], bonus={"LOC": 0.5})
    trained.get_pipe("bert_crf").dictionary = names
    trained.to_disk(tmp_path / "p")
    for nlp in (
        spacy.load(tmp_path / "p"),
        spacy.load(tmp_path / "p").from_bytes(trained.to_bytes()),
    ):
        assert nlp.get_pipe("bert_crf").dictionary == names
        assert entities(nlp("天气很好，大家都很高兴。")) == [(0, 2, "PER")]
        nlp.get_pipe("bert_crf").dictionary = None
        assert entities(nlp("天气很好，大家都很高兴。")) == []
    cfg = tmp_path / "p" / "bert_crf" / "cfg"
    cfg.write_text(cfg.read_text().replace('"hard"', '"harsh"'))
    with pytest.raises(BertCrfError, match="harsh"):
        spacy.load(tmp_path / "p")


def test_names_of_labels_that_the_component_lacks_are_refused(trained):
    with pytest.raises(BertCrfError, match="does not have: GPE. It has LOC, ORG, PER"):
        trained.get_pipe("bert_crf").dictionary = Dictionary.of([("北京", "GPE")])


def test_files_of_names(tmp_path):
    (tmp_path / "a.tsv").write_text("北京\tLOC\n\n和平\tPER\tnot\n北京\tLOC\n", encoding="utf8")
    (tmp_path / "a.jsonl").write_text(
        '{"text": "北京", "label": "LOC"}\n{"text": "和平", "label": "PER", "mode": "not"}\n',
        encoding="utf8",
    )
    want = Dictionary.of([("北京", "LOC", HARD), ("和平", "PER", NOT)])
    assert read_dictionary(tmp_path / "a.tsv", HARD) == want
    assert read_dictionary(tmp_path / "a.jsonl", HARD) == want


@pytest.mark.parametrize(
    ("name", "line"),
    [("a.tsv", "北京"), ("a.tsv", "北京\tLOC\tmaybe"), ("a.tsv", "\tLOC"), ("a.jsonl", "{}"),
     ("a.jsonl", "北京\tLOC"), ("a.jsonl", '{"text": 1, "label": "LOC"}'), ("a.jsonl", "[1]")],
)  # fmt: skip
def test_bad_lines_are_named(tmp_path, name, line):
    good = '{"text": "a", "label": "X"}' if name == "a.jsonl" else "a\tX"
    (tmp_path / name).write_text(f"{good}\n{line}\n", encoding="utf8")
    with pytest.raises(BertCrfError, match=rf"{name}:2: this is no name with a label"):
        read_dictionary(tmp_path / name)


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ahocorasick_rs", None)
    with pytest.raises(BertCrfError, match=r"spacy-bert-crf\[dictionary\]"):
        Dictionary.of([("北京", "LOC")]).find(NLP.make_doc("北京"))


@pytest.mark.parametrize("bonus", [{"X": "a"}, {"X": float("nan")}, {"X": True}])
def test_a_bonus_must_be_a_number(bonus):
    with pytest.raises(BertCrfError, match="bonus of X"):
        Dictionary(bonus=bonus)
