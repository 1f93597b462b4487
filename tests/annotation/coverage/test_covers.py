"""Which labels a doc covers: on docs, in files, in gold, in scores and in tables."""

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin
from spacy.training import Example

from spacy_bert_crf.annotation.convert import convert_corpus
from spacy_bert_crf.annotation.coverage.covers import covers_of, set_covers
from spacy_bert_crf.annotation.coverage.label_map import LabelMap
from spacy_bert_crf.annotation.coverage.scored import only_covered
from spacy_bert_crf.annotation.coverage.table import coverage_table
from spacy_bert_crf.annotation.docbin import read_docbin
from spacy_bert_crf.annotation.formats import read_corpus, write_corpus
from spacy_bert_crf.annotation.gold import allowed_tags, count_tags, read_gold
from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.evaluate import score_docs
from support.commands import cli

NLP = spacy.blank("zh")
TAGS = TagSet(("LOC", "PER"))


def doc_of(text, spans=(), covers=None):
    doc = NLP.make_doc(text)
    doc.ents = [doc.char_span(*span) for span in spans]
    set_covers(doc, covers)
    return doc


def tags_of(doc, tags=TAGS):
    rows = allowed_tags(read_gold(Example(NLP.make_doc(doc.text), doc)), tags)
    return [" ".join(tags.tags[i] for i in np.flatnonzero(row)) for row in rows]


def test_outside_of_a_doc_that_covers_some_labels_means_none_of_these():
    doc = doc_of("张三在京", [(0, 2, "PER")], ["PER"])
    # Nothing may continue the entity beyond its end.
    assert tags_of(doc) == ["B-PER", "I-PER", "O B-LOC", "O B-LOC I-LOC"]
    bioes = TagSet(("LOC", "PER"), "BIOES")
    assert tags_of(doc, bioes)[2] == "O B-LOC I-LOC E-LOC S-LOC"
    assert tags_of(doc_of("张三", [], ["LOC", "PER"])) == ["O", "O"]
    assert tags_of(doc_of("张三", [], [])) == [" ".join(TAGS.tags)] * 2


def test_an_entity_is_what_it_is_also_if_its_label_is_not_covered():
    doc = doc_of("张三在京", [(0, 2, "PER"), (3, 4, "LOC")], ["PER"])
    assert tags_of(doc) == ["B-PER", "I-PER", "O B-LOC", "B-LOC"]


def test_an_entity_of_a_label_that_the_tags_lack_may_be_one_that_is_not_covered():
    doc = doc_of("北京", [(0, 2, "GPE")], ["GPE", "PER"])
    assert tags_of(doc) == ["O B-LOC I-LOC"] * 2
    set_covers(doc, None)
    assert tags_of(doc) == ["O"] * 2


@pytest.mark.parametrize("value", ["PER", 3, [""], [1], {"PER": 1}])
def test_another_value_than_a_list_of_labels_is_refused(value):
    doc = doc_of("张三")
    doc.user_data["covers"] = value
    with pytest.raises(BertCrfError, match=r'user_data\["covers"\] is .*list of the labels'):
        read_gold(Example(NLP.make_doc("张三"), doc))


def test_covers_survive_a_docbin_bytes_and_a_pickle(tmp_path):
    doc = doc_of("张三", [(0, 2, "PER")], ["PER", "LOC"])
    DocBin(docs=[doc, doc_of("在")], store_user_data=True).to_disk(tmp_path / "a.spacy")
    docs = list(read_docbin(tmp_path / "a.spacy", NLP.vocab))
    copies = [docs[0], Doc(NLP.vocab).from_bytes(doc.to_bytes()), doc.copy()]
    assert [covers_of(each) for each in copies] == [frozenset({"PER", "LOC"})] * 3
    assert covers_of(docs[1]) is None


def test_a_corpus_covers_what_the_command_names_or_its_texts_say(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "张三在京", "label": [[0, 2, "PER"]]}\n'
        '{"text": "李四在京", "label": [[0, 2, "PER"]], "covers": ["PER"]}\n',
        encoding="utf8",
    )
    cli("convert-corpus", tmp_path / "a.jsonl", tmp_path / "a.spacy", "--covers", "PER,LOC")
    docs = list(read_docbin(tmp_path / "a.spacy", NLP.vocab))
    assert [covers_of(doc) for doc in docs] == [frozenset({"PER", "LOC"}), frozenset({"PER"})]
    cli("convert-corpus", tmp_path / "a.jsonl", tmp_path / "b.spacy")
    docs = list(read_docbin(tmp_path / "b.spacy", NLP.vocab))
    assert [covers_of(doc) for doc in docs] == [None, frozenset({"PER"})]


