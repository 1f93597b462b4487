"""The bonus of soft names, fitted to annotated docs, and the command `dictionary`."""

import pytest
import spacy
import torch
from spacy.tokens import DocBin

from spacy_bert_crf.component.decoding.dictionary import HARD, Dictionary
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.evaluation.fit_dictionary import fit_dictionary
from support.commands import cli
from support.toys import TEXTS, entities, make_examples, randomise_head, train_toy

PLACES = ["北京", "上海", "广州", "南京", "河北省", "保定市"]


@pytest.fixture
def unsure(encoder_path):
    """A pipeline that knows nothing: its head is random."""
    nlp = train_toy(encoder_path, 0)
    torch.manual_seed(0)
    randomise_head(nlp, 0.3)
    return nlp


def gold(nlp, data=TEXTS):
    return [example.reference for example in make_examples(nlp, data)]


@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_names_that_are_right_get_a_bonus_and_others_none(encoder_path, scheme):
    nlp = train_toy(encoder_path, 0, scheme=scheme)
    torch.manual_seed(0)
    randomise_head(nlp, 0.3)
    wrong = [("高兴", "PER"), ("天气", "PER"), ("大雪", "PER")]
    names = Dictionary.of([*((place, "LOC") for place in PLACES), *wrong, ("新华社", "ORG")])
    found = fit_dictionary(nlp, gold(nlp), names)
    assert found.dictionary.bonus_of("LOC") > 1 and found.dictionary.bonus_of("PER") <= 0.02
    assert found.after < found.before
    assert found.found == {"LOC": 6, "PER": 3, "ORG": 1}
    assert found.dictionary.entries == names.entries and names.bonus == {}
    assert nlp.get_pipe("bert_crf").dictionary is None
    # The loss is least there: a step aside raises it.
    best = found.dictionary.bonus["LOC"]
    for step in (-1.0, 1.0):
        bonus = {**found.dictionary.bonus, "LOC": best + step}
        moved = fit_dictionary(nlp, gold(nlp), Dictionary(names.entries, bonus))
        assert moved.dictionary.bonus["LOC"] == pytest.approx(best, abs=0.05)
    assert "LOC" in found.table()


def test_without_a_soft_name_in_the_docs_nothing_can_be_fitted(unsure):
    names = Dictionary.of([("北京", "LOC", HARD), ("柏林", "LOC")])
    with pytest.raises(BertCrfError, match="no soft name"):
        fit_dictionary(unsure, gold(unsure), names)


def test_the_command_stores_names_and_fits_them(unsure, tmp_path):
    unsure.to_disk(tmp_path / "p")
    DocBin(docs=gold(unsure)).to_disk(tmp_path / "dev.spacy")
    lines = [f"{place}\tLOC" for place in PLACES] + ["天气\tPER\thard"]
    (tmp_path / "names.tsv").write_text("\n".join(lines), encoding="utf8")
    words = [tmp_path / "p", tmp_path / "names.tsv", "--fit", tmp_path / "dev.spacy"]
    text = cli("dictionary", *words, "-o", tmp_path / "q")
    assert "stored 7 names" in text and "LOC" in text
    nlp = spacy.load(tmp_path / "q")
    names = nlp.get_pipe("bert_crf").dictionary
    assert len(names.entries) == 7 and names.bonus["LOC"] > 1
    assert (0, 2, "PER") in entities(nlp("天气很好，大家都很高兴。"))
    assert spacy.load(tmp_path / "p").get_pipe("bert_crf").dictionary is None
    cli("dictionary", tmp_path / "q", tmp_path / "names.tsv", "--bonus", "3")
    assert spacy.load(tmp_path / "q").get_pipe("bert_crf").dictionary.bonus == {
        "LOC": 3.0, "PER": 3.0,
    }  # fmt: skip
    (tmp_path / "names.tsv").write_text("北京\tGPE\n", encoding="utf8")
    assert "does not have: GPE" in cli("dictionary", *words, code=1)
