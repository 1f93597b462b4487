"""The public names of the package, and what importing it costs."""

import inspect
import subprocess
import sys
from importlib import metadata

import pytest

import spacy_bert_crf
from support.paths import ROOT

CLASSES = ["Alternative", "BertCrf", "BertCrfError", "LinearChainCRF", "Reading", "ScoredSpan"]
CLASSES += ["TagSet"]
FUNCTIONS = [
    "annotate_frame",
    "calibrate",
    "compare_exports",
    "convert_checkpoint",
    "convert_corpus",
    "distill",
]
FUNCTIONS += ["evaluate", "export_pipeline", "find_errors", "import_model", "select_texts", "train"]


def test_the_public_names_are_these():
    assert sorted(spacy_bert_crf.__all__) == sorted([*CLASSES, *FUNCTIONS, "__version__"])
    assert dir(spacy_bert_crf) == sorted(spacy_bert_crf.__all__)


@pytest.mark.parametrize("name", [*CLASSES, *FUNCTIONS])
def test_each_public_name_is_documented(name):
    found = getattr(spacy_bert_crf, name)
    assert inspect.isclass(found) == (name in CLASSES)
    assert found.__module__.startswith("spacy_bert_crf.")
    text = inspect.getdoc(found)
    # A NamedTuple or dataclass without a docstring gets its signature in its place.
    assert text and len(text.split()) >= 5 and not text.startswith(f"{name}(")
    reference = "".join(p.read_text(encoding="utf8") for p in (ROOT / "docs/api").glob("*.md"))
    assert f"::: spacy_bert_crf.{name}\n" in reference


def test_each_public_method_is_documented():
    for name in CLASSES:
        for attribute, value in vars(getattr(spacy_bert_crf, name)).items():
            if inspect.isfunction(value) and not attribute.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{attribute}"


def test_another_name_is_an_error():
    with pytest.raises(AttributeError, match="'nothing'"):
        spacy_bert_crf.nothing  # noqa: B018


def run(code, *options):
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_loads_no_large_package():
    large = ("torch", "thinc", "spacy", "transformers", "scipy", "numpy")
    code = f"import sys, spacy_bert_crf; print(*(n for n in {large} if n in sys.modules))"
    assert run(code, "-W", "error") == []


def test_importing_adds_three_modules_to_those_of_spacy():
    """So it takes milliseconds, on any machine."""
    code = (
        "import sys, spacy\n"
        "before = set(sys.modules)\n"
        "import spacy_bert_crf\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    own = ["spacy_bert_crf", "spacy_bert_crf._provenance", "spacy_bert_crf.errors"]
    assert run(code) == own


def test_all_names_come_with_a_star():
    assert run("from spacy_bert_crf import *; print(evaluate.__name__, TagSet.__name__)") == [
        "evaluate",
        "TagSet",
    ]


def test_setup_reads_the_version_of_the_package():
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.split()[-1] == spacy_bert_crf.__version__, done.stderr
    assert metadata.version("spacy-bert-crf")
