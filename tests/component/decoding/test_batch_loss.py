"""The loss of gold and teacher together, against enumeration of all paths."""

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import Span
from spacy.training import Example

from spacy_bert_crf.annotation.gold import allowed_tags, read_gold
from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.component.decoding.batch_loss import BatchLoss, Lessons
from spacy_bert_crf.component.decoding.chains import Chains
from spacy_bert_crf.component.settings import Settings
from spacy_bert_crf.model.crf_batches import Emissions
from support.crf import Enumeration, make

NLP = spacy.blank("zh")
#: Text, entities, and tokens whose annotation is not known; None without any gold.
TEXTS = [("张三在", [(0, 2)], []), ("在京", [], [1]), ("没有", None, []), ("京", [(0, 1)], [])]
TEXTS += [("在AB", [], [0, 1, 2]), ("", [], [])]


def golds_of(scheme):
    tags, golds, docs = TagSet(("X",), scheme), [], []
    for text, entities, unknown in TEXTS:
        reference, doc = NLP.make_doc(text), NLP.make_doc(text)
        if entities is not None:
            missing = [reference[i : i + 1] for i in unknown]
            reference.set_ents([Span(reference, a, b, "X") for a, b in entities], missing=missing)
        golds.append(read_gold(Example(doc, reference)))
        docs.append(doc)
    return tags, golds, docs


def chains_of(scheme, seed):
    crf = make(scheme, ("X",), seed=seed, dtype=torch.float32)
    return Chains(crf, TagSet(("X",), scheme), True, True)


def rows_of(docs, n_tags, seed):
    chance = np.random.default_rng(seed)
    return [chance.normal(size=(len(doc), n_tags)).astype(np.float32) for doc in docs]


def expected_of(teacher, rows, docs, temperature):
    return teacher.expected(rows, teacher.only_words(teacher.words(docs)), temperature)


def whole_paths(tag_set, chain, row, n, temperature):
    """Paths of a teacher, and their probabilities: legal, and with AB in one entity or outside."""
    found = Enumeration(chain.crf, torch.tensor(row), n, True, temperature=temperature)
    keep = [
        not any({start, end} & {2} for start, end, _ in tag_set.decode(path)) or n != 3
        for path in found.paths.tolist()
    ]
    log_p = found.log_p[keep] - torch.logsumexp(found.log_p[keep], 0)
    return found.paths[keep].tolist(), log_p.exp().tolist()


@pytest.mark.parametrize("scheme", ["BIO", "BIOES", "BMES", "BILUO"])
@pytest.mark.parametrize("constrain", [False, True])
@pytest.mark.parametrize(("gold_weight", "temperature"), [(0.0, 1.0), (0.3, 2.0), (1.0, 0.5)])
def test_equals_enumeration(scheme, constrain, gold_weight, temperature):
    tag_set, golds, docs = golds_of(scheme)
    # Words of Latin letters count for the teacher only: here gold's likelihood counts all paths.
    teacher, student = chains_of(scheme, 1), chains_of(scheme, 2)
    n_tags, teacher_weight = len(tag_set.tags), 0.7
    its, own = rows_of(docs, n_tags, 3), rows_of(docs, n_tags, 4)
    expected = expected_of(teacher, its, docs, temperature)
    lessons = Lessons(expected, gold_weight, teacher_weight, temperature)
    settings = Settings(scheme=scheme, constrain_training=constrain)
    loss = BatchLoss(student, student.gold(golds), settings, lessons)
    assert loss.members == [0, 1, 2, 3, 4]
    value, gradient = loss(own[:5], loss.members)

    want = 0.0
    for i in loss.members:
        n, rows = len(docs[i]), torch.tensor(own[i])
        student_paths = Enumeration(student.crf, rows, n, constrain)
        soft = Enumeration(student.crf, rows, n, constrain, temperature=temperature)
        log_p = {tuple(p): float(x) for p, x in zip(soft.paths.tolist(), soft.log_p, strict=True)}
        is_word = docs[i].text == "在AB"
        if is_word:
            paths, ps = whole_paths(tag_set, teacher, its[i], n, temperature)
        else:
            found = Enumeration(teacher.crf, torch.tensor(its[i]), n, True, None, temperature)
            paths, ps = found.paths.tolist(), found.log_p.exp().tolist()
        cross = -sum(p * log_p[tuple(path)] for path, p in zip(paths, ps, strict=True))
        want += teacher_weight * temperature**2 * cross
        allowed = torch.tensor(allowed_tags(golds[i], tag_set))
        is_gold = allowed[torch.arange(n), student_paths.paths].all(1)
        if not allowed.all():
            want -= gold_weight * float(torch.logsumexp(student_paths.log_p[is_gold], 0))
    assert float(value) == pytest.approx(want / 5, rel=1e-4)
    assert [g.shape for g in gradient] == [row.shape for row in own[:5]]


