"""An extension of griffe: this package's docstrings as sections for the reference.

A docstring here has one line for each argument, `name: what it is`. The lines `RETURNS: …` and
`Raises ERROR if …` follow. griffe knows Google's sections, so the lines are put into these.
"""

import re
from typing import Any

import griffe

_ENTRY = re.compile(r"^(\w+): (\S.*)$")
_RETURNS = re.compile(r"^RETURNS: (\S.*)$")
#: Brackets such as `transitions[from][to]` outside of code are no references to other pages.
_REFERENCE = re.compile(r"\]\[(?=[^`\n]*(?:`[^`\n]*`[^`\n]*)*$)", re.MULTILINE)
_RAISES = re.compile(r"^Raises (\w+)[, ]+(\S.*)$")


class Sections(griffe.Extension):
    """Rewrites each docstring of a package before it is parsed."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite the docstrings of a package's functions, methods and classes."""
        _rewrite(pkg)


def _rewrite(obj: Any) -> None:
    if obj.docstring is not None and (obj.is_function or obj.is_class):
        init = obj if obj.is_function else obj.members.get("__init__")
        if init is not None and init.is_function:
            names, title = [parameter.name for parameter in init.parameters], "Args"
        else:
            names = [name for name, member in obj.members.items() if member.is_attribute]
            title = "Attributes"
        obj.docstring.value = to_sections(obj.docstring.value, names, title)
    for member in obj.members.values():
        if not member.is_alias:
            _rewrite(member)


def to_sections(text: str, names: list[str], title: str) -> str:
    """The docstring with Google's sections; lines that are no entries stay where they are.

    text: the docstring, without indentation.
    names: the arguments or attributes that may have an entry.
    title: the section of these entries, "Args" or "Attributes".
    """
    text = _REFERENCE.sub(r"]\\[", text)
    plain: list[str] = []
    sections: dict[str, list[str]] = {title: [], "Returns": [], "Raises": []}
    current: list[str] = plain
    for line in text.split("\n"):
        entry, returns, raises = _ENTRY.match(line), _RETURNS.match(line), _RAISES.match(line)
        if entry and entry[1] in names:
            current = sections[title]
            current.append(f"    {entry[1]}: {entry[2]}")
        elif returns:
            current = sections["Returns"]
            current.append(f"    {returns[1]}")
        elif raises:
            current = sections["Raises"]
            current.append(f"    {raises[1]}: {raises[2]}")
        elif line.startswith("  ") and current is not plain:
            current.append(f"        {line.strip()}")
        elif line.strip() and current is sections["Raises"]:
            current[-1] += f" {line.strip()}"
        else:
            current = plain
            plain.append(line)
    out = "\n".join(plain).strip()
    for name, lines in sections.items():
        if lines:
            out += f"\n\n{name}:\n" + "\n".join(lines)
    return out + "\n"