@pytest.mark.parametrize(
    "format", ["doccano", "label-studio", "json-min", "prodigy", "cluener", "spacy-json", "csv"]
)
def test_formats_keep_what_a_text_covers_and_what_is_unknown(tmp_path, format):
    doc = doc_of("张三在南京路", [(0, 2, "PER")], ["PER"])
    doc.set_ents(list(doc.ents), missing=[doc[3:5]], default="outside")
    DocBin(docs=[doc, doc_of("在")], store_user_data=True).to_disk(tmp_path / "a.spacy")
    convert_corpus(tmp_path / "a.spacy", tmp_path / f"b.{format}", to=format)
    first, second = read_corpus(tmp_path / f"b.{format}").texts
    assert (first.covers, first.unknown, first.partial) == (frozenset({"PER"}), [(3, 5)], False)
    assert (second.covers, second.unknown) == (None, [])
    convert_corpus(tmp_path / f"b.{format}", tmp_path / "c.spacy")
    back = next(iter(read_docbin(tmp_path / "c.spacy", NLP.vocab)))
    assert [token.ent_iob for token in back] == [3, 1, 2, 0, 0, 2]
    assert covers_of(back) == {"PER"}


def test_columns_and_brat_refuse_what_they_cannot_say(tmp_path):
    write_corpus(tmp_path / "a.jsonl", [], "doccano")
    (tmp_path / "a.jsonl").write_text('{"text": "张三", "label": [], "covers": ["PER"]}\n')
    convert_corpus(tmp_path / "a.jsonl", tmp_path / "a.spacy")
    for to in ("columns", "brat"):
        with pytest.raises(BertCrfError, match="the annotation covers PER only, and"):
            convert_corpus(tmp_path / "a.spacy", tmp_path / "b", to=to)


@pytest.mark.parametrize(
    ("more", "message"),
    [('"covers": "PER"', "covers is 'PER'"), ('"unknown": [[2, 1]]', r"must be \[start, end\]"),
     ('"unknown": [[0, 9]]', "lies outside of the text")],
)  # fmt: skip
def test_marks_of_another_kind_are_named(tmp_path, more, message):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "张三", "label": [], {more}}}\n')
    with pytest.raises(BertCrfError, match=f"(?s)a.jsonl:1.*{message}"):
        read_corpus(tmp_path / "a.jsonl")


def test_only_covered_entities_are_scored():
    gold = doc_of("张三在京。", [(0, 2, "PER"), (3, 4, "LOC")], ["PER"])
    ours = doc_of("张三在京。", [(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "PER")])
    scores = spacy.blank("zh").add_pipe("bert_crf").score([Example(ours, gold)])
    assert scores["ents_per_type"] == {"PER": {"p": 0.5, "r": 1.0, "f": pytest.approx(2 / 3)}}
    (example,) = only_covered([Example(ours, gold)])
    assert [ent.label_ for ent in example.predicted.ents] == ["PER", "PER"]
    assert len(gold.ents) == 2 and len(ours.ents) == 3  # neither was changed
    assert score_docs([ours], [gold], "BIO").to_dict()["ents_per_type"] == {
        "PER": {"p": 0.5, "r": 1.0, "f": pytest.approx(2 / 3), "gold": 1}
    }
    plain = Example(ours, doc_of("张三在京。"))
    assert only_covered([plain])[0] is plain


def test_unknown_tokens_stay_unknown_where_covered_entities_are_scored():
    gold = doc_of("张三在京", [(3, 4, "LOC")], ["PER"])
    gold.set_ents(list(gold.ents), missing=[gold[0:2]], default="outside")
    (example,) = only_covered([Example(doc_of("张三在京"), gold)])
    assert [token.ent_iob for token in example.reference] == [0, 0, 2, 2]


def test_the_table_shows_corpora_by_label():
    docs = [
        ("a", doc_of("张三在京", [(0, 2, "PER")], ["PER"])),
        ("b", doc_of("张三在京", [(0, 2, "PER"), (3, 4, "LOC")])),
        ("b", doc_of("南京", [(0, 2, "LOC")], ["LOC"])),
    ]
    rows = [line.split() for line in coverage_table(docs).splitlines()]
    assert rows[0] == ["corpus", "texts", "LOC", "PER"]
    assert rows[2:] == [["a", "1", "-", "1"], ["b", "2", "2", "1", "(50%)"]]
    assert coverage_table([("a", doc_of("张三"))]) == ""


