"""The page: one file that holds all it needs, in which texts of a corpus stay text."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from spacy_bert_crf.evaluation.report.make import make_report
from support.toys import TEXTS

from .conftest import HOSTILE, LABEL, TITLE, annotated


class Reader(HTMLParser):
    """Elements, text outside of style and script, and what each script holds."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.words, self.scripts = [], [], []
        self.inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.words.append(" ")
        self.inside = tag if tag in ("style", "script") else self.inside

    def handle_endtag(self, tag):
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        elif not self.inside:
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    @property
    def data(self):
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def read(page):
    return Reader(page)


def test_it_loads_nothing_from_elsewhere(page, read):
    for tag, attrs in read.elements:
        assert tag not in ("img", "iframe", "object", "embed", "base")
        assert "src" not in attrs, (tag, attrs)
        for name in ("href", "xlink:href", "action", "data"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    others = set(re.findall(r"https?://[^\s\"'<]+", page)) - {"http://www.w3.org/2000/svg"}
    assert not others
    assert "@import" not in page and "url(" not in page
    (policy,) = [a["content"] for _, a in read.elements if "Content-Security" in str(a)]
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_texts_labels_and_titles_stay_text(page, read):
    assert "onerror=" not in page.replace("onerror=alert(1)", "", 1)
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in read.elements)
    assert TITLE in read.text and LABEL in read.text
    assert TITLE not in page and LABEL not in page and HOSTILE not in page
    assert HOSTILE in [row[1] for row in read.data["rows"]]
    assert LABEL in read.data["labels"]
    assert len(read.scripts) == 2 and len(re.findall("</script", page)) == 2


def test_it_holds_every_sentence_and_offset(read, report):
    data = read.data
    assert [row[0] for row in data["rows"]] == [row.number for row in report.rows]
    for packed, row in zip(data["rows"], report.rows, strict=True):
        units = packed[1].encode("utf-16-le")
        for entities, own in zip(packed[2:], (row.gold, row.predicted), strict=True):
            for (start, end, label, kind, p), entity in zip(entities, own, strict=True):
                found = units[2 * start : 2 * end].decode("utf-16-le")
                assert found == row.text[entity.start : entity.end]
                assert data["labels"][label] == entity.label
                assert data["kinds"][kind] == entity.kind
                assert p == pytest.approx(entity.probability, abs=5e-5) or p is None
    assert "张三" in HOSTILE and "😀" in HOSTILE


def test_it_shows_the_figures(read, report):
    entities = report.evaluation.scores.entities
    found = report.intervals[""].f
    assert f"{entities.f * 100:.1f} F1 by entity" in read.text
    assert f"{entities.f * 100:.1f} {found.low * 100:.1f}–{found.high * 100:.1f}" in read.text
    assert f"{report.evaluation.reliability.ece:.3f} calibration error" in read.text
    assert "does not have these labels of the gold: <i>PER</i> (1)" in read.text
    spurious = sum(e.kind == "spurious" for row in report.rows for e in row.predicted)
    assert spurious > 5 and re.search(rf"spurious {spurious} \d", read.text)
    assert "training with seed 7, best epoch 2" in read.text
    assert sum(tag == "svg" for tag, _ in read.elements) == 3


def test_the_same_report_is_the_same_page(page, report):
    assert report.html() == page


def test_a_pipeline_without_history_has_no_learning_curve(report):
    read = Reader(replace(report, history=None).html())
    assert "Learning curve" not in read.text
    assert sum(tag == "svg" for tag, _ in read.elements) == 2


def test_no_error_and_no_entity_are_pages_too(trained):
    right = make_report(trained, [annotated(trained, *TEXTS[0])])
    read = Reader(right.html())
    assert "100.0 F1 by entity" in read.text and "0 sentences with errors" in read.text
    nothing = make_report(trained, [annotated(trained, *TEXTS[7])])
    assert "0 gold entities, 0 predicted" in Reader(nothing.html()).text


def test_more_labels_than_colours(report):
    from spacy_bert_crf.evaluation.report.entities import Entity, Row

    gold = [Entity(i, i + 1, f"L{i}", "missed", 0.5) for i in range(30)]
    read = Reader(replace(report, rows=[Row(0, "x" * 30, gold, [])]).html())
    assert {f"L{i}" for i in range(30)} <= set(read.data["labels"])
    assert len(read.data["hues"]) == len(read.data["labels"])
