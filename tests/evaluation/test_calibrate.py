"""Reliability of probabilities, the temperature, and the commands that give them."""

import json
import math
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import DocBin, Span

from spacy_bert_crf.annotation.docbin import read_docs
from spacy_bert_crf.annotation.gold import Gold
from spacy_bert_crf.component.score_map import ScoreMap
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.calibrate import Half, calibrate, outcomes, path_loss, store
from spacy_bert_crf.evaluation.evaluate import evaluate
from spacy_bert_crf.evaluation.figures import reliability_picture
from spacy_bert_crf.evaluation.reliability import best_temperature, reliability
from support.commands import cli
from support.predictions import DATA, SHORT, make_random
from support.toys import TEXTS, entities, make_examples


def test_expected_calibration_error_by_hand():
    pairs = [(0.95, True), (0.91, True), (0.99, False), (0.05, False), (0.1, True), (1.0, True)]
    found = reliability(pairs)
    # 0.95, 0.91, 0.99 and 1.0: mean 0.9625, three of four right. 0.05 alone, 0.1 alone.
    assert found.ece == pytest.approx((4 * abs(0.9625 - 0.75) + 0.05 + 0.9) / 6)
    assert found.brier == pytest.approx(np.mean([(p - y) ** 2 for p, y in pairs]))
    assert [b.count for b in found.bins] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 4]
    assert found.to_dict()["bins"][2] == {"low": 0.2, "high": 0.3, "count": 0}
    assert "0.3000 over 6" in found.table()


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40))
def test_reliability_of_anything(pairs):
    found = reliability(pairs)
    assert sum(b.count for b in found.bins) == found.count == len(pairs)
    assert 0 <= found.ece <= 1 and 0 <= found.brier <= 1
    for b in found.bins:
        assert not b.count or b.low - 1e-12 <= b.probability <= b.high + 1e-12  # means round
    ET.fromstring(reliability_picture(found, "a & b < c"))


def test_the_picture_shows_each_bin():
    drawn = reliability_picture(reliability([(0.95, True), (0.25, False), (0.22, True)]), "title")
    root = ET.fromstring(drawn)
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "title" in words and words.count("1") == words.count("2") == 1
    bars = [r.get("class") for r in root.iter("{http://www.w3.org/2000/svg}rect")]
    # Share and count of two bins, their distance from the probability, and the legend.
    assert bars.count("right") == 4 + 1 and bars.count("gap") == 2 + 1


@pytest.mark.parametrize("minimum", [0.06, 0.7, 1.0, 3.3, 15.0])
def test_the_search_finds_the_minimum(minimum):
    tried = []

    def loss(temperature):
        tried.append(temperature)
        return abs(math.log(temperature / minimum)) ** 1.5

    assert best_temperature(loss) == pytest.approx(minimum, rel=1e-3)
    assert len(tried) < 30


pairs_of_outcomes = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=400)


@given(pairs_of_outcomes, st.floats(0, 1), st.floats(0, 1))
def test_corrected_probabilities_keep_their_order(pairs, one, other):
    told = ScoreMap.fitted(pairs)
    assert told(0) == 0 and told(1) == 1 and 0 <= told(one) <= 1
    if one <= other:
        assert told(one) <= told(other)
    assert ScoreMap()(one) == one


@pytest.mark.parametrize("slope, offset", [(1.0, 0.0), (1.3, -0.5), (0.7, 0.4)])
def test_a_fitted_map_finds_what_probabilities_went_through(slope, offset):
    def bent(p):
        return 1 / (1 + np.exp(-slope * np.log(p / (1 - p)) - offset))

    rng = np.random.default_rng(0)
    told = rng.beta(3, 1, size=20_000)
    found = ScoreMap.fitted(
        zip(told.tolist(), (rng.random(20_000) < bent(told)).tolist(), strict=True)
    )
    for p in (0.3, 0.5, 0.7, 0.9, 0.97):
        assert found(p) == pytest.approx(bent(p), abs=0.04)


