"""Which texts are chosen: by exact scores, without repetition, within a budget."""

import math

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert_crf import select_texts
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.selection.diversity import choose, ngram_vectors
from spacy_bert_crf.evaluation.selection.pool import read_pool
from spacy_bert_crf.evaluation.selection.uncertainty import BY, PER, Figures
from support.predictions import SHORT, Truth, make_random
from support.toys import TEXTS

KNOWN = [text for text, _ in TEXTS]


@pytest.fixture(scope="module", params=["BIO", "BIOES free"])
def soft(request, encoder_path):
    scheme, _, free = request.param.partition(" ")
    return make_random(encoder_path, scheme, constraints=not free)


@pytest.fixture(scope="module")
def trained_nlp(trained_path):
    return spacy.load(trained_path)


def want_figures(pipe, doc):
    """The figures of a doc, by enumeration of all readings."""
    truth = Truth(pipe, doc)
    label_of = [label for _, label in pipe.tag_set.roles]
    log_p, best, spans = truth.paths[0]
    errors = tokens = 0.0
    for other, tags, found in truth.paths:
        errors += math.exp(other) * len(set(spans) ^ set(found))
        tokens += math.exp(other) * sum(
            label_of[a] != label_of[b] for a, b in zip(tags, best, strict=True)
        )
    return Figures(len(doc), truth.entropy, log_p, errors, tokens)


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("per", PER)
def test_scores_equal_enumeration(soft, by, per):
    pipe = soft.get_pipe("bert_crf")
    texts = [text for text in SHORT if text]
    pool = read_pool(soft, pipe, texts, by=by, per=per, size=10)
    assert len(pool.candidates) == len(texts)
    for found in pool.candidates:
        doc = soft.make_doc(found.text)
        want = want_figures(pipe, doc).score(by, per)
        assert found.score == pytest.approx(want, rel=1e-4, abs=1e-5)
    scores = [found.score for found in pool.candidates]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1] > 0


def test_what_length_does_to_a_score():
    figures = Figures(4, 2.0, math.log(0.0625), 1.0, 0.5)
    assert figures.score("entropy", "token") == 0.5 and figures.score("errors", "root") == 0.5
    assert figures.score("token-errors", "text") == 0.5
    assert figures.score("best-path", "text") == pytest.approx(1 - 0.0625)
    assert figures.score("best-path", "token") == pytest.approx(1 - 0.5)
    assert figures.score("best-path", "root") == pytest.approx(1 - 0.25)
    assert Figures(0, 0.0, 0.0, 0.0, 0.0).score() == 0


def test_known_texts_come_last(trained_nlp):
    new = ["张李四京城广州会开", "北华社上生", "南大学银行记者。"]
    found = select_texts(trained_nlp, [*KNOWN, *new], number=3, diversity=0)
    assert {each.text for each in found.chosen} == set(new)
    assert found.texts == len(KNOWN) + 3 and found.pool == found.texts
    assert [each.name for each in found.chosen] == [str(e.index + 1) for e in found.chosen]
    scores = [each.score for each in found.chosen]
    assert scores == sorted(scores, reverse=True)


def test_equal_empty_and_excluded_texts_are_left_out(trained_nlp):
    texts = [*KNOWN, KNOWN[0], f" {KNOWN[1]}\n", "", " ", ("long", "很" * 100_001)]
    found = select_texts(trained_nlp, texts, number=50, near=1.0, exclude=[KNOWN[2], "x"])
    assert sorted(e.text for e in found.chosen) == sorted({*KNOWN} - {KNOWN[2]})
    assert found.left_out == {
        "equal to another text": 2, "empty": 2, "excluded": 1,
        "longer than 100,000 characters": 1,
    }  # fmt: skip
    assert found.characters == sum(len(t if isinstance(t, str) else t[1]) for t in texts)


def test_the_pool_is_bounded_and_keeps_the_highest_scores(trained_nlp):
    pipe = trained_nlp.get_pipe("bert_crf")
    texts = [f"{a}{b}在京{a}" for a in "张李王新" for b in "北广南上中"]
    settings = {"by": "entropy", "per": "token"}
    whole = read_pool(trained_nlp, pipe, texts, size=100, **settings).candidates
    some = read_pool(trained_nlp, pipe, [*texts, *texts], size=7, **settings)
    assert [c.index for c in some.candidates] == [c.index for c in whole[:7]]
    assert some.texts == 40 and len(some.candidates) == 7


def test_a_text_that_the_pipeline_refuses_costs_no_other(trained_nlp):
    found = select_texts(trained_nlp, [KNOWN[0], "\ud800", KNOWN[1]], number=5)
    assert {e.text for e in found.chosen} == set(KNOWN[:2])
    assert found.left_out == {"not taken by the pipeline": 1}


