"""Several corpora as one: what each covers, how often it is drawn, and its names of labels."""

from collections import Counter

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.util import load_config, registry

from spacy_bert_crf.annotation.coverage.covers import covers_of, set_covers
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.training.corpora import create_corpora
from support.commands import cli
from support.paths import CONFIG
from support.toys import TEXTS, entities, make_examples

NLP = spacy.blank("zh")


@pytest.fixture
def files(tmp_path):
    """Corpora of one label each, by the label."""
    found = {}
    for label in ("LOC", "ORG", "PER"):
        data = [(text, [span for span in spans if span[2] == label]) for text, spans in TEXTS]
        docs = [example.reference for example in make_examples(NLP, data)]
        found[label] = str(tmp_path / f"{label}.spacy")
        DocBin(docs=docs).to_disk(found[label])
    return found


def texts_of(reader):
    return Counter((example.reference.user_data["corpus"], example.text) for example in reader(NLP))


def test_each_corpus_covers_what_its_settings_say(files):
    reader = create_corpora({
        "places": {"path": files["LOC"], "covers": ["LOC"]},
        "persons": {"path": files["PER"], "covers": ["HUMAN"], "map": {"PER": "HUMAN"}},
        "all": {"path": files["ORG"]},
    })  # fmt: skip
    found = {
        name: {(covers_of(e.reference), *(ent.label_ for ent in e.reference.ents)) for e in some}
        for name, some in (
            (name, [e for e in reader(NLP) if e.reference.user_data["corpus"] == name])
            for name in ("places", "persons", "all")
        )
    }
    assert found["places"] >= {(frozenset({"LOC"}), "LOC"), (frozenset({"LOC"}),)}
    assert (frozenset({"HUMAN"}), "HUMAN", "HUMAN") in found["persons"]
    assert found["all"] == {(None,), (None, "ORG"), (None, "ORG")}


def test_a_doc_that_says_what_it_covers_is_right(files, tmp_path):
    doc = NLP.make_doc("张三在京")
    doc.ents = []
    set_covers(doc, ["PER"])
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "own.spacy")
    reader = create_corpora({"own": {"path": str(tmp_path / "own.spacy"), "covers": ["LOC"]}})
    assert [covers_of(example.reference) for example in reader(NLP)] == [frozenset({"PER"})]


def test_weights_say_how_often_texts_are_drawn(files):
    reader = create_corpora({
        "few": {"path": files["LOC"], "weight": 0.4},
        "many": {"path": files["PER"], "weight": 1.0},
    })  # fmt: skip
    counts = texts_of(reader)
    few, many = (Counter({t: n for t, n in counts.items() if t[0] == c}) for c in ("few", "many"))
    assert set(few.values()) == {1} and len(few) == len(many) == len(TEXTS)
    # Two and a half times as often.
    assert sorted(many.values()) == [2] * 4 + [3] * 4
    assert counts == texts_of(reader)
    examples = list(reader(NLP))
    twins = [e for e in examples if e.text == TEXTS[0][0]][-2:]
    assert twins[0].predicted is not twins[1].predicted
    assert twins[0].reference is twins[1].reference


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "a", "weight": 0}, "weight is 0: it must be above 0"),
        ({"path": "a", "heaviness": 1}, "no setting 'heaviness'"),
        ({}, "either a path or a reader"),
        ({"path": "a", "covers": "PER"}, "covers is 'PER'"),
        ({"path": "a", "map": {"A": "B"}, "outside": ["A"]}, "label map names A twice"),
    ],
)
def test_settings_that_cannot_be_used_are_named(settings, message):
    with pytest.raises(BertCrfError, match=message):
        create_corpora({"x": settings})
    with pytest.raises(BertCrfError, match="no corpora"):
        create_corpora({})


def test_a_training_reads_several_corpora_and_shows_what_they_cover(encoder_path, files, tmp_path):
    config = load_config(CONFIG, interpolate=False)
    config["paths"] |= {"dev": files["PER"], "train": None}
    config["components"]["bert_crf"]["model"]["tok2vec"]["name"] = str(encoder_path)
    config["initialize"]["components"] = {}
    config["corpora"]["train"] = {
        "@readers": "spacy_bert_crf.Corpora.v1",
        "corpora": {
            "places": {"path": files["LOC"], "covers": ["LOC"]},
            "organisations": {"path": files["ORG"], "covers": ["ORG"]},
            # A reader of one's own in place of a path.
            "persons": {
                "reader": {**config["corpora"]["train"], "path": "${paths.dev}"},
                "covers": ["PER"],
            },
        },
    }
    config["corpora"]["dev"] = {
        "@readers": "spacy_bert_crf.Corpora.v1",
        "corpora": {"dev": {"path": "${paths.dev}", "covers": ["PER"]}},
    }
    config["training"]["batcher"]["size"] = 24
    config["training"]["optimizer"] |= {"encoder_lr": 5e-3, "head_lr": 2e-2, "crf_lr": 2e-2}
    config["training"] |= {"max_epochs": 60, "dropout": 0.0}
    config["training"]["logger"] = {"@loggers": "spacy.ConsoleLogger.v1"}
    config.to_disk(tmp_path / "train.cfg")
    text = cli("train", tmp_path / "train.cfg", tmp_path / "out")
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["corpus"] == ["texts", "LOC", "ORG", "PER"]
    assert rows["places"] == ["8", "5", "-", "-"] and rows["dev"] == ["8", "-", "-", "4"]
    # From three corpora with one label each, it learned all three.
    nlp = spacy.load(tmp_path / "out" / "model-last")
    assert nlp.get_pipe("bert_crf").labels == ("LOC", "ORG", "PER")
    right = sum(sorted(entities(nlp(text))) == sorted(spans) for text, spans in TEXTS)
    assert right >= 7
    # Places and organisations in dev are neither right nor wrong, because dev covers PER only.
    assert nlp.meta["performance"]["ents_f"] == 1.0
    assert set(nlp.meta["performance"]["ents_per_type"]) == {"PER"}


def test_the_reader_is_registered():
    assert registry.readers.get("spacy_bert_crf.Corpora.v1") is create_corpora
