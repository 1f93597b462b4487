"""Words of Latin letters and digits stay whole in everything that the component predicts."""

import warnings

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import Span

from spacy_bert_crf.component.factory import default_config
from spacy_bert_crf.model import crf_batches
from spacy_bert_crf.model.layers import head_of
from support.mixed import cut_words, mixed_texts
from support.predictions import make_random
from support.toys import emissions, entities, make_examples, own_config

SETTINGS = {"scores": True, "candidates": 0.05}
CUT = [
    ("阿里巴巴CEO张勇", [(5, 9, "PER"), (0, 4, "ORG")]),
    ("CEO在北京", [(0, 3, "PER"), (4, 6, "LOC")]),
    ("李四在NBA。", [(0, 2, "PER"), (3, 5, "ORG")]),
]


@pytest.fixture(scope="module", params=["BIO", "BIOES"])
def random_nlp(request, encoder_path):
    return make_random(encoder_path, request.param)


def decoded(nlp, texts, **settings):
    pipe = nlp.get_pipe("bert_crf")
    before = {name: getattr(pipe, name) for name in settings}
    for name, value in settings.items():
        setattr(pipe, name, value)
    docs = list(nlp.pipe(texts))
    for name, value in before.items():
        setattr(pipe, name, value)
    return docs


def test_no_word_of_generated_texts_is_cut(random_nlp):
    texts = mixed_texts(300)
    docs = decoded(random_nlp, texts)
    assert sum(len(doc.ents) for doc in docs) > 300
    assert not [word for doc in docs for word in cut_words(doc, entities(doc))]
    free = decoded(random_nlp, texts, whole_words=False)
    assert len([word for doc in free for word in cut_words(doc, entities(doc))]) > 50


def test_no_probability_and_no_alternative_cuts_one(random_nlp):
    pipe = random_nlp.get_pipe("bert_crf")
    docs = [random_nlp.make_doc(text) for text in mixed_texts(60, seed=1)]
    whole = [(0, len(doc), "PER") for doc in docs]
    readings = pipe.read(docs, candidates=0.01, requested=[[span] for span in whole])
    for doc, reading in zip(docs, readings, strict=True):
        found = [entity.span for entity in (*reading.entities, *reading.candidates)]
        assert not cut_words(doc, found)
        assert [span.span for span in reading.entities] == pipe.tag_set.decode(reading.tags)
    for doc, paths in zip(docs, pipe.nbest(docs, 4), strict=True):
        for path in paths:
            assert not cut_words(doc, [(ent.start, ent.end) for ent in path.entities])
    doc = random_nlp.make_doc("在NBA")
    (reading,) = pipe.read([doc], requested=[[(1, 3, "PER"), (1, 4, "PER"), (2, 4, "PER")]])
    assert [p > 0 for p in reading.requested] == [False, True, False]


def test_written_groups_keep_to_it(encoder_path):
    nlp = make_random(encoder_path, **SETTINGS)
    for doc in nlp.pipe(mixed_texts(60, seed=2)):
        for name in ("bert_crf", "bert_crf_candidates"):
            assert not cut_words(doc, [(span.start, span.end) for span in doc.spans[name]])


def test_switched_off_the_crf_decodes_freely(random_nlp):
    texts = mixed_texts(40, seed=3)
    pipe = random_nlp.get_pipe("bert_crf")
    want, _ = crf_batches.decode(pipe.crf, emissions(random_nlp, texts))
    pipe.whole_words = False
    found = pipe.predict([random_nlp.make_doc(text) for text in texts])
    pipe.whole_words = True
    for a, b in zip(found, want, strict=True):
        assert a.tolist() == b.tolist()


def test_texts_without_words_do_not_notice(random_nlp):
    texts = ["张三在北京。", "李四", "", "在 A 区", "1。2", "京" * 40]
    pipe = random_nlp.get_pipe("bert_crf")
    docs = [random_nlp.make_doc(text) for text in texts]
    with_it = pipe.predict(docs), pipe.read(docs, candidates=0.01)
    pipe.whole_words = False
    without = pipe.predict(docs), pipe.read(docs, candidates=0.01)
    pipe.whole_words = True
    for a, b in zip(with_it[0], without[0], strict=True):
        assert np.array_equal(a, b)
    for a, b in zip(with_it[1], without[1], strict=True):
        assert np.array_equal(a.tags, b.tags)
        assert (a.entities, a.candidates, a.entropy) == (b.entities, b.candidates, b.entropy)
        assert a.log_probability == b.log_probability