def test_isotonic_regression_of_blocks_equals_that_by_hand():
    # Two blocks: 50 at 0.4 of which 30 are right, 50 at 0.8 of which 40 are; each held by 10.
    pairs = [(0.4, i < 30) for i in range(50)] + [(0.8, i < 40) for i in range(50)]
    found = ScoreMap.fitted(pairs)
    assert found.predicted == (0.0, 0.4, 0.8, 1.0)
    assert found.corrected == pytest.approx((0.0, 34 / 60, 48 / 60, 1.0), abs=1e-6)
    # Rates that fall are pooled: 70 of 100, at 0.6 in the mean, held by 10.
    falling = [(0.4, i < 40) for i in range(50)] + [(0.8, i < 30) for i in range(50)]
    assert ScoreMap.fitted(falling).predicted == (0.0, 0.6, 1.0)
    assert ScoreMap.fitted(falling).corrected[1] == pytest.approx(76 / 110, abs=1e-6)


def test_a_map_of_little_is_close_to_none():
    assert ScoreMap.fitted([]) == ScoreMap()
    assert 0.75 < ScoreMap.fitted([(0.9, False)])(0.9) < 0.9
    always = ScoreMap.fitted([(0.9, True), (0.2, True), (1.0, True), (0.0, False)] * 50)
    assert 0.2 < always(0.2) <= always(0.9)
    assert ScoreMap.fitted([(1.0, True)] * 500) == ScoreMap()
    assert ScoreMap.fitted([(0.0, False)] * 500) == ScoreMap()


@pytest.mark.parametrize(
    "predicted, corrected",
    [((0, 0.5, 1), (0, 1)), ((0, 0.5, 0.5, 1), (0, 0.2, 0.3, 1)), ((0, 1), (0, 0.9)), ((), ())],
)
def test_points_that_do_not_rise_from_0_to_1_are_refused(predicted, corrected):
    with pytest.raises(ValueError, match="points"):
        ScoreMap(predicted, corrected)


def test_the_map_is_told_and_goes_with_its_temperature(encoder_path, tmp_path):
    nlp = make_random(encoder_path)
    pipe = nlp.get_pipe("bert_crf")
    pipe.scores = True
    texts = SHORT[:4]

    def told(nlp):
        return [s for doc in nlp.pipe(texts) for s in doc.spans["bert_crf"].attrs["scores"]]

    plain = told(nlp)
    pipe.cfg["score_map"] = {"told": [0, 0.5, 1], "right": [0, 0.3, 1]}
    want = [pipe.score_map(p) for p in plain]
    assert plain and told(nlp) == pytest.approx(want)
    nlp.to_disk(tmp_path / "p")
    again = spacy.load(tmp_path / "p", config={"components": {"bert_crf": {"scores": True}}})
    assert told(again) == pytest.approx(want)
    changed = spacy.load(tmp_path / "p", config={"components": {"bert_crf": {"temperature": 1.2}}})
    assert changed.get_pipe("bert_crf").score_map == ScoreMap()
    again.get_pipe("bert_crf").temperature = 1.0
    assert told(again) == pytest.approx(plain)


@pytest.mark.parametrize("points", [[1.5, -1.0], {"told": [0, 1]}, {"told": [0], "right": [1]}])
def test_a_damaged_map_is_refused_at_load(encoder_path, tmp_path, points):
    nlp = make_random(encoder_path)
    nlp.get_pipe("bert_crf").cfg["score_map"] = points
    nlp.to_disk(tmp_path / "p")
    with pytest.raises(BertCrfError, match=r"\[bert_crf\] score_map in the cfg is damaged"):
        spacy.load(tmp_path / "p")


def half_of(nlp, texts, spans):
    docs = [nlp.make_doc(text) for text in texts]
    golds = [
        Gold(own, np.ones(len(doc), dtype=bool), []) for doc, own in zip(docs, spans, strict=True)
    ]
    pipe = nlp.get_pipe("bert_crf")
    return Half(pipe.model.predict(docs), golds, pipe.chains.words(docs))


