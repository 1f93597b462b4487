"""Supported versions of other packages: checked at import, declared in the metadata."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from spacy.errors import Errors

import spacy_bert_crf
from spacy_bert_crf import _provenance
from spacy_bert_crf._provenance import check_versions, missing_shared

NAME = "spacy-bert-crf"
RANGES = {
    "spacy": ("3.8.15", "3.9"),
    "thinc": ("8.3.12", "8.4"),
    "transformers": ("4.48", "6"),
    "torch": ("2.6", ""),
    "numpy": ("2.0", ""),
}


@pytest.fixture
def installed(monkeypatch):
    """Versions of packages, to change; our metadata has the ranges above and an extra."""
    lines = [f"{n}<{high},>={low}" if high else f"{n}>={low}" for n, (low, high) in RANGES.items()]
    lines += ["tqdm>=9999", 'torch>=9999; extra == "other"']
    lines += ['spacy-transformers>=1.4.0; extra == "shared"']
    versions = {name: low for name, (low, _) in RANGES.items()} | {"tqdm": "4.60"}

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(_provenance.metadata, "requires", {NAME: lines}.__getitem__)
    monkeypatch.setattr(_provenance.metadata, "version", version)
    return versions


@pytest.mark.parametrize(
    "name, version, is_supported",
    [
        ("thinc", "9.1.1", False),
        ("thinc", "8.3.11", False),
        ("thinc", "8.3.12", True),
        ("thinc", "8.4.0rc1", False),
        ("transformers", "4.47.1", False),
        ("transformers", "4.53.2", True),
        ("transformers", "4.57.6", True),
        ("transformers", "5.24.0", True),
        ("transformers", "6.0.0rc1", False),
        ("torch", "2.6.0+cpu", True),
        ("torch", "2.5.1+cu124", False),
        ("torch", "2.13.0", True),
        ("torch", "2.14.0a0+git1234567", True),
        ("spacy", "3.9.0", False),
        ("numpy", "2.0.0rc1", True),
        ("numpy", "built here", True),
    ],
)
def test_a_version_out_of_range_is_named(installed, name, version, is_supported):
    low, high = RANGES[name]
    installed[name] = version
    if is_supported:
        check_versions()
        return
    needed = f"{name}>={low}" + (f",<{high}" if high else "")
    with pytest.raises(ImportError) as caught:
        check_versions()
    assert f"{name} {version} is installed, {needed} is needed" in str(caught.value)
    assert str(caught.value).endswith(f'Run: pip install "{needed}"')


def test_all_versions_out_of_range_are_named_together(installed):
    installed |= {"spacy": "3.7.5", "numpy": "1.26.4"}
    with pytest.raises(ImportError) as caught:
        check_versions()
    assert str(caught.value).endswith('Run: pip install "spacy>=3.8.15,<3.9" "numpy>=2.0"')


@pytest.mark.parametrize(
    "version, is_supported", [("1.3.9", False), ("1.4.0", True), ("2.0", True)]
)
def test_spacy_transformers_is_checked_where_it_is_installed(installed, version, is_supported):
    check_versions()
    installed["spacy-transformers"] = version
    if is_supported:
        check_versions()
        return
    with pytest.raises(ImportError, match=f"spacy-transformers {version} is installed"):
        check_versions()


#: Errors of spaCy for a component and for a function that are not there.
NO_FACTORY = Errors.E002.format(
    name="transformer", opts="ner", method="create_pipe", lang="Chinese", lang_code="zh"
)
NO_FUNCTION = Errors.E893.format(
    name="spacy-transformers.TransformerListener.v1", reg_name="architectures", available="none"
)
OTHERS = [NO_FACTORY.replace("'transformer'", "'tagger'"), "spacy-transformers", ""]
OTHERS += [NO_FUNCTION.replace("'spacy-transformers.", "'own.")]


def test_a_missing_shared_transformer_is_named(installed):
    for text in (NO_FACTORY, NO_FUNCTION):
        assert missing_shared(ValueError(text)).endswith('pip install "spacy-bert-crf[shared]"')
    assert not any(missing_shared(ValueError(text)) for text in OTHERS)
    installed["spacy-transformers"] = "1.4.0"
    assert not missing_shared(ValueError(NO_FACTORY))


@pytest.mark.parametrize("missing", ["torch", NAME])
def test_packages_that_are_not_installed_are_ignored(installed, monkeypatch, missing):
    def absent(name):
        if name == missing:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    real = metadata.requires if missing == NAME else metadata.version
    monkeypatch.setattr(_provenance.metadata, "requires" if missing == NAME else "version", absent)
    check_versions()


def test_the_checked_packages_have_ranges():
    requirements = _provenance._requirements()
    assert {r.name for r in requirements} == set(_provenance._PACKAGES)
    assert all(len(r.specifier) for r in requirements)


def test_every_import_is_declared():
    declared = {canonicalize_name(Requirement(line).name) for line in metadata.requires(NAME) or []}
    distributions = metadata.packages_distributions()
    root = Path(spacy_bert_crf.__file__).parent
    imported = {}
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                imported.setdefault(name.partition(".")[0], path.relative_to(root))
    # Builds of torch for CUDA bring triton. Its kernels are used where it is there. Scripts in
    # exported folders import the reader beside them.
    own = {path.stem for path in (root / "export" / "readers").glob("*.py")}
    third_party = set(imported) - sys.stdlib_module_names - {"triton", "prodigy"}
    third_party -= own - {"onnx"}
    assert {"spacy", "torch", "numpy", "onnx"} <= third_party
    undeclared = {
        f"{name} in {imported[name]}"
        for name in third_party
        if not declared & {canonicalize_name(dist) for dist in distributions.get(name, [name])}
    }
    assert not undeclared


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, spacy_bert_crf; print([m for m in sys.modules if m in %r])"
    code %= ["torch", "spacy", "thinc", "transformers", "numpy"]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
