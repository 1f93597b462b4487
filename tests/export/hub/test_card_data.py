"""The metadata of a card, read again by huggingface_hub and checked as the hub does."""

import copy

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.hub.card_data import card_data, check_card, with_data
from support.cards import META, METRICS
from support.hub import card_errors


def described(**changes):
    return copy.deepcopy(META) | changes


def test_the_metadata_says_what_hubs_read():
    found = card_data(META, METRICS).to_dict()
    assert found["language"] == ["zh"] and found["license"] == "mit"
    assert found["library_name"] == "spacy" and found["pipeline_tag"] == "token-classification"
    assert found["tags"][:2] == ["spacy", "token-classification"]
    # Neither is known: an encoder without a name on a hub, texts with an address elsewhere.
    assert not {"base_model", "datasets", "co2_eq_emissions"} & found.keys()


def test_results_come_back_as_they_were(tmp_path):
    text = with_data("# A card\n", card_data(META, METRICS))
    assert not card_errors(text)
    (tmp_path / "README.md").write_text(text, encoding="utf8")
    index = metadata_load(tmp_path / "README.md")["model-index"]
    name, results = model_index_to_eval_results(index)
    assert name == "zh_names" and ModelCard(text).text == "\n# A card\n"
    by_name = {(r.dataset_name, r.metric_name): r for r in results}
    every = by_name["On held-out texts", "entity F1"]
    assert (every.metric_type, every.metric_value) == ("f1", 0.85)
    assert (every.task_type, every.dataset_split) == ("token-classification", "test")
    loc = by_name["On held-out texts", "recall of LOC"]
    assert (loc.metric_type, loc.metric_value, loc.metric_args) == (
        "recall",
        0.25,
        {"label": "LOC"},
    )
    assert ("the dev texts of the training", "F1 of PER") in by_name
    assert len(results) == 3 * 3 + 3 * 2


def test_without_metrics_the_results_are_those_of_the_training():
    (index,) = card_data(META).to_dict()["model-index"]
    (result,) = index["results"]
    assert result["dataset"]["split"] == "validation" and len(result["metrics"]) == 3
    nothing = card_data(described(performance={}))
    assert not {"model-index", "metrics"} & nothing.to_dict().keys()
    assert check_card(with_data("text", nothing))["library_name"] == "spacy"


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        ("org/some-small (MIT), by way of a package", "org/some-small"),
        ("bert-base-chinese@0123456789abcdef0123456789abcdef01234567", "bert-base-chinese"),
        ("org/bert@0123456789abcdef", "org/bert"),
        ("org/bert", "org/bert"),
        ("toy-bert of this test", None),
        ("my-encoder", None),
    ],
)
def test_the_encoder_is_named_where_its_name_on_the_hub_is_known(origin, name):
    source = {"name": origin, "part": "encoder"}
    assert card_data(described(sources=[source])).base_model == name


def test_data_sets_are_named_by_their_addresses():
    sources = [
        {"name": "a", "url": "https://huggingface.co/datasets/org/set"},
        {"name": "b", "url": "https://huggingface.co/datasets/old/"},
        {"name": "c", "url": "https://example.org/datasets/x"},
    ]
    assert card_data(described(sources=sources)).datasets == ["org/set", "old"]


def test_what_the_maker_says_comes_first():
    meta = described(lang="xx", license="Our Own Licence")
    meta["spacy_bert_crf"]["card"] |= {
        "base_model": "org/base",
        "datasets": ["org/set"],
        "emissions": {"grams": 12.5, "source": "a meter"},
    }
    found = card_data(meta).to_dict()
    assert found["language"] == ["multilingual"]
    assert (found["license"], found["license_name"]) == ("other", "our-own-licence")
    assert (found["base_model"], found["datasets"]) == ("org/base", ["org/set"])
    assert found["co2_eq_emissions"] == {"emissions": 12.5, "source": "a meter"}


def test_bad_metadata_is_refused():
    with pytest.raises(BertCrfError, match="no licence 'mine'"):
        check_card("---\nlicense: mine\n---\n")
    with pytest.raises(BertCrfError, match="can't be read"):
        check_card("---\nmodel-index:\n- name: x\n---\n")
    with pytest.raises(BertCrfError, match="can't be read"):
        check_card("---\na: [\n---\n")
