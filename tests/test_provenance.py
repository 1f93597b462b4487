"""What this package says about the versions of others."""

import ast
import re
import subprocess
import sys

import pytest

from spacy_bert_crf import _provenance
from spacy_bert_crf._provenance import SUPPORTED, check_versions
from support.paths import ROOT


def test_the_ranges_are_those_of_setup_py():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf8"))
    (found,) = (
        ast.literal_eval(word.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg == "install_requires"
    )
    asked = {}
    for requirement in found:
        name, low, high = re.fullmatch(r"([\w-]+)>=([\w.]+)(?:,<([\w.]+))?", requirement).groups()
        asked[name] = (low, high or "")
    assert {name: asked[name] for name in SUPPORTED} == SUPPORTED
    assert all(name in SUPPORTED for name, (_, high) in asked.items() if high)


@pytest.mark.parametrize(
    "name, version, is_right",
    [
        ("thinc", "9.1.1", False),
        ("thinc", "8.3.11", False),
        ("thinc", "8.3.12", True),
        ("transformers", "4.53.3", False),
        ("transformers", "4.53.2", True),
        ("transformers", "5.0.0", False),
        ("torch", "2.6.0+cpu", True),
        ("torch", "2.13.0", True),
        ("spacy", "3.9.0", False),
        ("numpy", "2.0.0rc1", True),
        ("numpy", "not installed", True),
    ],
)
def test_a_version_out_of_range_is_named(monkeypatch, name, version, is_right):
    low, high = SUPPORTED[name]
    right = {other: first for other, (first, _) in SUPPORTED.items()}
    monkeypatch.setattr(_provenance, "_installed", {**right, name: version}.__getitem__)
    if is_right:
        check_versions()
        return
    needed = f"{name}>={low}" + (f",<{high}" if high else "")
    with pytest.raises(ImportError) as caught:
        check_versions()
    assert f"{name} {version} is installed, {needed} is needed" in str(caught.value)
    assert f'pip install "{needed}"' in str(caught.value)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, spacy_bert_crf; print([m for m in sys.modules if m in %r])"
    code %= ["torch", "spacy", "thinc", "transformers", "numpy"]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
