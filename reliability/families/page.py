"""The page docs/families.md: the table of families and commands, and the reasons of refusals."""

from typing import Any

_HEAD = """# Encoder families

Which encoders can be used with which command. `python -m reliability.families` makes this page: it
builds a tiny random encoder of each family, with a tokenizer of the kind that the family has, and
runs every command on it. Nothing is downloaded. CI runs a short form of it.

- **works**: the command ends well, and its result is right. Vectors without dropout are those of
  prediction. A resumed training ends with the weights of an undisturbed one. An export gives the
  emissions and entities of the pipeline, and so does a pipeline that is imported from it.
- **refused**: the command ends with one message, before anything is written. The numbers lead to
  the messages below the table.
- **–**: not reached, because an earlier command was refused.
- **FAULT**: a traceback, or a wrong result.

"""


def page(rows: list[dict[str, Any]], commands: list[str]) -> str:
    """The page as Markdown.

    rows: of results/families.json, one for each family, with its `cells` by command.
    commands: the columns, in order.
    """
    rows = [row for row in rows if "cells" in row]
    reasons: dict[str, int] = {}
    counts = {"works": 0, "refused": 0, "FAULT": 0}
    lines = []
    for row in rows:
        cells = []
        for command in commands:
            state, note = row["cells"].get(command, ("", ""))
            if state:
                counts[state] += 1
            if note:
                number = reasons.setdefault(f"{state}: {note}", len(reasons) + 1)
                state = f"{state} [{number}](#reasons)"
            cells.append(state or "–")
        lines.append(f"| {row['what'].removeprefix('encoder ')} | {' | '.join(cells)} |")
    total = f"{len(rows)} families, {len(commands)} commands: {counts['works']} cells work, "
    total += f"{counts['refused']} are refused, {counts['FAULT']} are faults.\n\n"
    head = f"| family | {' | '.join(commands)} |\n|{'---|' * (len(commands) + 1)}\n"
    text = _HEAD + total + head + "\n".join(lines) + "\n\n## Reasons\n\n"
    return text + "".join(f"{number}. {reason}\n" for reason, number in reasons.items())
