"""The rooms of the package and the imports between them, read from the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "spacy_bert_crf"


def rooms(package: Path = PACKAGE) -> dict[str, list[str]]:
    """The modules of each room; those at the top of the package stand under ""."""
    found: dict[str, list[str]] = {"": []}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        room = parts[0] if len(parts) > 1 else ""
        name = "/".join(parts[1:] if room else parts)
        if name != "__init__":
            found.setdefault(room, []).append(name)
        else:
            found.setdefault(room, [])
    return found


def arrows(package: Path = PACKAGE) -> dict[tuple[str, str], list[str]]:
    """The modules behind each arrow: (room that imports, room that is imported).

    Imports inside of functions count, those for type checkers only do not. Modules at the top of
    the package may be imported by every room and are left out.
    """
    out: dict[tuple[str, str], list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).parts
        if len(parts) == 1:
            continue
        for target in imported(path, package):
            if target != parts[0] and (package / target).is_dir():
                modules = out.setdefault((parts[0], target), [])
                if "/".join(parts) not in modules:
                    modules.append("/".join(parts))
    return out


def imported(path: Path, package: Path = PACKAGE) -> Iterator[str]:
    """The first name below the package of each import in a module."""
    parts = path.relative_to(package.parent).parts[:-1]  # the package that holds the module
    for node in _statements(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            full = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(parts[: len(parts) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            full = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for names in full:
            if names[0] == package.name and len(names) > 1:
                yield names[1]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below one, without what is for type checkers only."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from _statements(child)
