"""The picture and the pages about the code's structure say what the code is."""

import re
from itertools import combinations

import pytest

from scripts.docs_site.draw_rooms import PAGE, PICTURE, direct, draw, floors, table, with_table
from scripts.docs_site.rooms import PACKAGE, arrows, imported, rooms

AGAIN = "run python -m scripts.docs_site.draw_rooms"


def reachable(edges):
    """All pairs of rooms of which one imports the other, directly or through others."""
    found = set(edges)
    while more := {(a, d) for a, b in found for c, d in found if b == c} - found:
        found |= more
    return found


def test_the_picture_is_drawn_from_this_code():
    assert PICTURE.read_text(encoding="utf8") == draw(), AGAIN


def test_the_arrows_in_the_picture_are_those_of_the_code():
    drawn = set(re.findall(r'data-from="(\w+)" data-to="(\w+)"', PICTURE.read_text("utf8")))
    assert drawn <= set(arrows()), AGAIN
    assert reachable(drawn) == reachable(arrows()), AGAIN


def test_no_room_hides_another_in_the_picture():
    found = re.findall(
        r'class="room" x="([\d.]+)" y="([\d.]+)" width="(\d+)" height="([\d.]+)"',
        PICTURE.read_text("utf8"),
    )
    boxes = [tuple(map(float, box)) for box in found]
    assert len(boxes) == len(rooms()) - 1
    for (x, y, width, height), (x2, y2, width2, height2) in combinations(boxes, 2):
        assert x + width < x2 or x2 + width2 < x or y + height < y2 or y2 + height2 < y


def test_the_table_in_the_page_is_that_of_the_code():
    page = PAGE.read_text(encoding="utf8")
    assert page == with_table(page), AGAIN
    rows = re.findall(r"^\| `(\w+)/` \|.*\| ([^|]*) \|$", page, re.MULTILINE)
    found = {(room, below) for room, cell in rows for below in re.findall(r"`(\w+)`", cell)}
    assert found == set(arrows())
    assert {room for room, _ in rows} == {p.name for p in PACKAGE.iterdir() if p.is_dir()} - {
        "__pycache__"
    }


def journeys():
    """The files of each journey in the page, in order."""
    page = PAGE.read_text(encoding="utf8")
    parts = re.split(r"^## ", page, flags=re.MULTILINE)
    steps = re.compile(r"^\| (\d+) \| `([\w/]+\.py)` \|", re.MULTILINE)
    found = {part.split("\n")[0]: steps.findall(part) for part in parts}
    return {title: rows for title, rows in found.items() if rows}


def test_there_are_three_journeys_with_numbered_steps():
    found = journeys()
    assert len(found) == 3
    for rows in found.values():
        assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))


def test_the_files_of_the_journeys_are_there():
    files = {file for rows in journeys().values() for _, file in rows}
    assert not {file for file in files if not (PACKAGE / file).is_file()}


# The measures themselves


def test_imports_are_found_wherever_they_stand(tmp_path):
    package = tmp_path / "pkg"
    for room in ("a", "b", "c", "d", "e"):
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").touch()
    (package / "top.py").touch()
    (package / "a" / "x.py").write_text(
        "from ..b import y\n"
        "import pkg.c.z\n"
        "from . import other\n"
        "from ..top import name\n"
        "def f():\n    from .. import d\n"
        "if TYPE_CHECKING:\n    from ..e import E\n"
    )
    assert set(imported(package / "a" / "x.py", package)) == {"a", "b", "c", "d", "top"}
    assert arrows(package) == {("a", room): ["a/x.py"] for room in "bcd"}
    assert rooms(package) == {"": ["top"], "a": ["x"], "b": [], "c": [], "d": [], "e": []}


def test_floors_and_arrows_that_follow_from_others():
    edges = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}
    assert floors(edges, list("abcd")) == {"a": 2, "b": 1, "c": 0, "d": 0}
    assert direct(edges) == {("a", "b"), ("b", "c"), ("a", "d")}
    with pytest.raises(ValueError, match="import each other"):
        floors({("a", "b"), ("b", "a")}, ["a", "b"])


def test_the_picture_names_every_module():
    words = re.findall(r"[\w/]+", " ".join(re.findall(r'class="file"[^>]*>([^<]*)<', draw())))
    for room, names in rooms().items():
        if room:
            assert {name for name in names if not name.endswith("__init__")} <= set(words)


def test_the_table_has_every_room_from_the_top_down():
    names = re.findall(r"^\| `(\w+)/`", table(), re.MULTILINE)
    assert sorted(names) == sorted(room for room in rooms() if room)
    assert names[0] == "cli" and set(names[-3:]) == {"annotation", "crf", "encoder"}
