"""A pipeline over the texts of a shard, in this process."""

import pytest
import spacy
from spacy.language import Language

from spacy_bert_crf.bulk.annotator import Annotator, Found, plan, prepare
from spacy_bert_crf.errors import BertCrfError
from support import bulk
from support.toys import TEXTS


@pytest.fixture
def ruler(tmp_path):
    nlp = spacy.load(bulk.write_ruler(tmp_path / "ruler", "toy_faults"))
    prepare(nlp)
    return nlp


def test_each_text_is_read_once_the_longest_first():
    texts = ["bb", "", "a" * 20_000, "bb", "ccc", ""]
    runs = plan(texts)
    assert [index for _, run in runs for index in run] == [2, 4, 0, 1]
    assert runs[0] == (1, [2]) and all(size > 1 for size, _ in runs[1:])


def test_a_batch_is_never_too_large():
    texts = ["x" * (n % 3000) for n in range(0, 30_000, 7)]
    for size, run in plan(texts):
        longest = len(texts[run[0]])
        assert size == 1 or size * longest <= 16_384
        assert size <= 256


def test_entities_come_in_the_order_of_the_texts(ruler):
    texts = ["in Berlin", "Apple", "", "Apple in Berlin", "in Berlin"]
    found = [outcome.entities for outcome in Annotator(ruler).annotate(texts)]
    assert [[(e.start, e.end, e.label, e.text) for e in each] for each in found] == [
        [(3, 9, "LOC", "Berlin")],
        [(0, 5, "ORG", "Apple")],
        [],
        [(0, 5, "ORG", "Apple"), (9, 15, "LOC", "Berlin")],
        [(3, 9, "LOC", "Berlin")],
    ]


def test_equal_texts_are_computed_once(ruler):
    seen = []

    @Language.component("toy_counter")
    def count(doc):
        seen.append(doc.text)
        return doc

    ruler.add_pipe("toy_counter")
    Annotator(ruler).annotate(["Apple"] * 50 + ["Berlin"])
    assert sorted(seen) == ["Apple", "Berlin"]


def test_a_text_with_an_error_is_named_and_the_others_are_read(ruler):
    texts = [f"Apple {n}" for n in range(300)]
    for n in (5, 6, 299):
        texts[n] += f" {bulk.RAISES}"
    texts[100] = "x" * 1_000_001  # longer than spaCy takes
    reported = []
    outcomes = Annotator(ruler).annotate(texts, report=reported.append)
    wrong = {n: outcome for n, outcome in enumerate(outcomes) if isinstance(outcome, str)}
    assert list(wrong) == [5, 6, 100, 299]
    assert wrong[5] == "ValueError: raised as requested" and "E088" in wrong[100]
    assert all(len(o.entities) == 1 for o in outcomes if isinstance(o, Found))
    assert sorted(reported) == sorted(map(len, texts))


def test_a_thousand_errors_are_no_deep_stack(ruler):
    outcomes = Annotator(ruler).annotate([f"{bulk.RAISES} {n}" for n in range(1500)])
    assert set(outcomes) == {"ValueError: raised as requested"}


def test_an_excluded_text_is_not_read(ruler):
    texts = ["Apple", f"{bulk.RAISES}", "Apple"]
    outcomes = Annotator(ruler).annotate(texts, {0: "left out"}, one_by_one=True)
    assert outcomes == ["left out", "ValueError: raised as requested", "left out"]


def test_probabilities_come_with_the_entities(trained):
    texts = [text for text, _ in TEXTS]
    plain = Annotator(trained).annotate(texts)
    prepare(trained, scores=True)
    scored = Annotator(trained, scores=True).annotate(texts)
    pairs = [
        (e, s)
        for p, q in zip(plain, scored, strict=True)
        for e, s in zip(p.entities, q.entities, strict=True)
    ]
    assert pairs
    for without, with_score in pairs:
        assert without.probability is None and without[:4] == with_score[:4]
        assert 0 < with_score.probability <= 1


def test_int8_reaches_the_component(trained):
    prepare(trained, int8=True)
    assert trained.get_pipe("bert_crf").quantize == "int8"


@pytest.mark.parametrize("option", ["scores", "int8"])
def test_other_pipelines_have_no_probabilities(ruler, option):
    with pytest.raises(BertCrfError, match="need a component bert_crf.*entity_ruler"):
        prepare(ruler, **{option: True})
