"""The library keeps its plan: small files, few in a room, and imports that point one way."""

import pytest

from support.imports import circle, import_graph, library, longest_path, rooms

MAX_LINES = 400
MAX_FILES = 9
MAX_FLOORS = 10
#: Which rooms each room may import. `[tool.importlinter]` in pyproject.toml says the same.
BELOW = {
    "crf": set(),
    "encoder": set(),
    "annotation": set(),
    "model": {"crf", "encoder"},
    "component": {"model", "crf", "encoder", "annotation"},
}
BELOW["training"] = BELOW["evaluation"] = BELOW["bulk"] = {"component", *BELOW["component"]}
BELOW["export"] = {"evaluation", *BELOW["evaluation"]}
BELOW["project"] = {"training", *BELOW["training"]}
BELOW["serving"] = {"component", *BELOW["component"]}
BELOW["cli"] = {"project", "serving", "export", "training", "evaluation", "bulk", *BELOW["export"]}
BELOW["adapters"] = {"evaluation", *BELOW["evaluation"]}
#: Modules that all rooms may import, and that import no room.
KNOWN_TO_ALL = {"errors", "_files", "_signals", "_provenance", "_host", "_memory", "_devices"}
KNOWN_TO_ALL |= {"_transformers"}
#: Not true yet. Strict xfail fails as soon as one is mended: take it off the list then.
TOO_LONG: set[str] = set()
BROKEN_ARROWS: set[str] = set()


def mark(names, in_work):
    in_work_mark = pytest.mark.xfail(strict=True, reason="in work")
    return [
        pytest.param(name, marks=in_work_mark if name in in_work else ()) for name in sorted(names)
    ]


def room_of(name):
    """The room or the single module that a module belongs to; empty for the package itself."""
    return (name.split(".") + [""])[1]


@pytest.mark.parametrize("name", mark(library(), TOO_LONG))
def test_a_file_has_one_purpose_and_few_lines(name):
    assert len(library()[name].read_text(encoding="utf8").splitlines()) <= MAX_LINES


def test_rooms_have_few_files():
    crowded = {name: len(files) for name, files in rooms().items() if len(files) > MAX_FILES}
    assert not crowded


def test_every_room_has_its_arrows():
    parts = {room_of(name) for name in library()} - {""}
    assert parts == {*BELOW, *KNOWN_TO_ALL}


@pytest.mark.parametrize("room", mark(BELOW, BROKEN_ARROWS))
def test_a_room_imports_only_rooms_below_it(room):
    allowed = {room, "", *BELOW[room], *KNOWN_TO_ALL}
    wrong = [
        f"{name} imports {other}"
        for name, others in import_graph(in_functions=True).items()
        for other in sorted(others)
        if room_of(name) == room and room_of(other) not in allowed
    ]
    assert not wrong


@pytest.mark.parametrize("module", sorted(KNOWN_TO_ALL))
def test_what_all_know_imports_no_room(module):
    others = import_graph(in_functions=True)[f"spacy_bert_crf.{module}"]
    assert not {room_of(other) for other in others} & set(BELOW)


def test_no_module_imports_itself_in_a_circle():
    assert not circle(import_graph())


def test_imports_are_few_floors_deep():
    path = longest_path(import_graph())
    assert len(path) <= MAX_FLOORS, " > ".join(path)


# The measures themselves


def test_circles_and_paths_are_found():
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"d"}, "d": set()}
    assert circle(graph) == [] and longest_path(graph) == ["a", "b", "c", "d"]
    found = circle({**graph, "d": {"b"}})
    assert {"b", "d"} <= set(found) <= {"b", "c", "d"}


def test_the_graph_has_known_imports():
    graph, whole = import_graph(), import_graph(in_functions=True)
    assert "spacy_bert_crf.errors" in graph["spacy_bert_crf"]
    assert "spacy_bert_crf.crf.linear_chain" in graph["spacy_bert_crf.crf.tag_head"]
    assert all(others <= whole[name] for name, others in graph.items())
    assert sum(map(len, whole.values())) > sum(map(len, graph.values()))