def test_without_constraints_it_has_no_effect(encoder_path):
    nlp = make_random(encoder_path, constraints=False)
    assert nlp.get_pipe("bert_crf").whole_words
    docs = decoded(nlp, mixed_texts(100, seed=4))
    assert [word for doc in docs for word in cut_words(doc, entities(doc))]


def test_entities_on_the_doc_may_cut_a_word(random_nlp):
    pipe = random_nlp.get_pipe("bert_crf")
    for seed in range(30):
        (text,) = mixed_texts(1, seed)
        doc = random_nlp.make_doc(f"在CEO{text}")
        doc.set_ents([Span(doc, 2, 4, label="PER")], default="missing")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            doc = pipe(doc)
        assert (2, 4, "PER") in entities(doc)
        assert not cut_words(doc, [span for span in entities(doc) if span != (2, 4, "PER")])


def test_old_pipelines_get_it_and_configs_have_it(encoder_path, tmp_path):
    assert default_config()["whole_words"] is True
    nlp = make_random(encoder_path)
    nlp.to_disk(tmp_path / "p")
    config = tmp_path / "p" / "config.cfg"
    text = config.read_text(encoding="utf8")
    assert "whole_words = true\n" in text
    config.write_text(text.replace("whole_words = true\n", ""), encoding="utf8")
    old = spacy.load(tmp_path / "p")
    assert old.get_pipe("bert_crf").whole_words
    (doc,) = old.pipe(["阿里巴巴CEO张勇"])
    assert entities(doc) == entities(nlp("阿里巴巴CEO张勇"))


# Training


def initialised(encoder_path, data, **settings):
    nlp = spacy.blank("zh")
    config = {**own_config(encoder_path, mixed_precision=False), **settings}
    nlp.add_pipe("bert_crf", config=config)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp.initialize(lambda: make_examples(nlp, data))
    return nlp, [str(w.message) for w in caught if "inside a word of Latin" in str(w.message)]


@pytest.mark.parametrize("constrain", [False, True])
def test_gold_that_cuts_a_word_is_counted_and_named(encoder_path, constrain):
    _, (message,) = initialised(encoder_path, CUT, constrain_training=constrain)
    assert "[bert_crf] 2 of 6 gold entities begin or end inside a word" in message
    assert "'EO张勇' (PER) at character 5" in message and "'NB' (ORG)" in message
    assert ("counts all paths" in message) == constrain


@pytest.mark.parametrize("settings", [{"whole_words": False}, {"constraints": False}])
def test_it_is_not_named_where_words_may_be_cut(encoder_path, settings):
    assert initialised(encoder_path, CUT, **settings)[1] == []
    assert initialised(encoder_path, CUT[1:2])[1] == []


@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_an_update_keeps_words_whole_where_gold_does(encoder_path, scheme):
    settings = {"scheme": scheme, "constrain_training": True, "transitions_from_counts": False}
    nlp, _ = initialised(encoder_path, CUT, **settings)
    pipe = nlp.get_pipe("bert_crf")
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in head_of(pipe.model).module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    examples = make_examples(nlp, CUT)
    scores = pipe.model.predict([example.predicted for example in examples])
    free, whole = [], []
    for example, rows in zip(examples, scores, strict=True):
        whole.append(pipe.get_loss([example], [rows])[0])
        pipe.whole_words = False
        free.append(pipe.get_loss([example], [rows])[0])
        pipe.whole_words = True
    assert [a < b for a, b in zip(whole, free, strict=True)] == [False, True, False]
    assert (whole[0], whole[2]) == (free[0], free[2])
    loss, _ = pipe.get_loss(examples, scores)
    assert loss == pytest.approx(np.mean(whole), rel=1e-5)
    losses = pipe.update(examples, sgd=False)
    assert losses["bert_crf"] == pytest.approx(loss, rel=1e-4)
    assert all(p.grad is not None for p in pipe.crf.parameters())
    pipe.constrain_training = False
    assert pipe.get_loss(examples, scores)[0] > loss
