"""Parts of the accuracy benchmarks that run without their peer."""

import numpy as np
import pytest
import spacy
from spacy.training import Example

from benchmarks.accuracy.coverage import divide
from benchmarks.accuracy.partial import reduce
from benchmarks.accuracy.peer import read, score_found, spelling
from spacy_bert_crf.annotation.coverage.covers import covers_of
from spacy_bert_crf.annotation.gold import allowed_tags, read_gold
from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.model.optimizer import create_adamw
from support.toys import TEXTS, entities, make_examples, own_config


@pytest.mark.parametrize(
    ("scheme", "want"), [("BIO", "BIIB"), ("BMES", "BMES"), ("BIOES", "BIES"), ("BILUO", "BILU")]
)
def test_spelling_is_the_schemes(scheme, want):
    assert "".join(spelling(scheme)) == want


def test_tags_of_the_peer_are_read_leniently_and_scored_on_whole_texts():
    tags = TagSet(("ORG", "PER.NOM"), "BMES")
    ids = {tag: i for i, tag in enumerate(tags.tags)}
    names = ["S-ORG", "M-PER.NOM", "E-PER.NOM", "O", "B-ORG", "M-ORG"]
    places = [[0, 1], [1, 4], [5, 6], [6, 7], [7, 8], [8, 9]]
    found = [places, [ids[name] for name in names]]
    assert read(found, tags) == [(0, 1, "ORG"), (1, 6, "PER.NOM"), (7, 9, "ORG")]
    assert read(None, tags) == []
    nlp = spacy.blank("zh")
    gold = [nlp.make_doc("一二三四 六七八九十"), nlp.make_doc("没读到")]
    gold[0].ents = [gold[0].char_span(1, 6, "PER.NOM"), gold[0].char_span(9, 10, "ORG")]
    gold[1].ents = [gold[1].char_span(0, 2, "ORG")]
    scores = score_found([found, None], gold, tags)
    assert (scores.entities.right, scores.entities.predicted, scores.entities.gold) == (1, 3, 3)


def test_each_part_has_one_label_and_says_so_or_not():
    said, silent = ([eg.reference for eg in make_examples(spacy.blank("zh"))] for _ in range(2))
    divide(said, ["LOC", "ORG", "PER"], True, 0)
    divide(silent, ["LOC", "ORG", "PER"], False, 0)
    covered = [covers_of(doc) for doc in said]
    assert sorted(len(labels & {"LOC"}) for labels in covered) == [0] * 5 + [1] * 3
    for doc, other, labels, (_, spans) in zip(said, silent, covered, TEXTS, strict=True):
        assert entities(doc) == entities(other) == [s for s in spans if {s[2]} == labels]
        assert covers_of(other) is None and doc.has_annotation("ENT_IOB")


def reduced(default, share=0.5, kept=0.5, seed=3):
    docs = [eg.reference for eg in make_examples(spacy.blank("zh"))]
    return docs, reduce(docs, default, share, kept, seed)


def test_the_same_entities_stay_missing_or_outside_around_them():
    nlp = spacy.blank("zh")
    tags = TagSet(("LOC", "ORG", "PER"))
    before = [eg.reference for eg in make_examples(nlp)]
    (partial, count), (naive, _) = reduced("missing"), reduced("outside")
    assert count == len(TEXTS) // 2
    assert [entities(doc) for doc in partial] == [entities(doc) for doc in naive]
    changed = 0
    for old, unknown, outside in zip(before, partial, naive, strict=True):
        assert set(entities(unknown)) <= set(entities(old))
        rows = allowed_tags(read_gold(Example(nlp.make_doc(old.text), unknown)), tags)
        inside = np.zeros(len(old), dtype=bool)
        for ent in unknown.ents:
            inside[ent.start : ent.end] = True
        free = any(token.ent_iob == 0 for token in unknown)
        changed += free
        if free:  # all tags but, after an entity, those that would prolong it
            assert (rows[inside].sum(1) == 1).all() and (rows[~inside].sum(1) > 3).all()
        rows = allowed_tags(read_gold(Example(nlp.make_doc(old.text), outside)), tags)
        assert (rows.sum(1) == 1).all()
    assert changed == count
    kept = sum(len(doc.ents) for doc in partial)
    assert 0 < kept < sum(len(doc.ents) for doc in before)


@pytest.mark.parametrize(("default", "right"), [("missing", True), ("outside", False)])
def test_what_is_missing_is_not_learned_as_outside(encoder_path, default, right):
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("bert_crf", config=own_config(encoder_path))
    full = make_examples(nlp)
    others = [eg.reference for _ in range(3) for eg in make_examples(nlp)]
    reduce(others, default, share=1.0, kept=0.0, seed=0)
    examples = full + [Example(nlp.make_doc(doc.text), doc) for doc in others]
    nlp.initialize(lambda: examples)
    optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    for _ in range(30):
        nlp.update(examples, sgd=optimizer)
    found = nlp.evaluate(make_examples(nlp))["ents_r"]
    assert (found > 0.9) if right else (found < 0.5)
