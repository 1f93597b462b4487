"""What a teacher says of texts: its CRF's expectations, once for each text."""

import numpy as np
import pytest
import spacy
import torch
from spacy.training import Example

from spacy_bert_crf.component.decoding.batch_loss import Lessons
from spacy_bert_crf.training.distillation.settings import Distillation
from spacy_bert_crf.training.distillation.teacher import Teacher
from support.toys import TEXTS, entities, make_examples, randomise_head, train_toy


@pytest.fixture(scope="module")
def nlp(encoder_path):
    nlp = train_toy(encoder_path, updates=0)
    torch.manual_seed(6)
    randomise_head(nlp)
    return nlp


def teacher_of(nlp, **settings):
    return Teacher(nlp.get_pipe("bert_crf"), Distillation(**settings), False)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_expectations_are_those_of_decoding(nlp, temperature):
    """Of the CRF under its tag scheme; in a text with words, of paths that keep them whole."""
    docs = [nlp.make_doc(text) for text in [*(text for text, _ in TEXTS), ""]]
    found = teacher_of(nlp, temperature=temperature).expect(docs)
    crf, all_rows = nlp.get_pipe("bert_crf").crf, nlp.get_pipe("bert_crf").model.predict(docs)
    for doc, each, rows in zip(docs, found, all_rows, strict=True):
        assert each.tags.shape == (len(doc), crf.n_tags) and each.pairs.shape == (7, 7)
        if not len(doc):
            continue
        np.testing.assert_allclose(each.tags.sum(1), 1.0, atol=1e-5)
        assert each.pairs.sum() == pytest.approx(len(doc) - 1, rel=1e-5)
        np.testing.assert_allclose(each.pairs.sum(0), each.tags[1:].sum(0), atol=1e-4)
        np.testing.assert_allclose(each.pairs.sum(1), each.tags[:-1].sum(0), atol=1e-4)
        mask = torch.ones(1, len(doc), dtype=torch.bool)
        free = crf.marginals(torch.tensor(rows)[None], mask, temperature=temperature)[0].numpy()
        if "iphone" not in doc.text:
            np.testing.assert_allclose(each.tags, free, atol=1e-4)
            continue
        begins = [i for i, tag in enumerate(nlp.get_pipe("bert_crf").tag_set.tags) if tag[0] == "B"]
        inside = slice(doc.text.index("iphone") + 1, doc.text.index("iphone") + 6)
        assert not each.tags[inside][:, begins].any() and free[inside][:, begins].max() > 0.01


def test_docs_stay_as_they_are_and_their_entities_do_not_matter(nlp):
    (first, *_) = make_examples(nlp)
    plain, annotated = nlp.make_doc(first.text), first.reference.copy()
    a, b = teacher_of(nlp).expect([plain, annotated])
    np.testing.assert_allclose(a.tags, b.tags, atol=1e-6)
    assert entities(annotated) == entities(first.reference) and not plain.has_annotation("ENT_IOB")


def copied(examples):
    """As `nlp.update` hands examples to a component."""
    return [Example(eg.predicted.copy(), eg.reference) for eg in examples]


def test_each_text_is_read_once(nlp, monkeypatch):
    examples, teacher = make_examples(nlp), teacher_of(nlp, gold_weight=0.3)
    teacher.read(examples)
    want = teacher.expect([eg.predicted for eg in examples])

    def fail(docs):
        raise AssertionError("read again")

    monkeypatch.setattr(teacher, "expect", fail)
    order = [3, 0, 5]
    lessons = teacher(copied(examples[i] for i in order))
    assert isinstance(lessons, Lessons)
    assert (lessons.gold_weight, lessons.teacher_weight, lessons.temperature) == (0.3, 0.5, 1.0)
    for i, each in zip(order, lessons.expected, strict=True):
        np.testing.assert_array_equal(each.tags, want[i].tags)
        np.testing.assert_array_equal(each.pairs, want[i].pairs)


def test_what_memory_does_not_hold_is_read_with_each_batch(nlp, caplog):
    caplog.set_level("INFO", logger="spacy_bert_crf")
    examples = make_examples(nlp)
    full, empty = teacher_of(nlp), teacher_of(nlp, cache_mb=0)
    for teacher in (full, empty):
        teacher.read(examples)
    assert "keeps 0 of 8 texts in memory" in caplog.text
    for a, b in zip(full(copied(examples)).expected, empty(copied(examples)).expected, strict=True):
        np.testing.assert_allclose(a.tags, b.tags, atol=1e-5)
        np.testing.assert_allclose(a.pairs, b.pairs, atol=1e-5)


def test_it_reads_in_integers_only_where_its_setting_says_so(encoder_path):
    """Whatever the component itself predicts in."""
    exact, quick = train_toy(encoder_path), train_toy(encoder_path, quantize="int8")
    docs = [spacy.blank("zh")(text) for text, _ in TEXTS[:2]]
    want = teacher_of(exact).expect(docs)
    for a, b in zip(want, teacher_of(quick).expect(docs), strict=True):
        np.testing.assert_array_equal(a.tags, b.tags)
    rough = teacher_of(exact, teacher_quantize="int8").expect(docs)
    assert any((a.tags != b.tags).any() for a, b in zip(want, rough, strict=True))
    for a, b in zip(want, rough, strict=True):
        np.testing.assert_allclose(a.tags, b.tags, atol=0.3)


def test_a_student_under_constraints_learns_no_path_that_they_forbid(encoder_path):
    """From a teacher that decodes without them."""
    nlp = train_toy(encoder_path, updates=0, constraints=False)
    torch.manual_seed(6)
    randomise_head(nlp)
    pipe, doc = nlp.get_pipe("bert_crf"), nlp.make_doc("张三在北京")
    inside = [i for i, tag in enumerate(pipe.tag_set.tags) if tag[0] == "I"]
    (free,) = teacher_of(nlp).expect([doc])
    (legal,) = Teacher(pipe, Distillation(), True).expect([doc])
    assert free.tags[0, inside].max() > 0.01 and not legal.tags[0, inside].any()