def test_loss_and_outcomes_equal_enumeration(encoder_path):
    from support.predictions import Truth

    nlp = make_random(encoder_path)
    pipe = nlp.get_pipe("bert_crf")
    texts = SHORT[:4]
    spans = [[(0, 2, "PER")], [], [(0, 1, "LOC"), (1, 2, "LOC")], []]
    half = half_of(nlp, texts, spans)
    for temperature in (0.8, 3.0):
        want, pairs = [], []
        for text, gold in zip(texts, spans, strict=True):
            truth = Truth(pipe, nlp.make_doc(text), temperature)
            want += [-log_p for log_p, _, found in truth.paths if found == gold]
            pairs += [(truth.entities[tuple(s)], tuple(s) in gold) for s in truth.paths[0][2]]
        assert path_loss(pipe, half, temperature) == pytest.approx(np.mean(want), rel=1e-5)
        got = outcomes(pipe, half, temperature)
        assert [right for _, right in got] == [right for _, right in pairs]
        assert [p for p, _ in got] == pytest.approx([p for p, _ in pairs], rel=1e-4)
    half.golds[0].known[:] = False
    assert len(outcomes(pipe, half, 1.0)) == len(pairs) - len(
        pipe.read([nlp.make_doc(texts[0])])[0].entities
    )


@pytest.fixture
def drawn(encoder_path, tmp_path):
    """A pipeline that is too sure of itself, and a corpus of which it knows the distribution: its
    own readings, drawn by their probability at temperature 2."""
    nlp = make_random(encoder_path)
    pipe = nlp.get_pipe("bert_crf")
    pipe.temperature = 2.0
    texts = [a + b for a in SHORT[:4] for b in SHORT[:4]]
    rng = np.random.default_rng(0)
    docs = []
    for text, paths in zip(
        texts, pipe.nbest([nlp.make_doc(text) for text in texts], 4000), strict=True
    ):
        p = np.array([probability for _, probability in paths])
        for choice in rng.choice(len(p), size=20, p=p / p.sum()):
            doc = nlp.make_doc(text)
            doc.ents = [Span(doc, e.start, e.end, label=e.label_) for e in paths[choice].entities]
            docs.append(doc)
    rng.shuffle(docs)
    pipe.temperature = 1.0
    nlp.to_disk(tmp_path / "p")
    DocBin(docs=docs).to_disk(tmp_path / "d.spacy")
    return tmp_path


def fit(folder, **settings):
    nlp = spacy.load(folder / "p")
    return calibrate(nlp, read_docs(folder / "d.spacy", nlp), **settings)


def test_a_temperature_that_the_reader_of_files_rounds(drawn, monkeypatch):
    monkeypatch.setattr("spacy_bert_crf.evaluation.calibrate.best_temperature", lambda _: 2.5925)
    found = fit(drawn)
    assert found.temperature == pytest.approx(2.5925, rel=1e-15)
    store(found, drawn / "p", drawn / "copy")
    assert spacy.load(drawn / "copy").get_pipe("bert_crf").temperature == found.temperature


def test_calibrate_finds_the_temperature_of_the_corpus(drawn):
    weights = (drawn / "p" / "bert_crf" / "model").read_bytes()
    found = fit(drawn)
    store(found, drawn / "p", drawn / "copy")
    assert found.temperature == pytest.approx(2.0, rel=0.1) and found.old == 1.0
    assert found.after.ece < found.before.ece and found.after.brier < found.before.brier
    assert spacy.load(drawn / "p").get_pipe("bert_crf").temperature == 1.0
    assert spacy.load(drawn / "copy").get_pipe("bert_crf").temperature == found.temperature
    assert (drawn / "copy" / "bert_crf" / "model").read_bytes() == weights
    text = cli("calibrate", drawn / "p", drawn / "d.spacy")
    assert f"stored temperature {found.temperature:g} in {drawn / 'p'}" in text
    assert text.count("expected calibration error") == 3
    nlp = spacy.load(drawn / "p")
    assert nlp.get_pipe("bert_crf").temperature == found.temperature
    stored = nlp.get_pipe("bert_crf").score_map
    assert stored.predicted == pytest.approx(found.score_map.predicted, abs=1e-9)
    assert stored.corrected == pytest.approx(found.score_map.corrected, abs=1e-9)
    assert set(nlp.get_pipe("bert_crf").cfg["score_map"]) == {"told", "right"}
    assert (drawn / "p" / "bert_crf" / "model").read_bytes() == weights
    # Fitted again: the same, and measured against what it has now.
    again = fit(drawn)
    assert (again.old, again.temperature) == (found.temperature, found.temperature)
    assert again.after == found.after and again.halves == found.halves
    assert again.before.ece < found.before.ece
    assert found.after.count == found.before.count == sum(half.count for half in found.each)
    assert found.halves == pytest.approx((2.0, 2.0), rel=0.15)
    assert sorted(p.name for p in drawn.iterdir()) == ["copy", "d.spacy", "p"]


