"""What the component writes to docs, and the settings of it."""

import pickle
import subprocess
import sys
import warnings
from collections import defaultdict

import numpy as np
import pytest
import spacy
from spacy.cli.find_threshold import find_threshold
from spacy.tokens import Doc, DocBin, Span

from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.component.doc_entities import set_entities, set_tags, span_score
from spacy_bert_crf.component.pipelines import load_pipeline
from spacy_bert_crf.errors import BertCrfError
from support.predictions import SHORT, make_random
from support.toys import TEXTS, entities, make_examples

NAMES = ("bert_crf_log_probability", "bert_crf_entropy")


@pytest.fixture
def scored(encoder_path):
    """A pipeline of random weights that tells all it can."""
    return make_random(encoder_path, scores=True, candidates=0.02)


def group(doc, name="bert_crf"):
    spans = doc.spans[name]
    scores = [pytest.approx(p, rel=1e-6) for p in spans.attrs["scores"].tolist()]
    return [(s.start, s.end, s.label_, p) for s, p in zip(spans, scores, strict=True)]


def everything(doc):
    figures = [doc._.get(name) for name in NAMES]
    return entities(doc), group(doc), group(doc, "bert_crf_candidates"), figures


def test_groups_figures_and_the_extension(scored):
    pipe = scored.get_pipe("bert_crf")
    for text in SHORT:
        doc = scored(text)
        (reading,) = pipe.read([scored.make_doc(text)], candidates=0.02)
        assert doc._.bert_crf_log_probability == reading.log_probability
        assert doc._.bert_crf_entropy == reading.entropy
        assert [span[:3] for span in group(doc)] == entities(doc)
        assert doc.spans["bert_crf"].attrs["scores"].dtype == np.float32
        for name, told in (("bert_crf", "entities"), ("bert_crf_candidates", "candidates")):
            if not any(token.is_space for token in doc):
                assert group(doc, name) == [tuple(entity) for entity in getattr(reading, told)]
            for *_, p in group(doc, name):
                assert p is not None
        for ent, (*_, p) in zip(doc.ents, group(doc), strict=True):
            assert ent._.score == p
        for span, (*_, p) in zip(
            doc.spans["bert_crf_candidates"], group(doc, "bert_crf_candidates"), strict=True
        ):
            assert span._.score == p
        if len(doc):
            assert Span(doc, 0, 1, label="NONE")._.score is None


def test_trimmed_entities_have_the_probability_of_their_tags(scored):
    pipe = scored.get_pipe("bert_crf")
    from spacy_bert_crf.component.reading import Reading, ScoredSpan

    doc = scored.make_doc("\n张三\n")
    reading = Reading(
        np.zeros(4, dtype=np.int64),
        [ScoredSpan(0, 4, "PER", 0.5)],
        [
            ScoredSpan(0, 1, "LOC", 0.04),  # nothing but white space
            ScoredSpan(1, 3, "PER", 0.1),  # the same as the entity
            ScoredSpan(1, 3, "LOC", 0.2),
            ScoredSpan(1, 4, "LOC", 0.3),  # the same once more
        ],
    )
    pipe.set_annotations([doc], [reading])
    assert group(doc) == [(1, 3, "PER", 0.5)] and entities(doc) == [(1, 3, "PER")]
    assert group(doc, "bert_crf_candidates") == [(1, 3, "LOC", 0.3)]


def test_they_survive_bytes_docbin_pickle_and_processes(scored):
    docs = list(scored.pipe(SHORT * 3))
    want = [everything(doc) for doc in docs]
    assert sum(len(ents) for ents, *_ in want) > 5 and sum(len(c) for _, _, c, _ in want) > 5
    vocab = scored.vocab
    assert [everything(Doc(vocab).from_bytes(doc.to_bytes())) for doc in docs] == want
    data = DocBin(docs=docs, store_user_data=True).to_bytes()
    assert [everything(doc) for doc in DocBin().from_bytes(data).get_docs(vocab)] == want
    for doc, (_, spans, candidates, _) in zip(
        DocBin().from_bytes(DocBin(docs=docs).to_bytes()).get_docs(vocab), want, strict=True
    ):
        assert (group(doc), group(doc, "bert_crf_candidates")) == (spans, candidates)
        assert [ent._.score for ent in doc.ents] == [p for *_, p in spans]
    again = pickle.loads(pickle.dumps(scored))
    assert [everything(doc) for doc in again.pipe(SHORT * 3)] == want
    parallel = list(scored.pipe(SHORT * 3, n_process=2, batch_size=4))
    close = [  # batches differ, so rounding does
        (e, [(*s[:3], pytest.approx(s[3].expected, rel=1e-4)) for s in g]) for e, g, _, _ in want
    ]
    assert [(entities(doc), group(doc)) for doc in parallel] == close
    for doc, (*_, figures) in zip(parallel, want, strict=True):
        assert [doc._.get(name) for name in NAMES] == pytest.approx(figures, rel=1e-4)


