"""The page docs/families.md: the table of families and commands, and the reasons of refusals."""

from collections.abc import Callable
from typing import Any

from reliability.families.encoders import FAMILIES
from reliability.families.outcomes import COMMANDS, EXACT, FAULT, INT8, NOT_RUN, WORKS

_HEAD = """# Encoder families

Which encoders can be used with which command. `python -m reliability.families` makes this page: it
builds a tiny random encoder of each family, with a tokenizer of the kind that the family has, and
runs every command on it. Nothing is downloaded. CI runs a short form of it. [Which encoder for
what](encoders.md) has advice and published figures.

"""
_OVERVIEW = """## Overview

- **works**: it is trained, resumed, saved, loaded and evaluated.
- **fast path**: prediction on a CPU has layers of its own. Other encoders run as they are in
  transformers.
- **int8**: `quantize = "int8"` predicts in 8-bit integers.
- **exports**: formats besides `best_model.pt`. bert4torch takes BERT alone.

"""
_DETAILS = """
## Details

- **works**: the command ends well, and its result is right. Vectors without dropout are those of
  prediction. A resumed training ends with the weights of an undisturbed one. The beginning of a
  text that is longer than a window has the vectors of that window alone. An export gives the
  emissions and entities of the pipeline, and so does a pipeline that is imported from it.
- **refused**: the command ends with one message, before anything is written. The numbers lead to
  the messages below the table.
- **none**: this encoder has no such part.
- **absent**: this transformers has no such encoder.
- **not run**: not tried with this version since the command came to the list.
- **–**: not reached, because an earlier command was refused.
- **FAULT**: a traceback, or a wrong result.

"""
#: Commands without which an encoder is of no use.
_NEEDED = ("train", "resume", "save and load", "long text", "evaluate")
_FORMATS = (*EXACT, *INT8)

#: State and note of a cell.
_Cell = tuple[str, str]


def page(rows: list[dict[str, Any]]) -> str:
    """The page as Markdown.

    rows: of results/families.json, one for each family and version of transformers.
    """
    versions = sorted({row["transformers"] for row in rows if "cells" in row}, key=_number)
    found = {(row["family"], row["transformers"]): row["cells"] for row in rows if "cells" in row}
    names = [name for name in FAMILIES if any((name, version) in found for version in versions)]
    reasons: dict[str, int] = {}
    details = [_line(name, [found.get((name, v), {}) for v in versions], reasons) for name in names]
    states = [cell[0] for cells in found.values() for cell in cells.values()]
    text = (
        f"{_HEAD}Tested with transformers {' and '.join(versions)}: {len(names)} families, "
        f"{len(COMMANDS)} commands. {states.count(WORKS)} cells work, "
        f"{states.count('refused')} are refused, {states.count(FAULT)} are faults.\n\n"
    )
    text += _OVERVIEW + _table(
        ["family", "such as", "works", "fast path", "int8", "exports", "notes"],
        [
            _summary(name, {v: found.get((name, v), {}) for v in versions}, reasons)
            for name in names
        ],
    )
    text += (
        f"{_DETAILS}Where the two versions differ, the first is transformers "
        f"{', the second '.join(versions)}.\n\n"
    )
    text += _table(["family", *COMMANDS], details) + "\n## Reasons\n\n"
    return text + "".join(f"{number}. {reason}\n" for reason, number in reasons.items())


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def _table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _line(name: str, by_version: list[dict[str, _Cell]], reasons: dict[str, int]) -> list[str]:
    """The cells of a family in the table of details. Versions that agree have one entry."""
    out = [name]
    for command in COMMANDS:
        entries = []
        for cells in by_version:
            state, note = cells.get(command, ("" if cells else NOT_RUN, ""))
            if note:
                number = reasons.setdefault(f"{state}: {note}", len(reasons) + 1)
                state = f"{state} [{number}](#reasons)"
            entries.append(state or "–")
        out.append(" / ".join(dict.fromkeys(entries)))
    return out


def _summary(
    name: str, by_version: dict[str, dict[str, _Cell]], reasons: dict[str, int]
) -> list[str]:
    """The cells of a family in the overview."""

    def state(version: str, command: str) -> str:
        return str(by_version[version].get(command, ("", ""))[0])

    by_version = {version: cells for version, cells in by_version.items() if cells}

    def where(holds: Callable[[str], bool], among: list[str]) -> str:
        versions = [version for version in among if holds(version)]
        if versions == among:
            return "yes"
        return f"with {', '.join(versions)} only" if versions else "no"

    def is_usable(version: str) -> bool:
        return {state(version, command) for command in _NEEDED} <= {WORKS, NOT_RUN}

    works = where(is_usable, list(by_version))
    if works == "no":
        return [name, FAMILIES[name].models, works, "", "", "", _notes(by_version, reasons)]
    there = [version for version in by_version if is_usable(version)]
    formats = [f for f in _FORMATS if all(state(v, f"export {f}") == WORKS for v in there)]
    others = [f for f in _FORMATS if f != "bert4torch"]
    exports = ", ".join(formats)
    if set(others) <= set(formats):
        exports = "all" if len(formats) == len(_FORMATS) else "all but bert4torch"
    fast = where(lambda v: state(v, "fast path") == WORKS, there)
    if any(state(v, "fast path") == NOT_RUN for v in there):
        fast = NOT_RUN
    int8 = where(lambda v: state(v, "quantize int8") == WORKS, there)
    return [name, FAMILIES[name].models, works, fast, int8, exports, _notes(by_version, reasons)]


def _notes(by_version: dict[str, dict[str, _Cell]], reasons: dict[str, int]) -> str:
    """Links to what is said of the commands that every encoder needs."""
    numbers = []
    for cells in by_version.values():
        for command in ("convert-checkpoint", *_NEEDED):
            state, note = cells.get(command, ("", ""))
            if note:
                numbers.append(reasons[f"{state}: {note}"])
    return ", ".join(f"[{number}](#reasons)" for number in dict.fromkeys(numbers))