def test_predictions_have_their_probabilities_and_doubts(soft):
    pipe = soft.get_pipe("bert_crf")
    texts = [text for text in SHORT if text.isalpha()]  # white space would be trimmed
    found = select_texts(soft, texts, number=3, uncertain=0.8)
    n_doubts = 0
    for each in found.chosen:
        doc = soft.make_doc(each.text)
        truth = Truth(pipe, doc)
        best = truth.paths[0][2]
        assert [e[:3] for e in each.predicted.entities] == [tuple(s) for s in best]
        for start, end, label, p in (*each.predicted.entities, *each.predicted.uncertain):
            assert p == pytest.approx(truth.entities[start, end, label], abs=1e-4)
        own = {tuple(e) for e in each.predicted.entities}
        doubts = {tuple(e) for e in each.predicted.uncertain}
        assert doubts & own == {e for e in own if e[3] < 0.8}
        others = {key for key, p in truth.entities.items() if p > 0.2001} - {e[:3] for e in own}
        assert others == {e[:3] for e in doubts - own}
        n_doubts += len(doubts)
        assert [each.text[a:b] for a, b in each.predicted.words] == [t.text for t in doc]
    assert n_doubts


# The choice


def test_texts_of_one_kind_are_not_chosen_together():
    kind = [f"据新华社北京{i}月{i}日电，国务院总理今天会见了外国客人。" for i in range(1, 9)]
    other = ["他在南京大学学习物理。", "公司的股票下跌了。", "足球比赛在广州举行。"]
    texts, scores = [*kind, *other], [1.0] * 8 + [0.4] * 3
    chosen = choose(texts, scores, number=4)
    assert chosen[0] == 0 and set(chosen[1:]) == {8, 9, 10}
    assert choose(texts, scores, number=4, diversity=0, near=1.0) == [0, 1, 2, 3]


def test_near_duplicates_are_chosen_once():
    texts = ["1998年1月3日，新华社北京电。", "1998年1月4日，新华社北京电。", "天气很好。"]
    assert choose(texts, [1.0, 1.0, 0.1]) == [0, 2]
    assert choose(texts, [1.0, 1.0, 0.1], near=1.0, diversity=0) == [0, 1, 2]
    assert choose(["a  B", "A b"], [1.0, 1.0]) == [0]


def test_a_budget_of_characters_is_kept():
    texts = ["一二三四五六七八九十", "甲乙丙丁戊", "子丑寅", "天地玄黄"]
    assert choose(texts, [4, 3, 2, 1], characters=13) == [0, 2]
    assert choose(texts, [4, 3, 2, 1], characters=12, number=1) == [0]
    assert choose(texts, [4, 3, 2, 1], characters=2) == []


@given(
    st.lists(st.tuples(st.text("abcd 中文字", max_size=12), st.floats(0, 1)), max_size=12),
    st.integers(1, 6), st.integers(0, 40), st.floats(0, 3), st.floats(0.1, 1),
)  # fmt: skip
def test_a_choice_keeps_to_its_bounds(pairs, number, characters, diversity, near):
    texts, scores = [t for t, _ in pairs], [s for _, s in pairs]
    chosen = choose(
        texts, scores, number=number, characters=characters, diversity=diversity, near=near
    )
    assert len(set(chosen)) == len(chosen) <= number
    assert sum(len(texts[i]) for i in chosen) <= characters
    if chosen:
        likeness = (ngram_vectors([texts[i] for i in chosen])).toarray()
        likeness = likeness @ likeness.T - np.eye(len(chosen))
        assert likeness.max() < near + 1e-9
        assert scores[chosen[0]] == max(s for t, s in pairs if len(t) <= characters)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"by": "luck"}, "use one of entropy"),
        ({"per": "page"}, "use one of token"),
        ({"number": 0}, "--number must be at least 1"),
        ({"characters": 0}, "--characters must be"),
        ({"pool": 0}, "--pool must be"),
        ({"diversity": -1}, "--diversity must be"),
        ({"diversity": math.nan}, "--diversity must be"),
        ({"near": 0}, "--near must be"),
        ({"uncertain": 0.3}, "--uncertain must be"),
        ({"component": "other"}, "no bert_crf component 'other'"),
        ({"characters": 2}, "no text fits into 2 characters"),
        ({"exclude": KNOWN}, "no text is left of 8"),
    ],
)
def test_bad_settings_are_refused(trained_nlp, settings, match):
    with pytest.raises(BertCrfError, match=match):
        select_texts(trained_nlp, KNOWN, **settings)


def test_nothing_to_choose_from_is_an_error(trained_nlp):
    with pytest.raises(BertCrfError, match="there is no text"):
        select_texts(trained_nlp, [])
