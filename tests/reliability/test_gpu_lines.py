"""The install lines for a GPU: what counts as wrong, and that the page shows the tested ones."""

from reliability.supply.gpu import LINES, judge, pins, versions_of
from support.paths import ROOT


def test_pins_leave_out_comments_and_this_package():
    assert pins("# stack\nnumpy==2.4.6\n\ntorch==2.13.0  # CPU\n-e .\n") == [
        "numpy==2.4.6", "torch==2.13.0",
    ]  # fmt: skip


def test_a_line_is_judged():
    report = {"install": [{"metadata": {"name": "CuPy-cuda12x", "version": "14.2.0"}}]}
    assert judge(versions_of(report), "") == ""
    assert "numpy 1.26.4" in judge({"numpy": "1.26.4", "cupy-cuda12x": "12.3.0"}, "")
    assert "no CuPy" in judge({}, "")
    assert judge({}, "log\nERROR: ResolutionImpossible\n") == "ERROR: ResolutionImpossible"


def test_the_page_shows_the_tested_lines():
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf8")
    for line in LINES.values():
        assert f'pip install "{line}"' in page