def test_calibrate_refuses_what_it_can_not_do(drawn, tmp_path, trained):
    def refused(*words):
        before = sorted(tmp_path.rglob("*"))
        cfg = (tmp_path / "p" / "bert_crf" / "cfg").read_bytes()
        text = cli("calibrate", *words, code=1)
        assert sorted(tmp_path.rglob("*")) == before
        assert (tmp_path / "p" / "bert_crf" / "cfg").read_bytes() == cfg
        return text

    pipeline = tmp_path / "p"
    DocBin(docs=[trained.make_doc("张三")]).to_disk(tmp_path / "none.spacy")
    assert "entity annotation" in refused(pipeline, tmp_path / "none.spacy")
    doc = trained.make_doc("张三")
    doc.ents = [Span(doc, 0, 2, label="PER")]
    DocBin(docs=[doc]).to_disk(tmp_path / "one.spacy")
    assert "too few" in refused(pipeline, tmp_path / "one.spacy")
    assert "no corpus" in refused(pipeline, tmp_path / "no.spacy")
    assert "no pipeline folder" in refused(tmp_path / "q", tmp_path / "d.spacy")
    (tmp_path / "x").mkdir()
    assert "no pipeline folder" in refused(pipeline, tmp_path / "d.spacy", "-o", tmp_path / "x")
    with pytest.raises(BertCrfError, match="no bert_crf component 'y'"):
        fit(tmp_path, component="y")


def test_evaluate_tells_reliability(drawn):
    files = {"--picture": drawn / "r.svg", "--dev": drawn / "d.spacy", "--output": drawn / "m.json"}
    options = [word for pair in files.items() for word in pair]
    text = cli("evaluate", drawn / "p", drawn / "d.spacy", *options)
    metrics = json.loads((drawn / "m.json").read_text(encoding="utf8"))
    assert text.count(f"error {metrics['reliability']['ece']:.4f}") == 2
    told = metrics["reliability"]
    assert told == metrics["dev"]["reliability"] and 0.02 < told["ece"] < 1
    nlp = spacy.load(drawn / "p")
    nlp.get_pipe("bert_crf").scores = True
    pairs = []
    for doc in DocBin().from_disk(drawn / "d.spacy").get_docs(nlp.vocab):
        pairs += [
            (e._.score, (e.start, e.end, e.label_) in entities(doc)) for e in nlp(doc.text).ents
        ]
    want = reliability(pairs).to_dict()
    assert told["entities"] == want["entities"] == sum(b["count"] for b in told["bins"])
    assert told["ece"] == pytest.approx(want["ece"], abs=1e-4)
    assert f"{told['ece']:.4f}" in (drawn / "r.svg").read_text(encoding="utf8")
    text = cli("evaluate", drawn / "p", drawn / "d.spacy", "--picture", drawn / "r.png", code=1)
    assert "must be an .svg" in text and not (drawn / "r.png").exists()


