"""Texts with options of their own in one batch: each has the answer that it has alone."""

import random
from itertools import product

import pytest
import spacy

from spacy_bert_crf.component.decoding.dictionary import Dictionary, Name
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.model.optimizer import create_adamw
from spacy_bert_crf.serving.annotator import Annotator
from spacy_bert_crf.serving.options import FixedSpan, Options, Refused, TextTask
from support.toys import (
    TEXTS,
    characters,
    make_examples,
    shared_config,
    shared_pipeline,
    train_toy,
)

LONG = "".join(text for text, _ in TEXTS) * 3
PLAIN = [text for text, _ in TEXTS] + ["", " ", "iPhone 15 Pro在北京。", LONG]


@pytest.fixture(scope="module")
def annotator(unsure):
    return Annotator(unsure, "toy")


def spans(items):
    return [(each["start"], each["end"], each["label"]) for each in items]


def close(a, b):
    """Whether two answers are equal, except for rounding of probabilities."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return a == pytest.approx(b, abs=2e-5) if isinstance(a, float) else a == b


def test_without_options_the_entities_are_those_of_the_pipeline(annotator, unsure):
    answers = annotator.annotate([TextTask(text) for text in PLAIN])
    assert [spans(answer["entities"]) for answer in answers] == [
        characters(doc) for doc in unsure.pipe(PLAIN)
    ]
    assert any(answer["entities"] for answer in answers)
    assert all(answer.keys() == {"entities"} for answer in answers)


def test_all_options_in_one_batch_give_what_each_text_has_alone(annotator):
    fixed = {"": (), "one": (FixedSpan(0, 2, "ORG"),), "none": (FixedSpan(0, 3, None),)}
    every = [
        TextTask(text, Options(scores, candidates, threshold, nbest, labels), fixed[given])
        for text, scores, candidates, threshold, nbest, labels, given in product(
            PLAIN[:3], (None, True), (None, 0.05), (None, 0.4), (0, 3), (None, ("PER", "LOC"), ()),
            fixed,
        )
    ]  # fmt: skip
    tasks = random.Random(0).sample(every, 72)
    together = annotator.annotate(tasks)
    alone = [annotator.annotate([task])[0] for task in tasks]
    assert any(answer["entities"] for answer in alone)
    wrong = [t for t, a, b in zip(tasks, together, alone, strict=True) if not close(a, b)]
    assert not wrong


def test_probabilities_are_those_of_the_component(annotator, unsure):
    text = PLAIN[0]
    (answer,) = annotator.annotate([TextTask(text, Options(True, 0.05, nbest=4))])
    pipe, doc = unsure.get_pipe("bert_crf"), unsure.make_doc(text)
    (reading,) = pipe.read([doc], candidates=0.05)
    assert [each["probability"] for each in answer["entities"]] == pytest.approx(
        [each.probability for each in reading.entities], abs=1e-5
    )
    assert spans(answer["candidates"]) == [tuple(each.span) for each in reading.candidates]
    assert answer["entropy"] == pytest.approx(reading.entropy, abs=1e-4)
    assert answer["log_probability"] == pytest.approx(reading.log_probability, abs=1e-4)
    (readings,) = pipe.nbest([doc], 4)
    assert [each["probability"] for each in answer["readings"]] == pytest.approx(
        [each.probability for each in readings], abs=1e-5
    )
    assert [spans(each["entities"]) for each in answer["readings"]] == [
        [(e.start_char, e.end_char, e.label_) for e in each.entities] for each in readings
    ]


def test_threshold_leaves_out_less_probable_entities(annotator):
    text = PLAIN[0]
    (every,) = annotator.annotate([TextTask(text, Options(scores=True))])
    middle = sorted(each["probability"] for each in every["entities"])[-1]
    (found,) = annotator.annotate([TextTask(text, Options(True, threshold=middle - 1e-6))])
    kept = [each for each in every["entities"] if each["probability"] >= middle - 1e-6]
    assert len(kept) > 0 and spans(found["entities"]) == spans(kept)


def test_names_of_the_pipeline_and_of_the_request_take_part(unsure_path):
    pytest.importorskip("ahocorasick_rs")
    nlp = spacy.load(unsure_path)
    nlp.get_pipe("bert_crf").dictionary = Dictionary.of([("昨天", "ORG", "hard")])
    annotator, text = Annotator(nlp, "toy"), "王小明昨天在北京参观了清华大学。"
    own = TextTask(text, Options(scores=True))
    tried = TextTask(
        text, Options(names=(Name("参观", "LOC", "hard"), Name("昨天", "PER", "hard")))
    )
    never = TextTask(text, Options(names=(Name("昨天", "ORG", "not"),)))
    answers = annotator.annotate([own, tried, never, own])
    found = [spans(answer["entities"]) for answer in answers]
    assert found[0] == found[3] == characters(nlp(text)) and (3, 5, "ORG") in found[0]
    assert {(3, 5, "PER"), (8, 10, "LOC")} <= set(found[1])
    assert (3, 5, "ORG") not in found[2]
    (alone,) = annotator.annotate([tried])
    assert close(alone, answers[1])


@pytest.mark.parametrize("setting", [{}, {"overwrite": True}, {"constrain_to_ents": False}])
def test_fixed_entities_stay_whatever_the_settings(unsure_path, setting):
    nlp = spacy.load(unsure_path, config={"components": {"bert_crf": setting}})
    given = (FixedSpan(1, 6, "LOC"), FixedSpan(8, 10, "NEW"), FixedSpan(11, 15, None))
    (answer,) = Annotator(nlp, "toy").annotate([TextTask(PLAIN[0], Options(True), given)])
    fixed = [each for each in answer["entities"] if each.get("fixed")]
    assert spans(fixed) == [(1, 6, "LOC"), (8, 10, "NEW")]
    assert all("probability" not in each for each in fixed)
    others = [each for each in answer["entities"] if not each.get("fixed")]
    assert all(b <= 11 or a >= 15 for a, b, _ in spans(others))


def test_fixed_entities_change_the_rest_as_on_a_doc(annotator, unsure):
    text = PLAIN[0]
    for start in range(0, 10):
        doc = unsure.make_doc(text)
        doc.ents = [doc.char_span(start, start + 3, "ORG")]
        expected = characters(unsure(doc))
        task = TextTask(text, Options(), (FixedSpan(start, start + 3, "ORG"),))
        (answer,) = annotator.annotate([task])
        assert spans(answer["entities"]) == expected


def test_other_components_run_before_and_after(encoder_path):
    nlp = train_toy(encoder_path)
    ruler = nlp.add_pipe("entity_ruler", before="bert_crf")
    ruler.add_patterns([{"label": "THING", "pattern": "大雪"}])
    nlp.add_pipe("merge_entities")
    annotator = Annotator(nlp, "toy")
    text = TEXTS[2][0]
    (answer,) = annotator.annotate([TextTask(text, Options(True, candidates=0.01))])
    assert spans(answer["entities"]) == [*TEXTS[2][1], (10, 12, "THING")]
    *own, other = answer["entities"]
    assert all(each["probability"] > 0.5 for each in own) and other["probability"] is None
    # A given entity takes the place of one that the ruler finds.
    (answer,) = annotator.annotate([TextTask(text, Options(), (FixedSpan(11, 12, "NEW"),))])
    assert spans(answer["entities"])[-1] == (11, 12, "NEW")


def test_a_pipeline_without_the_component_annotates_and_takes_no_options():
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "CITY", "pattern": "Paris"}])
    annotator = Annotator(nlp, "rules")
    assert annotator.about.labels == ("CITY",) and not annotator.about.has_options
    (answer,) = annotator.annotate([TextTask("in Paris")])
    assert spans(answer["entities"]) == [(3, 8, "CITY")]
    with pytest.raises(Refused, match="no bert_crf component"):
        annotator.check(TextTask("in Paris", Options(scores=True)))


@pytest.mark.parametrize(
    ("task", "where", "message"),
    [
        (TextTask("王", Options(labels=("PER", "X", "Y"))), "labels", "unknown: X, Y"),
        (TextTask("王", Options(names=(Name("王", "X", "not"),))), "dictionary", "unknown: X"),
        (TextTask("王", Options(), (FixedSpan(0, 2, "PER"),)), "entities[0]", "number of char"),
        (TextTask("王", Options(), (FixedSpan(0, 0, "PER"),)), "entities[0]", "start < end"),
        (TextTask("王", Options(), (FixedSpan(-1, 1, "PER"),)), "entities[0]", "0 <= start"),
        (TextTask("王", Options(), (FixedSpan(0, 1, " "),)), "entities[0]", "label is empty"),
        (
            TextTask("王小明", Options(), (FixedSpan(1, 3, "PER"), FixedSpan(0, 2, "PER"))),
            "entities[0]", "overlaps another one, which ends at 2",
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_used_is_refused_with_its_place(annotator, task, where, message):
    with pytest.raises(Refused, match=message.replace("[", r"\[")) as caught:
        annotator.check(task)
    assert caught.value.where == where


def test_a_given_entity_inside_of_a_token_is_refused_and_others_are_answered(encoder_path):
    nlp = train_toy(encoder_path, lang="en", data=[("Anna saw Paris .", [(0, 4, "PER")])])
    tasks = [
        TextTask("Anna saw Paris ."),
        TextTask("Anna saw Paris .", Options(), (FixedSpan(1, 4, "PER"),)),
    ]
    good, refused = Annotator(nlp, "toy").annotate(tasks)
    assert spans(good["entities"]) == [(0, 4, "PER")]
    assert isinstance(refused, Refused) and refused.where == "entities[0]"
    assert "0 to 4 do" in str(refused)


def test_an_error_of_one_text_changes_no_other(encoder_path):
    nlp = train_toy(encoder_path)

    @spacy.Language.component("test_serving_fails")
    def fails(doc):
        if "天气" in doc.text:
            raise RuntimeError("bad weather")
        return doc

    nlp.add_pipe("test_serving_fails")
    answers = Annotator(nlp, "toy").annotate([TextTask(text) for text, _ in TEXTS])
    failed = [i for i, answer in enumerate(answers) if isinstance(answer, Exception)]
    assert failed == [5] and "bad weather" in str(answers[5])
    found = [spans(answer["entities"]) for i, answer in enumerate(answers) if i != 5]
    assert found == [gold for i, (_, gold) in enumerate(TEXTS) if i != 5]


def test_the_vocabulary_does_not_grow(encoder_path):
    nlp = train_toy(encoder_path, lang="en", data=[("Anna saw Paris .", [(0, 4, "PER")])])
    annotator = Annotator(nlp, "toy")
    annotator.annotate([TextTask("Anna saw Paris .")])
    before = len(nlp.vocab.strings)
    annotator.annotate([TextTask(f"Anna saw w{i}x{i}y .") for i in range(50)])
    assert len(nlp.vocab.strings) == before


def test_several_components_need_a_name(trained_path):
    nlp = spacy.load(trained_path)
    nlp.add_pipe("bert_crf", source=spacy.load(trained_path), name="second")
    with pytest.raises(BertCrfError, match="2 bert_crf components"):
        Annotator(nlp, "toy")
    (answer,) = Annotator(nlp, "toy", "second").annotate([TextTask(TEXTS[0][0], Options(True))])
    assert spans(answer["entities"]) == TEXTS[0][1]


def test_a_shared_transformer_is_read_once_for_all_options(encoder_path):
    nlp = shared_pipeline(encoder_path)
    nlp.add_pipe("bert_crf", config=shared_config())
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    optimizer = create_adamw(encoder_lr=5e-3, head_lr=2e-2, crf_lr=2e-2, warmup=0)
    for _ in range(30):
        nlp.update(examples, sgd=optimizer)
    texts = [text for text, _ in TEXTS]
    options = [Options(), Options(scores=True), Options(labels=("PER",)), Options(nbest=2)] * 2
    tasks = [TextTask(text, each) for text, each in zip(texts, options, strict=True)]
    answers = Annotator(nlp, "toy").annotate(tasks)
    expected = [characters(doc) for doc in nlp.pipe(texts)]
    assert [
        spans(answer["entities"])
        for answer, each in zip(answers, options, strict=True) if each.labels is None
    ] == [e for e, each in zip(expected, options, strict=True) if each.labels is None]  # fmt: skip
    assert any(expected) and len(answers[3]["readings"]) == 2
