"""The settings of a distillation: defaults, a config's section, options before it, ranges."""

import math

import pytest

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.training.distillation.settings import Distillation


def test_options_come_before_the_section_and_the_section_before_the_defaults():
    section = {"layers": 3, "temperature": 2, "teacher": "x", "teacher_sha256": "y"}
    found = Distillation.of(section, {"layers": 6})
    assert found == Distillation(layers=6, temperature=2)
    assert found.section("t", "h") == {
        "layers": 6, "which_layers": "even", "inner_width": 0,
        "gold_weight": 0.5, "teacher_weight": 0.5, "temperature": 2, "texts": "",
        "teacher_quantize": "", "cache_mb": 2048, "teacher": "t", "teacher_sha256": "h",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layers", 0), ("layers", 2.5), ("layers", True), ("gold_weight", -1),
        ("teacher_weight", math.nan), ("teacher_weight", math.inf), ("temperature", 0),
        ("temperature", "1"), ("texts", None), ("cache_mb", -1),
        ("teacher_quantize", "int4"), ("which_layers", "last"), ("inner_width", -1),
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(name, value):
    with pytest.raises(BertCrfError, match=rf"\[distillation\] {name} is {value!r}: it must be"):
        Distillation.of({name: value}, {})


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(BertCrfError, match="both 0"):
        Distillation(gold_weight=0, teacher_weight=0)


def test_an_unknown_setting_is_named():
    with pytest.raises(BertCrfError, match=r"\[distillation\] has no setting 'layer': use cache"):
        Distillation.of({"layer": 3}, {})