def test_fixed_entities_have_no_part_in_reliability(encoder_path):
    nlp = make_random(encoder_path)
    ruler = nlp.add_pipe("entity_ruler", before="bert_crf")
    ruler.add_patterns([{"label": "PER", "pattern": "张三"}])
    docs = [eg.reference for eg in make_examples(nlp, DATA)]
    assert not nlp.get_pipe("bert_crf").scores
    found = evaluate(nlp, docs).reliability
    assert not nlp.get_pipe("bert_crf").scores  # as it was
    predicted = nlp(DATA[0][0])
    assert found.count == len(predicted.ents) - 1


def find(nlp, docs, tmp_path, *options):
    nlp.to_disk(tmp_path / "p")
    DocBin(docs=docs).to_disk(tmp_path / "d.spacy")
    words = ["find-errors", tmp_path / "p", tmp_path / "d.spacy", "--output", tmp_path / "e.json"]
    text = cli(*words, *options)
    return text, json.loads((tmp_path / "e.json").read_text(encoding="utf8"))


def test_find_errors_finds_what_was_broken(trained, tmp_path):
    docs = [example.reference for example in make_examples(trained)]
    docs[0].ents = [e for e in docs[0].ents if e.text != "北京"]  # forgotten
    docs[6].ents = [Span(docs[6], 0, 4, label="PER"), docs[6].ents[1]]  # another label
    docs[4].ents = [Span(docs[4], 0, 1, label="PER"), *docs[4].ents[1:]]  # cut short
    unknown = trained.make_doc("张三")
    odd = trained.make_doc("没有人")
    odd.ents = [Span(odd, 0, 1, label="ODD")]
    text, found = find(trained, [unknown, *docs, odd], tmp_path, "--top", 2)
    assert {(row["doc"], row["text"], row["label"]) for row in found["gold"]} == {
        (7, "中国银行", "PER"),
        (5, "张", "PER"),
    }
    for row in found["gold"]:
        assert row["probability"] < 0.2
        (read,) = row["reading"]
        assert (read["text"], read["label"]) in {("中国银行", "ORG"), ("张三", "PER")}
        assert read["probability"] > 0.5
    (row,) = [row for row in found["missing"] if row["doc"] == 1]
    assert row["text"] == TEXTS[0][0][row["start"] : row["end"]] == "北京"
    assert (row["label"], row["start"], row["before"][-1]) == ("LOC", 6, "在")
    assert found["docs"] == 9 and found["gold_entities_not_read"] == 1
    assert (
        "read as: 中国银行 ORG" in text and "[北京]" in text and "1 of them can't be read" in text
    )
    _, every = find(trained, docs, tmp_path, "--top", 0)
    assert len(every["gold"]) == every["gold_entities"] == sum(len(doc.ents) for doc in docs)
    ranked = [row["probability"] for row in every["gold"]]
    assert ranked == sorted(ranked)


def test_probabilities_of_find_errors_equal_enumeration(encoder_path, tmp_path):
    from support.predictions import Truth

    nlp = make_random(encoder_path)
    pipe = nlp.get_pipe("bert_crf")
    pipe.temperature = 1.5
    docs = [nlp.make_doc(text) for text in SHORT[:3]]
    for doc in docs:
        doc.ents = [Span(doc, 1, 3, label="LOC")]
    _, found = find(nlp, docs, tmp_path)
    assert len(found["gold"]) == 3
    for row in found["gold"] + found["missing"]:
        truth = Truth(pipe, nlp.make_doc(SHORT[row["doc"]]), 1.5)
        span = (row["start"], row["end"], row["label"])  # a token is a character
        assert row["probability"] == pytest.approx(truth.entities[span], rel=1e-4)
        for read in row["reading"]:
            span = (read["start"], read["end"], read["label"])
            assert read["probability"] == pytest.approx(truth.entities[span], rel=1e-4)


def test_another_temperature_drops_the_correction_with_a_warning(drawn):
    store(fit(drawn), drawn / "p", drawn / "p")
    pipe = spacy.load(drawn / "p").get_pipe("bert_crf")
    assert "score_map" in pipe.cfg
    with pytest.warns(UserWarning, match="Calibrate again"):
        pipe.temperature = 3.0
    assert "score_map" not in pipe.cfg
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe.temperature = 2.0


