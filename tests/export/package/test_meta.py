"""A meta.json that has what its readers need."""

import pytest
import spacy
from packaging.requirements import Requirement
from spacy.schemas import ModelMetaSchema, validate

from spacy_bert_crf import __version__
from spacy_bert_crf.component.meta.keys import package_name
from spacy_bert_crf.export.package.about import About
from spacy_bert_crf.export.package.meta import complete_meta, gaps, requirements
from support.toys import (
    TEXTS,
    make_examples,
    need_shared,
    shared_config,
    shared_pipeline,
    train_toy,
    write_encoder,
)

METRICS = {
    "ents_p": 0.5,
    "ents_r": 0.25,
    "ents_f": 1 / 3,
    "ents_per_type": {"PER": {"p": 0.5, "r": 0.25, "f": 1 / 3, "gold": 4}},
    "docs": 2,
    "characters": 30,
}


@pytest.fixture
def nlp(toy):
    """The toy with the meta.json that its training gave it."""
    before = dict(toy.meta)
    yield toy
    toy.meta.clear()
    toy.meta.update(before)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = write_encoder(
        tmp_path_factory.mktemp("licensed"), origin="toy-bert of this test", license="Apache-2.0"
    )
    return train_toy(folder, 40)


def test_meta_has_all_keys_and_fits_spacys_schema(nlp):
    nlp.meta["sources"] = [{"name": "texts", "license": "MIT"}]
    about = About(
        name="zh_toy", version="1.2.3", description="Names.", author="us", license="MIT",
        purpose="Tests.", labels={"PER": "people", "LOC": ""}, example=TEXTS[0][0],
    )  # fmt: skip
    meta = complete_meta(nlp, about, METRICS)
    assert not validate(ModelMetaSchema, meta)
    assert package_name(meta) == "zh_toy" and meta["name"] == "toy"
    assert meta["labels"] == {"bert_crf": list(nlp.get_pipe("bert_crf").labels)}
    assert meta["performance"] == {
        "ents_p": 0.5, "ents_r": 0.25, "ents_f": 1 / 3,
        "ents_per_type": {"PER": {"p": 0.5, "r": 0.25, "f": 1 / 3}},
    }  # fmt: skip
    encoder = {"name": "toy-bert of this test", "license": "Apache-2.0", "part": "encoder"}
    assert meta["sources"] == [{"name": "texts", "license": "MIT"}, encoder]
    (sizes,) = meta["spacy_bert_crf"]["encoders"]
    assert (sizes["layers"], sizes["width"], sizes["model_type"]) == (2, 16, "bert")
    card = meta["spacy_bert_crf"]["card"]
    assert card["labels"] == {"PER": "people"}
    assert card["example"]["entities"][0] == ["王小明", "PER"]
    assert not gaps(meta)
    # The meta of a pipeline that was completed once is completed to the same.
    nlp.meta.update(meta)
    assert complete_meta(nlp, about, METRICS) == meta


def test_what_is_missing_is_listed(nlp):
    nlp.meta["sources"] = ["texts"]
    meta = complete_meta(nlp, About(description="Names."))
    lines = gaps(meta)
    assert [line.split()[0] for line in lines[:2]] == ["author", "license"]
    assert any("licence of a source is not known: texts" in line for line in lines)
    nlp.meta["sources"] = []
    assert any("paths.sources" in line for line in gaps(complete_meta(nlp, About())))


def test_without_metrics_the_scores_of_the_training_stay(nlp):
    nlp.meta["performance"] = {"ents_f": 0.75}
    for metrics in (None, {}):
        assert complete_meta(nlp, About(), metrics)["performance"] == {"ents_f": 0.75}


def test_the_requirement_has_the_version_and_the_next_major_one(nlp):
    (line,) = requirements(nlp)
    requirement = Requirement(line)
    assert requirement.name == "spacy-bert-crf" and not requirement.extras
    assert requirement.specifier.contains(__version__)
    major = int(__version__.partition(".")[0])
    assert not requirement.specifier.contains(f"{major + 1}.0.0")


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        ({"@tokenizers": "spacy.ja.JapaneseTokenizer"}, ["spacy[ja]"]),
        ({"@tokenizers": "spacy.zh.ChineseTokenizer", "segmenter": "jieba"}, ["jieba"]),
        ({"@tokenizers": "spacy.zh.ChineseTokenizer", "segmenter": "char"}, []),
    ],
)
def test_a_tokenizer_brings_its_package(tokenizer, expected):
    nlp = spacy.blank("xx")
    nlp._config["nlp"]["tokenizer"] = tokenizer
    assert requirements(nlp) == expected


def test_a_shared_encoder_is_described_once(encoder_path):
    need_shared()
    nlp = shared_pipeline(encoder_path)
    for name in ("people", "places"):
        nlp.add_pipe("bert_crf", name=name, config=shared_config())
    nlp.initialize(lambda: make_examples(nlp))
    (sizes,) = complete_meta(nlp, About())["spacy_bert_crf"]["encoders"]
    assert sizes["layers"] == 2 and sizes["component"] == "people"
