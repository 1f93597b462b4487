"""What README and docs say that code prints is what it prints.

A block of Python after the line `<!-- checked -->` is run. The checked blocks of a page are one
program. Whole lines of comment in them are what the block prints.
"""

import json
import re
import subprocess
import sys

import pytest

from support.paths import ROOT

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
TRAINING = ROOT / "training" / "quickstart"
_BLOCK = re.compile(r"^<!-- checked -->\n```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MARK = "=== next block ==="


def blocks(text):
    """Each checked block of a page: its code, and the lines that it prints."""
    found = []
    for block in _BLOCK.findall(text):
        lines = block.splitlines()
        code = [line for line in lines if not line.startswith("# ")]
        found.append(("\n".join(code), [line[2:] for line in lines if line.startswith("# ")]))
    return found


def printed(found):
    """What each block prints, all run as one program in the checkout."""
    code = f"\nprint({_MARK!r})\n".join(code for code, _ in found)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf8"
    )
    assert done.returncode == 0, done.stderr
    return [part.strip("\n").splitlines() for part in done.stdout.split(f"{_MARK}\n")]


def checked_pages():
    return [page for page in PAGES if blocks((ROOT / page).read_text(encoding="utf8"))]


def test_these_pages_have_checked_blocks():
    assert {"README.md", "docs/getting-started.md", "docs/scores.md"} <= set(checked_pages())


@pytest.mark.parametrize("page", checked_pages())
def test_a_page_prints_what_it_says(page):
    if not (TRAINING / "model-best").is_dir():
        pytest.skip("the quickstart is not trained here: python -m spacy project run all")
    here = json.loads((TRAINING / "metrics.json").read_text(encoding="utf8"))["ents_f"]
    documented = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf8")
    want = re.search(r"^\| our test split .*\*\*(.+)\*\*", documented, re.MULTILINE)[1]
    if f"{here * 100:.2f}" != want:
        pytest.skip(
            f"the quickstart's pipeline here is another one than in docs/quickstart.md: F1 "
            f"{here * 100:.2f}, not {want} (trained with other settings, or on another CPU)"
        )
    found = blocks((ROOT / page).read_text(encoding="utf8"))
    assert printed(found) == [output for _, output in found]


def test_blocks_and_their_output_are_found():
    text = (
        "<!-- checked -->\n```python\nx = 1  # one\nprint(x)\n# 1\n```\n\n"
        "```python\nraise SystemExit\n```\n\n"
        "<!-- checked -->\n```python\nprint(x + 1)\nprint()\n# 3\n```\n"
    )
    found = blocks(text)
    assert found == [("x = 1  # one\nprint(x)", ["1"]), ("print(x + 1)\nprint()", ["3"])]
    assert printed(found) == [["1"], ["2"]]