def test_counts_of_tags_are_those_of_docs_that_cover_them():
    """Two halves of one corpus, each with one label, count as the corpus with both would."""
    whole = [doc_of("张三去京了", [(0, 2, "PER"), (3, 4, "LOC")])] * 2
    halves = [
        doc_of("张三去京了", [(0, 2, "PER")], ["PER"]),
        doc_of("张三去京了", [(3, 4, "LOC")], ["LOC"]),
    ]
    full, half = (
        count_tags([read_gold(Example(NLP.make_doc(doc.text), doc)) for doc in docs], TAGS)
        for docs in (whole, halves)
    )
    for name in ("start", "end", "pairs"):
        np.testing.assert_allclose(getattr(half, name), getattr(full, name))


class TestLabelMap:
    MAP = LabelMap.of({"PERSON": "PER", "GPE": "LOC"}, ["TITLE"], ["*"])

    def test_several_become_one_and_others_are_dropped_as_told(self):
        doc = doc_of(
            "张三总统在北京上海", [(0, 2, "PERSON"), (2, 4, "TITLE"), (5, 7, "GPE"), (7, 9, "X")]
        )
        self.MAP.apply_to_doc(doc)
        assert [(ent.start, ent.label_) for ent in doc.ents] == [(0, "PER"), (5, "LOC")]
        assert [token.ent_iob for token in doc] == [3, 1, 2, 2, 2, 3, 1, 0, 0]

    def test_the_command_does_the_same(self, tmp_path):
        (tmp_path / "a.jsonl").write_text(
            '{"text": "张三总统在北京上海", "label": '
            '[[0, 2, "PERSON"], [2, 4, "TITLE"], [5, 7, "GPE"], [7, 9, "X"]]}\n',
            encoding="utf8",
        )
        options = ["--map", "PERSON=PER,GPE=LOC", "--outside", "TITLE", "--unknown", "*"]
        cli("convert-corpus", tmp_path / "a.jsonl", tmp_path / "a.spacy", *options)
        (doc,) = read_docbin(tmp_path / "a.spacy", NLP.vocab)
        assert [(ent.start, ent.label_) for ent in doc.ents] == [(0, "PER"), (5, "LOC")]
        assert [token.ent_iob for token in doc] == [3, 1, 2, 2, 2, 3, 1, 0, 0]

    def test_a_label_is_covered_if_all_that_become_it_are(self):
        both = LabelMap.of({"GPE": "LOC", "FAC": "LOC", "PERSON": "PER"})
        assert both.covers(frozenset({"GPE", "PERSON"})) == {"PER"}
        assert both.covers(frozenset({"GPE", "FAC", "ORG"})) == {"LOC", "ORG"}
        assert both.covers(frozenset({"GPE", "FAC"}), ["LOC"]) == set()
        assert both.covers(None) is None

    def test_rest_spares_the_names_that_labels_get(self):
        assert [self.MAP.fate(label) for label in ("PER", "LOC", "OTHER", "TITLE", "GPE")] == [
            ("PER", False), ("LOC", False), ("", True), ("", False), ("LOC", False),
        ]  # fmt: skip

    @given(st.dictionaries(st.sampled_from("ABCD"), st.sampled_from("XYA"), max_size=4))
    def test_without_dropped_labels_no_entity_is_lost(self, names):
        doc = doc_of("张三在京", [(0, 1, "A"), (1, 2, "B"), (3, 4, "C")])
        LabelMap.of(names).apply_to_doc(doc)
        assert [ent.label_ for ent in doc.ents] == [names.get(old, old) for old in "ABC"]
        assert [token.ent_iob for token in doc] == [3, 3, 2, 3]

    @pytest.mark.parametrize(
        "wrong", [({"A": "B"}, ["A"], []), ({}, ["A"], ["A"]), ({"*": "A"}, [], []), ({"A": " "},)]
    )
    def test_a_map_that_contradicts_itself_is_refused(self, wrong):
        with pytest.raises(BertCrfError, match="label map"):
            LabelMap.of(*wrong)

    @pytest.mark.parametrize("wrong", ["PER", "A=", "=A", "A=B,A=C"])
    def test_a_bad_option_says_how_to_write_it(self, wrong, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"text": "a", "label": []}\n')
        text = cli(
            "convert-corpus", tmp_path / "a.jsonl", tmp_path / "a.spacy", "--map", wrong, code=1
        )
        assert "--map has" in text and "OLD=NEW" in text
