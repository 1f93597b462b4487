"""The recipe for Prodigy, with a stand-in for the package, which needs a licence.

The stand-in has what the recipe uses, as Prodigy's documentation describes it. So these tests show
what the tasks hold. They do not show that Prodigy runs them.
"""

import importlib
import sys
from importlib.metadata import entry_points
from types import ModuleType

import pytest

from support.predictions import scored
from support.toys import TEXTS

GIVEN = [text for text, _ in TEXTS]


class Stream:
    """Prodigy's stream: `apply` replaces what it yields by what a function makes of it."""

    def __init__(self, tasks):
        self.tasks = tasks

    def apply(self, function, **words):
        words = {name: self.tasks if value is self else value for name, value in words.items()}
        self.tasks = function(**words)

    def __iter__(self):
        return iter(self.tasks)


@pytest.fixture
def recipes(monkeypatch):
    """The module, imported with the stand-in. Its recipes get the attribute `recipe`."""
    names = ("prodigy", "prodigy.components", "prodigy.components.stream", "prodigy.util")
    modules = {name: ModuleType(name) for name in names}

    def recipe(name, **arguments):
        def register(function):
            function.recipe = (name, arguments)
            return function

        return register

    def get_stream(source, rehash, dedup, input_key):
        assert rehash and dedup and input_key == "text"
        return Stream({"text": text, "meta": {"line": n}} for n, text in enumerate(source))

    modules["prodigy"].recipe = recipe
    modules["prodigy.components.stream"].get_stream = get_stream
    modules["prodigy.util"].set_hashes = lambda task, overwrite: {**task, "_task_hash": 1}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "spacy_bert_crf.adapters.prodigy", raising=False)
    yield importlib.import_module("spacy_bert_crf.adapters.prodigy")
    sys.modules.pop("spacy_bert_crf.adapters.prodigy", None)


def test_tasks_have_tokens_entities_and_their_probabilities(recipes, trained_path):
    made = recipes.correct("news", str(trained_path), GIVEN)
    assert made["view_id"] == "ner_manual" and made["dataset"] == "news"
    assert sorted(made["config"]["labels"]) == ["LOC", "ORG", "PER"]
    tasks = list(made["stream"])
    for text, ours, task in zip(GIVEN, scored(trained_path, GIVEN), tasks, strict=True):
        spans = [(s["start"], s["end"], s["label"], s["score"]) for s in task["spans"]]
        assert spans == ours
        for span in task["spans"]:
            first, last = task["tokens"][span["token_start"]], task["tokens"][span["token_end"]]
            assert (first["start"], last["end"]) == (span["start"], span["end"])
        assert all(text[t["start"] : t["end"]] == t["text"] for t in task["tokens"])
        assert "_task_hash" in task and "line" in task["meta"]
    assert sum(len(task["spans"]) for task in tasks) > 5


def test_only_the_labels_that_are_named(recipes, trained_path):
    made = recipes.correct("news", str(trained_path), GIVEN, label="PER, LOC")
    assert made["config"]["labels"] == ["PER", "LOC"]
    found = {span["label"] for task in made["stream"] for span in task["spans"]}
    assert found == {"PER", "LOC"}


def test_doubts_are_shown(recipes, trained_path):
    made = recipes.correct("news", str(trained_path), GIVEN, uncertain=1.0)
    metas = [task["meta"] for task in made["stream"]]
    assert any(" PER " in meta.get("uncertain", "") for meta in metas)


def test_prodigy_finds_the_recipe(recipes):
    (point,) = entry_points(group="prodigy_recipes", name="bert-crf.correct")
    assert point.load() is recipes.correct
    name, arguments = recipes.correct.recipe
    assert name == "bert-crf.correct" and list(arguments)[:3] == ["dataset", "pipeline", "source"]
