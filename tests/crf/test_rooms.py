"""What the lower rooms import: crf, encoder and annotation know only the modules known to all."""

import ast
from pathlib import Path

import pytest

import spacy_bert_crf

PACKAGE = Path(spacy_bert_crf.__file__).parent
SHARED = {"errors", "_files", "_host", "_signals", "_provenance"}
#: Shared modules that import what is barred in some rooms.
ONLY_IN = {"_transformers": "encoder"}
BARRED = {
    "crf": {"spacy", "thinc", "transformers", "spacy_transformers"},
    "encoder": {"thinc", "spacy_transformers"},
    "annotation": {"torch", "thinc", "transformers", "spacy_transformers"},
}
FILES = [path for room in BARRED for path in sorted((PACKAGE / room).rglob("*.py"))]


def imports_of(path):
    """(dotted name of what is imported, relative to the package if it is ours) of each import.

    Imports inside functions and under TYPE_CHECKING count too.
    """
    here = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            module = (node.module or "").split(".") if node.module else []
            names = [[]] if node.module else [[alias.name] for alias in node.names]
            yield from ((".".join([*base, *module, *name]), True) for name in names)
        elif isinstance(node, ast.ImportFrom):
            ours = node.module.partition(".")
            is_ours = ours[0] == "spacy_bert_crf"
            yield (ours[2] if is_ours else node.module), is_ours


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_lower_room_imports_itself_and_what_all_know(path):
    room = path.relative_to(PACKAGE).parts[0]
    for name, is_ours in imports_of(path):
        top = name.split(".")[0]
        if is_ours:
            known = top == room or top in SHARED or ONLY_IN.get(top) == room
            assert known, f"{path} imports {name}"
        else:
            assert top not in BARRED[room], f"{path} imports {name}"


def test_only_the_plan_of_passes_and_the_tokenizer_know_spacy():
    names = {
        path.relative_to(PACKAGE / "encoder").as_posix(): {
            name for name, is_ours in imports_of(path) if name.split(".")[0] == "spacy"
        }
        for path in (PACKAGE / "encoder").rglob("*.py")
    }
    assert {path for path, found in names.items() if found} == {
        "passes.py",
        "piece_tokenizer.py",  # is a tokenizer of spaCy
        "texts/doc_texts.py",
    }
    assert names["passes.py"] == {"spacy.tokens"}


def test_the_cpu_layers_know_no_transformers():
    for path in (PACKAGE / "encoder" / "cpu").glob("*.py"):
        assert not any(name.startswith("transformers") for name, _ in imports_of(path))


@pytest.mark.parametrize("room", BARRED)
def test_each_room_says_what_it_is_for(room):
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text("utf8")))
    assert text and "imports" in text and "errors" in text