def test_an_unpickled_component_registers_its_extensions(scored, tmp_path):
    (tmp_path / "p").write_bytes(pickle.dumps(scored))
    code = (
        "import pickle, sys\n"
        "nlp = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "doc = nlp('张三在北')\n"
        "assert doc._.bert_crf_entropy > 0\n"
        "assert all(e._.score > 0 for e in doc.ents) and doc.ents\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "p")], check=True)


def test_allowed_labels_reach_other_processes(scored):
    docs = [scored.make_doc(text) for text in SHORT * 2]
    for doc in docs:
        doc._.bert_crf_labels = ["PER"]
    found = list(scored.pipe(docs, n_process=2, batch_size=4))
    assert {label for doc in found for _, _, label in entities(doc)} == {"PER"}
    assert {label for doc in found for *_, label, _ in group(doc, "bert_crf_candidates")} == {"PER"}


def test_extensions_whose_names_are_taken_are_left_alone(encoder_path):
    Span.set_extension("mine", default=7)
    try:
        nlp = make_random(encoder_path, scores=True, score_extension="mine")
        assert {ent._.mine for ent in nlp("张三在北").ents} == {7}
    finally:
        Span.remove_extension("mine")
    nlp = make_random(encoder_path, scores=True, score_extension="")
    assert nlp("张三在北").spans["bert_crf"] and not Span.has_extension("")
    pipe = nlp.get_pipe("bert_crf")
    assert not Span.has_extension("other")
    pipe.score_extension = "other"
    assert all(ent._.other > 0 for ent in nlp("张三在北").ents)
    Span.remove_extension("other")
    make_random(encoder_path, score_extension="off")
    assert not Span.has_extension("off")


def test_two_components_share_the_extension(scored, encoder_path):
    other = make_random(encoder_path, seed=1)
    other.rename_pipe("bert_crf", "second")
    pipe = other.get_pipe("second")
    pipe.name, pipe.scores, pipe.overwrite = "second", True, True
    scored.add_pipe("second", source=other)
    found = defaultdict(int)
    for doc in scored.pipe(SHORT):
        for name in ("bert_crf", "second"):
            for span, (*_, p) in zip(doc.spans[name], group(doc, name), strict=True):
                assert span_score([name], span) == p
                assert span._.score is not None
                found[name] += 1
        if len(doc):
            assert doc._.second_entropy != doc._.bert_crf_entropy
    assert found["bert_crf"] and found["second"]


def test_the_threshold_takes_effect_at_once(scored):
    pipe = scored.get_pipe("bert_crf")
    for text in SHORT:
        scores = dict.fromkeys(p.expected for *_, p in group(scored(text)))
        for threshold in (0.0, *scores, 1.0):
            pipe.cfg["threshold"] = threshold
            doc = scored(text)
            kept = [(a, b, c) for a, b, c, p in group(doc) if p.expected >= threshold]
            assert entities(doc) == kept and doc.has_annotation("ENT_IOB")
        pipe.threshold = 0.0
    pipe.scores = False
    pipe.candidates = 0.0
    pipe.threshold = 1.0
    doc = scored(SHORT[0])
    assert entities(doc) == [] and not doc.spans


@pytest.mark.parametrize(
    "setting, value",
    [("threshold", 1.5), ("threshold", "x"), ("candidates", -0.1), ("temperature", 0.0),
     ("temperature", float("nan"))],
)  # fmt: skip
def test_values_that_can_not_be(encoder_path, random_pipe, setting, value):
    with pytest.raises(BertCrfError, match=rf"\[bert_crf\] {setting} is"):
        setattr(random_pipe.get_pipe("bert_crf"), setting, value)
    if setting != "candidates":
        random_pipe.get_pipe("bert_crf").cfg[setting] = value
        with pytest.raises(BertCrfError, match=f"{setting} is"):
            random_pipe.get_pipe("bert_crf").scores = True
            random_pipe("张三")


@pytest.fixture
def random_pipe(encoder_path):
    return make_random(encoder_path)


def test_find_threshold(random_pipe, tmp_path):
    random_pipe.to_disk(tmp_path / "p")
    docs = [random_pipe.make_doc(text) for text in SHORT[:4]]
    for doc in docs:  # only the likeliest are right
        (reading,) = random_pipe.get_pipe("bert_crf").read([random_pipe.make_doc(doc.text)])
        best = max(reading.entities, key=lambda e: e.probability)
        doc.ents = [Span(doc, best.start, best.end, label=best.label)]
    DocBin(docs=docs).to_disk(tmp_path / "d.spacy")
    best, score, every = find_threshold(
        str(tmp_path / "p"), tmp_path / "d.spacy", "bert_crf", "threshold", "ents_f", n_trials=6
    )
    assert every[1.0] == 0.0 and score == max(every.values()) > every[0.0] and 0 < best < 1


def test_settings_at_load_and_kept_ones(random_pipe, tmp_path):
    def load(**settings):
        config = {"components": {"bert_crf": settings}}
        return spacy.load(tmp_path / "p", config=config).get_pipe("bert_crf")

    pipe = random_pipe.get_pipe("bert_crf")
    pipe.threshold, pipe.temperature = 0.25, 1.5
    random_pipe.to_disk(tmp_path / "p")
    loaded = load()
    assert (loaded.threshold, loaded.temperature) == (0.25, 1.5)
    assert (loaded.scores, loaded.candidates, loaded.constrain_to_ents) == (False, 0.0, True)
    loaded = load(scores=True, threshold=0.5, candidates=0.1)
    assert (loaded.scores, loaded.candidates) == (True, 0.1)
    assert (loaded.threshold, loaded.temperature) == (0.5, 1.5)
    # What was said at load is kept with the rest.
    nlp = spacy.load(tmp_path / "p", config={"components": {"bert_crf": {"temperature": 3.0}}})
    nlp.to_disk(tmp_path / "p")
    assert (load().threshold, load().temperature) == (0.25, 3.0)
    data = random_pipe.get_pipe("bert_crf").to_bytes(exclude=["vocab"])
    assert load(threshold=0.75).from_bytes(data).threshold == 0.75


def test_pipelines_saved_without_these_settings_load(random_pipe, tmp_path):
    import re

    import srsly

    want = [entities(doc) for doc in random_pipe.pipe(SHORT)]
    random_pipe.to_disk(tmp_path / "p")
    config, cfg = tmp_path / "p" / "config.cfg", tmp_path / "p" / "bert_crf" / "cfg"
    new = "constrain_to_ents|scores|score_extension|candidates|threshold|temperature"
    text, n_lines = re.subn(rf"(?m)^({new}) = .*\n", "", config.read_text(encoding="utf8"))
    config.write_text(text, encoding="utf8")
    assert n_lines == 6
    srsly.write_json(cfg, {"labels": srsly.read_json(cfg)["labels"]})
    nlp = load_pipeline(tmp_path / "p")
    assert [entities(doc) for doc in nlp.pipe(SHORT)] == want
    pipe = nlp.get_pipe("bert_crf")
    assert (pipe.threshold, pipe.temperature, pipe.scores) == (0.0, 1.0, False)


def test_the_temperature_is_exported_and_comes_back(trained, tmp_path):
    from spacy_bert_crf.export.folder import export_pipeline
    from spacy_bert_crf.export.import_model import import_model

    trained.get_pipe("bert_crf").temperature = 1.25
    assert export_pipeline(trained, tmp_path / "x")["temperature"] == 1.25
    nlp, *_ = import_model(tmp_path / "x", tmp_path / "p")
    assert nlp.get_pipe("bert_crf").temperature == 1.25
    assert spacy.load(tmp_path / "p").get_pipe("bert_crf").temperature == 1.25


def test_temperature_changes_what_is_told_and_not_what_is_found(scored):
    pipe = scored.get_pipe("bert_crf")
    cold = [everything(doc) for doc in scored.pipe(SHORT)]
    pipe.temperature = 4.0
    hot = [everything(doc) for doc in scored.pipe(SHORT)]
    assert [ents for ents, *_ in hot] == [ents for ents, *_ in cold]
    for (*_, before), (*_, after) in zip(cold[:4], hot[:4], strict=True):
        assert after[1] > before[1] and after[0] < before[0]


def test_training_and_evaluation_with_all_on(trained):
    pipe = trained.get_pipe("bert_crf")
    pipe.scores, pipe.candidates, pipe.threshold = True, 0.05, 0.3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained.update(make_examples(trained), sgd=False)
        assert trained.evaluate(make_examples(trained))["ents_f"] == 1.0
    doc = trained(TEXTS[0][0])
    assert all(0.5 < ent._.score <= 1 for ent in doc.ents)


@pytest.mark.parametrize("merge", ["one", "all", "start"])
def test_probabilities_survive_a_change_of_tokens(scored, merge):
    """merge_entities and its kind change tokens, and with them what span groups count."""
    doc = scored("王小明昨天在北京参观了清华大学。新华社上海分社记者李伟报道。")
    want = {(e.start_char, e.end_char): e._.score for e in doc.ents}
    assert len(want) > 1 and None not in want.values()
    with doc.retokenize() as retokenizer:
        if merge == "one":
            retokenizer.merge(doc.ents[0])
        elif merge == "all":
            for ent in list(doc.ents):
                retokenizer.merge(ent)
        else:
            retokenizer.merge(doc[:2])  # may join two entities to one that nobody predicted
    found = {(e.start_char, e.end_char): e._.score for e in doc.ents}
    assert found == {key: want.get(key) for key in found}
    assert len(want.keys() - found.keys()) <= (2 if merge == "start" else 0)
    assert doc[len(doc) - 1 :]._.score is None


def test_a_group_without_offsets_is_read_by_its_spans(scored):
    doc = scored("王小明昨天在北京参观了清华大学。")
    want = [e._.score for e in doc.ents]
    group = doc.spans["bert_crf"]
    group.attrs = {"scores": group.attrs["scores"]}
    assert [e._.score for e in doc.ents] == want
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[:5])
    assert all(e._.score in (None, *want) for e in doc.ents)


