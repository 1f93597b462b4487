"""The entry for spaCy's list of projects, the notebook, and the release workflow."""

import ast
import json
import re

import srsly

import spacy_bert_crf
from support.paths import ROOT


def test_the_entry_for_the_universe():
    entry = json.loads((ROOT / "examples" / "universe.json").read_text(encoding="utf8"))
    needed = {"id", "title", "slogan", "description", "pip", "code_example", "category", "tags"}
    assert needed <= entry.keys()
    assert entry["pip"] == "spacy-bert-crf" and len(entry["slogan"]) < 100
    ast.parse("\n".join(entry["code_example"]))


def test_the_notebook_is_saved_without_outputs():
    notebook = json.loads((ROOT / "examples" / "tour.ipynb").read_text(encoding="utf8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 6
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


def test_the_release_workflow_compares_the_versions_that_there_are():
    """What its first step does, on this tree."""
    workflow = srsly.read_yaml(ROOT / ".github" / "workflows" / "release.yml")
    steps = workflow["jobs"]["build"]["steps"]
    (check,) = [step["run"] for step in steps if "CITATION.cff" in step.get("run", "")]
    assert "spacy_bert_crf/__init__.py" in check and "CHANGELOG.md" in check
    source = (ROOT / "spacy_bert_crf" / "__init__.py").read_text(encoding="utf8")
    (version,) = re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE)
    assert version == spacy_bert_crf.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf8")
    assert f"\nversion: {version}\n" in citation
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf8")
    assert f"\n## {version}" in changelog
    assert all("@" in step["uses"] for step in steps if "uses" in step)
