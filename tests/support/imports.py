"""Which module of the library imports which, read from the source by ast, without importing any."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from support.paths import ROOT

PACKAGE = ROOT / "spacy_bert_crf"


def module_name(path: Path) -> str:
    """The dotted name of a file of the library; that of the package for an `__init__.py`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def library() -> dict[str, Path]:
    """All modules of the library by name."""
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _statements(node: ast.AST, in_functions: bool):
    """Import statements below a node, without those for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif _is_type_checking(child):
            for other in child.orelse:
                yield from _statements(other, in_functions)
        elif in_functions or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _statements(child, in_functions)


def imports_of(name: str, modules: dict[str, Path], in_functions: bool = False) -> set[str]:
    """Modules of the library that one of its modules imports.

    in_functions: also what functions import when they are called.
    """
    path = modules[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in _statements(ast.parse(path.read_text(encoding="utf8")), in_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        above = package[: len(package) - node.level + 1] if node.level else []
        source = ".".join([*above, *filter(None, [node.module])])
        for alias in node.names:
            whole = f"{source}.{alias.name}"
            found.add(whole if whole in modules else source)
    return {other for other in found if other in modules and other != name}


@cache
def import_graph(in_functions: bool = False) -> dict[str, set[str]]:
    """Each module of the library with those that it imports."""
    modules = library()
    return {name: imports_of(name, modules, in_functions) for name in modules}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, each the next; empty if there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def longest_path(graph: dict[str, set[str]]) -> list[str]:
    """The longest chain of imports in a graph without circles, from its top to its bottom."""
    paths: dict[str, list[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        paths[name] = [name, *max((paths[other] for other in graph[name]), key=len, default=[])]
    return max(paths.values(), key=len)


def rooms() -> dict[str, list[Path]]:
    """The folders of the library by their dotted names, with their files of Python.

    An `__init__.py` does not count as one: it says what the room is for and names its contents.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        files = found.setdefault(module_name(path.parent / "__init__.py"), [])
        if path.name != "__init__.py":
            files.append(path)
    return found