def variants():
    """Docs with all that may be on a doc before: nothing, entities, blocked tokens, identifiers."""
    vocab = spacy.blank("zh").vocab
    for text in (
        "",
        "a",
        "王\u3000\u200b\u3000王王王 王",
        "\u3000王小\u200b\u3000",
        "王小明在北京的",
    ):
        for kind in ("blank", "outside", "entity", "blocked", "linked", "linked outside"):
            doc = Doc(vocab, words=list(text))
            if len(doc) and kind != "blank":
                ents = [Span(doc, 0, 1, "PER", kb_id="Q1")] if kind in ("entity", "linked") else []
                blocked = [doc[0:1]] if kind == "blocked" else []
                doc.set_ents(ents, blocked=blocked, default="outside")
                if kind.startswith("linked"):
                    for token in doc:
                        token.ent_kb_id_, token.ent_id_ = "Q2", "id"
                    doc.set_ents([], default="missing")
            yield doc


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_tags_of_a_batch_are_written_as_those_of_each_doc(scheme, overwrite):
    tag_set = TagSet(("PER", "LOC"), scheme)
    rng = np.random.default_rng(0)
    for _ in range(20):
        pairs = list(zip(variants(), variants(), strict=True))
        tags = [
            rng.integers(0, len(tag_set.tags), len(doc)) * (rng.random() < 0.7) for doc, _ in pairs
        ]
        set_tags([doc for doc, _ in pairs], tags, tag_set, overwrite)
        for (doc, alone), own in zip(pairs, tags, strict=True):
            set_entities(alone, tag_set.decode(own.tolist()), overwrite)
            attributes = ["ENT_IOB", "ENT_TYPE", "ENT_KB_ID", "ENT_ID"]
            assert doc.to_array(attributes).tolist() == alone.to_array(attributes).tolist()
            assert doc.has_annotation("ENT_IOB")
            assert entities(doc) == entities(alone)