def test_gradients_are_those_of_the_loss():
    """Of emissions and of the CRF, by differences."""
    _, golds, docs = golds_of("BIOES")
    teacher, student = chains_of("BIOES", 1), chains_of("BIOES", 2)
    for chain in (teacher, student):
        chain.crf.double()
    its = [row.astype(np.float64) for row in rows_of(docs, 5, 3)]
    own = [row.astype(np.float64) for row in rows_of(docs, 5, 4)]
    lessons = Lessons(expected_of(teacher, its, docs, 2.0), 0.5, 0.5, 2.0)
    loss = BatchLoss(student, student.gold(golds), Settings(), lessons)
    joined = Emissions.of(own, torch.device("cpu"))

    def value(rows):
        return float(loss(Emissions(rows, joined.lengths).split(), list(range(len(docs))))[0])

    for param in student.crf.parameters():
        param.grad = None
    found = np.concatenate(loss(own, list(range(len(docs))))[1])
    of_crf = {name: p.grad.clone() for name, p in student.crf.named_parameters()}
    eps = 5e-3
    for i, k in [(0, 0), (1, 2), (4, 1), (6, 3), (9, 0)]:
        moved = [joined.rows.clone() for _ in range(2)]
        moved[0][i, k] += eps
        moved[1][i, k] -= eps
        want = (value(moved[0]) - value(moved[1])) / (2 * eps)
        # The loss comes as float32.
        assert found[i, k] == pytest.approx(want, abs=1e-3)
    for name, param in student.crf.named_parameters():
        at = (0,) * param.dim()
        sides = []
        for step in (eps, -eps):
            with torch.no_grad():
                param[at] += step
            sides.append(value(joined.rows))
            with torch.no_grad():
                param[at] -= step
        assert float(of_crf[name][at]) == pytest.approx((sides[0] - sides[1]) / (2 * eps), abs=1e-3)


def test_parts_of_a_batch_sum_to_the_whole():
    _, golds, docs = golds_of("BIO")
    teacher, student = chains_of("BIO", 1), chains_of("BIO", 2)
    its, own = rows_of(docs, 3, 3), rows_of(docs, 3, 4)
    lessons = Lessons(expected_of(teacher, its, docs, 1.0), 0.5, 0.5, 1.0)
    loss = BatchLoss(student, student.gold(golds), Settings(scheme="BIO"), lessons)
    whole, gradient = loss(own, list(range(6)))
    parts = [loss([own[i] for i in part], part) for part in ([4, 0], [1, 2, 5], [3])]
    assert float(sum(value for value, _ in parts)) == pytest.approx(float(whole), rel=1e-5)
    for part, (_, some) in zip(([4, 0], [1, 2, 5], [3]), parts, strict=True):
        for i, each in zip(part, some, strict=True):
            np.testing.assert_allclose(each, gradient[i], rtol=1e-4, atol=1e-6)


def test_without_a_teacher_only_docs_with_gold_train():
    _, golds, _ = golds_of("BIO")
    student = chains_of("BIO", 2)
    assert BatchLoss(student, student.gold(golds), Settings(scheme="BIO")).members == [0, 1, 3]
