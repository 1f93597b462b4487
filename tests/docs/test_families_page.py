"""The page of encoder families is what its tests found, and they still find it."""

import json

import pytest
import transformers

from reliability.families.commands import register, run_family
from reliability.families.encoders import FAMILIES
from reliability.families.outcomes import COMMANDS, FAULT
from reliability.families.page import page
from support.paths import ROOT

ROWS = json.loads((ROOT / "reliability" / "results" / "families.json").read_text("utf8"))["rows"]


def test_the_page_is_that_of_the_results():
    found = (ROOT / "docs" / "families.md").read_text(encoding="utf8")
    assert found == page(ROWS), "run: python -m reliability.families --table"


def test_no_result_is_a_fault():
    assert {row["family"] for row in ROWS} <= FAMILIES.keys()
    for row in ROWS:
        assert row["cells"].keys() <= set(COMMANDS), row["what"]
        assert not [name for name, (state, _) in row["cells"].items() if state == FAULT]


@pytest.mark.parametrize("family", ["bert", "bert, slow tokenizer", "t5"])
def test_a_family_still_does_what_the_page_says(family, tmp_path):
    """One that has everything, one that is refused, and one that is an encoder of a pair."""
    version = transformers.__version__
    recorded = {row["transformers"]: row["cells"] for row in ROWS if row["family"] == family}
    if version not in recorded:
        pytest.skip(f"the page does not say what {family} does with transformers {version}")
    register()
    formats = ("bert4torch", "torchscript")
    found = run_family(FAMILIES[family], tmp_path / "work", formats)
    right = recorded[version]
    assert {name: outcome.state for name, outcome in found.items()} == {
        name: state for name, (state, _) in right.items() if name in found
    }
    # What is refused needs no more commands.
    assert (len(found) > 10) == (right["train"][0] == "works")
