"""Names of organisations are composed out of parts."""

import random
import re
from pathlib import Path

import pytest
import srsly

from scripts import multiply_corpus
from scripts.compose_names import Composer
from scripts.sentences import read_sentences
from spacy_bert_crf.errors import BertCrfError

QUICKSTART = Path(__file__).parent.parent.parent / "assets" / "quickstart"


@pytest.fixture
def path(tmp_path):
    def write(patterns, **parts):
        path = tmp_path / "composed.yml"
        path.write_text(srsly.yaml_dumps({"parts": parts, "patterns": patterns}), encoding="utf8")
        return path

    return write


def test_a_name_consists_of_its_parts(path):
    composer = Composer(
        path({"company": ["{city}{brand}{form}"]}, brand="甲 乙 丙 丁", form="公司 集团"),
        {"city": ["杭州", "宁波"]},
    )
    names = {composer.compose("company", random.Random(seed)) for seed in range(200)}
    assert len(names) > 20
    for name in names:
        found = re.fullmatch("(?:杭州|宁波)([甲乙丙丁]{2,3})(?:公司|集团)", name)
        assert found and len(set(found[1])) == len(found[1])
    assert composer.compose("company", random.Random(3)) in names


def test_a_part_that_is_nowhere(path):
    with pytest.raises(BertCrfError, match=r"composed.yml: the pattern \{city\}队 .* part city"):
        Composer(path({"team": ["{city}队"]}), {"country": ["中国"]})


def test_half_of_the_organisations_are_composed(tmp_path):
    """And the other splits, places and persons stay as they are."""
    plain, composed = (
        multiply_corpus.multiply(QUICKSTART, tmp_path, 3, 0.0, True, 4, compose=share)
        for share in (0.0, 0.5)
    )
    assert plain["dev"] == composed["dev"] and plain["test"] == composed["test"]
    pairs = [
        (old, new)
        for before, after in zip(plain["train"], composed["train"], strict=True)
        for old, new in zip(before, after, strict=True)
    ]
    assert all(old.label == new.label and old.kind == new.kind for old, new in pairs)
    assert all(old == new for old, new in pairs if old.label != "ORG")
    organisations = [old != new for old, new in pairs if old.label == "ORG"]
    # Two of three copies, half of them, less those whose name belongs to another split.
    assert 0.2 < sum(organisations) / len(organisations) < 0.33
    fresh = [new.text for old, new in pairs if old != new]
    assert len(set(fresh)) > 0.9 * len(fresh)


def test_patterns_are_for_organisations():
    patterns = srsly.read_yaml(QUICKSTART / "names" / "composed.yml")["patterns"]
    sentences = read_sentences(QUICKSTART / "sentences")
    labels = {part.kind: part.label for file in sentences.values() for s in file for part in s}
    assert {labels[kind] for kind in patterns} == {"ORG"}