def test_nbest_command(trained_path, tmp_path):
    texts = [TEXTS[0][0], "", "张三"]
    (tmp_path / "t.txt").write_bytes("\r\n".join(texts).encode("utf8"))
    cli("nbest", trained_path, tmp_path / "t.txt", "-k", 3, "--output", tmp_path / "o.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text("utf8").splitlines()]
    assert [row["text"] for row in rows] == texts
    assert rows[1]["readings"] == [{"probability": 1.0, "entities": []}]
    nlp = spacy.load(trained_path)
    for row in rows:
        ((*want,),) = nlp.get_pipe("bert_crf").nbest([nlp.make_doc(row["text"])], 3)
        for reading, alternative in zip(row["readings"], want, strict=True):
            assert reading["probability"] == pytest.approx(alternative.probability, abs=1e-5)
            spans = [(e["start"], e["end"], e["label"], e["text"]) for e in reading["entities"]]
            assert spans == [
                (e.start_char, e.end_char, e.label_, e.text) for e in alternative.entities
            ]
    best = [(e["text"], e["label"]) for e in rows[0]["readings"][0]["entities"]]
    assert best == [("王小明", "PER"), ("北京", "LOC"), ("清华大学", "ORG")]


def test_nbest_from_stdin_and_bad_input(trained_path, tmp_path):
    from typer.testing import CliRunner

    from spacy_bert_crf.cli import cli as app

    done = CliRunner().invoke(app, ["nbest", str(trained_path), "-k", "2"], input="张三\n李四\n")
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == ["张三", "李四"]
    assert all(len(row["readings"]) == 2 for row in rows)
    (tmp_path / "t.txt").write_bytes(b"ab\n\xff\n")
    words = ["nbest", trained_path, tmp_path / "t.txt", "-o", tmp_path / "o.jsonl"]
    assert "t.txt:2 is not UTF-8" in cli(*words, code=1)
    assert "no file" in cli("nbest", trained_path, tmp_path / "none.txt", code=1)
    assert "no pipeline" in cli("nbest", tmp_path / "none", tmp_path / "t.txt", code=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.txt"]


def test_docs_have_passed_the_pipes_before_and_no_other(encoder_path):
    from spacy_bert_crf.component.pipelines import docs_before
    from spacy_bert_crf.evaluation.gold_docs import gold_docs
    from support.toys import shared_config, shared_pipeline

    nlp = shared_pipeline(encoder_path)
    # Random scores: before it is trained, one that starts from counts finds nothing.
    config = {**shared_config(), "transitions_from_counts": False}
    pipe = nlp.add_pipe("bert_crf", config=config)
    nlp.initialize(lambda: make_examples(nlp))
    nlp.add_pipe("sentencizer")
    texts = [text for text, _ in TEXTS]
    pipe.scores = True
    want = [[(*entity, ent._.score) for entity, ent in zip(entities(doc), doc.ents, strict=True)]
            for doc in nlp.pipe(texts)]  # fmt: skip
    docs = docs_before(nlp, "bert_crf", texts)
    assert not any(doc.has_annotation("SENT_START") or doc.ents for doc in docs)
    assert nlp.pipe_names == ["transformer", "bert_crf", "sentencizer"]
    got = [[tuple(entity) for entity in reading.entities] for reading in pipe.read(docs)]
    assert got == [[(a, b, c, pytest.approx(p, rel=1e-4)) for a, b, c, p in row] for row in want]
    assert any(want)
    # Of gold docs, those without annotation are left out, and numbers stay those of the corpus.
    annotated = [eg.reference for eg in make_examples(nlp)]
    (batch,) = gold_docs(nlp, "bert_crf", [nlp.make_doc("张三"), nlp.make_doc(""), *annotated])
    assert [item.number for item in batch] == list(range(2, len(annotated) + 2))
    assert [item.gold.spans for item in batch] == [entities(doc) for doc in annotated]
