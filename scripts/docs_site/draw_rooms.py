"""Draw the rooms of the package, their modules and the arrows between them, from the code.

    python -m scripts.docs_site.draw_rooms

This writes docs/pictures/rooms.svg and the table in docs/architecture.md. The picture leaves out an
arrow that follows from others. Where A imports B and B imports C, A may import C without an arrow.
The table has all arrows.
"""

import textwrap
from html import escape

from spacy_bert_crf._files import write_text

from .rooms import ROOT, arrows, rooms

PICTURE = ROOT / "docs" / "pictures" / "rooms.svg"
PAGE = ROOT / "docs" / "architecture.md"
#: Marks before and after the table in the page.
BEGIN, END = "<!-- rooms: written by scripts/docs_site/draw_rooms.py -->\n", "<!-- end of rooms -->"
#: The purpose of each room, and its column (0 to COLUMNS - 1). Those of a floor are one apart.
CAPTIONS = {
    "cli": ("the commands", 1.5),
    "adapters": ("pipelines inside of other tools", 2.5),
    "export": ("files for other programs, and back", 1.5),
    "project": ("a project of one's own", 0.5),
    "training": ("the loop of the train command", 1.0),
    "bulk": ("annotation of a corpus of any size", 0.0),
    "evaluation": ("scores, calibration, likely errors", 2.0),
    "serving": ("pipelines over HTTP", 3.0),
    "component": ("what nlp.add_pipe gives", 1.5),
    "model": ("the thinc layers and the optimizer", 1.0),
    "crf": ("the CRF in torch", 0.5),
    "encoder": ("a Hugging Face encoder", 1.5),
    "annotation": ("corpora, tag schemes, gold tags", 2.5),
}
COLUMNS, WIDTH, GAP, LINE = 4, 250, 24, 15
#: Largest number of characters of a line of module names.
CHARACTERS = 38
STYLE = """
  text { font: 12px sans-serif; fill: #333 } .room { fill: #eef1fb; stroke: #5c6bc0 }
  .name { font-size: 15px; font-weight: bold; fill: #283593 } .file { fill: #555; font-size: 11px }
  .arrow { stroke: #5c6bc0; stroke-width: 1.6; fill: none; marker-end: url(#head) }
  .all { fill: #f5f5f5; stroke: #bbb } .head { fill: #5c6bc0 }
"""


def floors(edges: set[tuple[str, str]], names: list[str]) -> dict[str, int]:
    """How far above the ground each room stands: one more than the highest room it imports.

    Raises ValueError if rooms import each other in a circle.
    """
    found: dict[str, int] = {}
    while len(found) < len(names):
        ready = [
            name
            for name in names
            if name not in found and all(b in found for a, b in edges if a == name)
        ]
        if not ready:
            rooms_left = ", ".join(set(names) - set(found))
            raise ValueError(f"rooms import each other: {rooms_left}")
        for name in ready:
            found[name] = max((found[b] + 1 for a, b in edges if a == name), default=0)
    return found


def direct(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows that do not follow from others (the transitive reduction)."""
    below: dict[str, set[str]] = {}

    def reach(room: str) -> set[str]:
        if room not in below:
            targets = {b for a, b in edges if a == room}
            below[room] = targets.union(*(reach(b) for b in targets))
        return below[room]

    return {
        (a, b) for a, b in edges if not any(b in reach(c) for x, c in edges if x == a and c != b)
    }


def draw() -> str:
    """The picture as SVG.

    Raises KeyError if a room has no caption here.
    """
    modules, edges = rooms(), set(arrows())
    top = modules.pop("")
    level = floors(edges, list(modules))
    lines = {}
    for room, files in modules.items():
        names = ", ".join(file for file in files if not file.endswith("__init__"))
        lines[room] = textwrap.wrap(names, CHARACTERS, break_on_hyphens=False)
    boxes: dict[str, tuple[float, float, float]] = {}  # left, top, height
    y = 20.0
    for floor in sorted(set(level.values()), reverse=True):
        members = [room for room in modules if level[room] == floor]
        height = max(48 + LINE * len(lines[room]) for room in members)
        for room in members:
            boxes[room] = (20 + CAPTIONS[room][1] * (WIDTH + GAP), y, height)
        y += height + 36
    width = 40 + COLUMNS * WIDTH + (COLUMNS - 1) * GAP
    parts = []
    for a, b in sorted(direct(edges)):
        names = f'data-from="{a}" data-to="{b}"'
        parts.append(f'<path class="arrow" {names} d="{_line(boxes[a], boxes[b])}"/>')
    for room, (left, above, height) in boxes.items():
        parts.append(_box("room", left, above, WIDTH, height))
        parts.append(_text("name", left + 12, above + 22, f"{room}/"))
        parts.append(_text("", left + 12, above + 39, CAPTIONS[room][0]))
        for i, line in enumerate(lines[room]):
            parts.append(_text("file", left + 12, above + 56 + LINE * i, line))
    shared = f"{', '.join(top)}: may be imported by every room"
    parts.append(_box("all", 20, y, width - 40, 32))
    parts.append(_text("", 32, y + 20, shared))
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="head" d="M0,0L8,4L0,8z"/></marker></defs>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 52:g}" role="img">'
        f"<title>Rooms of spacy_bert_crf and the imports between them</title>"
        f"<style>{STYLE}</style>{head}"
        f'<rect width="{width}" height="{y + 52:g}" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def table() -> str:
    """The rooms from the top down, as a Markdown table: purpose, and rooms that are imported.

    Raises KeyError if a room has no caption here.
    """
    modules, edges = rooms(), set(arrows())
    del modules[""]
    level = floors(edges, list(modules))
    lines = ["| room | what it is for | imports |", "|---|---|---|"]
    for room in sorted(modules, key=lambda room: (-level[room], room)):
        below = ", ".join(f"`{b}`" for a, b in sorted(edges) if a == room) or "none"
        lines.append(f"| `{room}/` | {CAPTIONS[room][0]} | {below} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """The text of the page with the table of the present code.

    Raises ValueError if the marks around the table are not there.
    """
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    return page[:begin] + "\n" + table() + "\n" + page[end:]


def _line(source: tuple[float, float, float], target: tuple[float, float, float]) -> str:
    shift = max(-1.0, min(1.0, (target[0] - source[0]) / WIDTH)) * WIDTH * 0.3
    x1, y1 = source[0] + WIDTH / 2 + shift, source[1] + source[2]
    x2, y2 = target[0] + WIDTH / 2 - shift / 2, target[1]
    return f"M{x1:g},{y1:g}L{x2:g},{y2 - 1:g}"


def _box(css: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{css}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def _text(css: str, x: float, y: float, text: str) -> str:
    return f'<text class="{css}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def main() -> None:
    """Write the picture and the table."""
    write_text(PICTURE, draw())
    write_text(PAGE, with_table(PAGE.read_text(encoding="utf8")))
    print(f"wrote {PICTURE} and the table in {PAGE}")


if __name__ == "__main__":
    main()
