"""The page in a real browser: filters, search, keyboard, and no errors on the console."""

from contextlib import ExitStack

import pytest

from support.browser import chromium

from .conftest import HOSTILE


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser, page_file):
    """A function that opens the page. At the end there must be no error and no request."""
    with ExitStack() as stack:

        def open_page(width=1280, height=900, scheme="light"):
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            stack.callback(context.close)
            tab = context.new_page()
            for event in ("console", "pageerror", "dialog"):
                tab.on(event, lambda found: problems.append(str(found)))
            tab.on("request", lambda request: requests.append(request.url))
            tab.goto(page_file.as_uri())
            tab.wait_for_selector("#rows li")
            return tab

        problems, requests = [], []
        yield open_page
        assert not problems
        assert {url.split(":")[0] for url in requests} <= {"file", "data"} and len(requests) <= 3


def shown(tab):
    """Numbers of the sentences that are shown, and the count that is announced."""
    numbers = tab.eval_on_selector_all("#rows li", "all => all.map(e => +e.dataset.number)")
    count = int(tab.inner_text("#count").split(" of ")[0])
    assert count == len(numbers)  # all of them fit on the page
    return numbers


def wait_for_rows(tab, count):
    from playwright.sync_api import expect

    expect(tab.locator("#rows li")).to_have_count(count)


def test_filters_and_order(opened, report):
    tab = opened()
    wrong = [row.number for row in report.rows if row.surprise > 0]
    assert shown(tab) == wrong
    tab.select_option("#kind", label="all")
    assert shown(tab) == [row.number for row in report.rows]
    tab.select_option("#order", "corpus")
    assert shown(tab) == sorted(row.number for row in report.rows)
    tab.select_option("#kind", label="without errors")
    assert shown(tab) == sorted({row.number for row in report.rows} - set(wrong))
    tab.select_option("#kind", "spurious")
    spurious = {
        row.number for row in report.rows if any(e.kind == "spurious" for e in row.predicted)
    }
    assert set(shown(tab)) == spurious
    tab.select_option("#label", label="ORG")
    with_org = {
        row.number
        for row in report.rows
        if any((e.kind, e.label) == ("spurious", "ORG") for e in row.predicted)
    }
    assert set(shown(tab)) == with_org and 0 < len(with_org) < len(spurious)


def test_search(opened, report):
    tab = opened()
    tab.select_option("#kind", "")
    tab.fill("#search", "IPHONE")
    wait_for_rows(tab, sum("iphone" in row.text for row in report.rows))
    assert shown(tab) == [row.number for row in report.rows if "iphone" in row.text]
    tab.fill("#search", "no such text")
    wait_for_rows(tab, 0)
    assert shown(tab) == []


def test_a_kind_in_the_table_leads_to_its_sentences(opened):
    tab = opened()
    tab.click("a[data-kind=spurious]")
    assert tab.input_value("#kind") == "spurious" and tab.url.endswith("#sentences")
    assert all("spurious" in text for text in tab.locator("#rows .number").all_inner_texts())


def test_it_works_with_the_keyboard(opened):
    tab = opened()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    tab.focus("#search")
    tab.keyboard.press("Tab")
    focused = "document.activeElement.classList.contains('ent')"
    assert tab.evaluate(focused)
    tip = tab.locator("#tip")
    assert tip.is_visible() and "probability 0." in tip.inner_text()
    assert tab.evaluate("document.activeElement.getAttribute('aria-describedby')") == "tip"
    tab.keyboard.press("Escape")
    assert tip.is_hidden()
    tab.focus("#kind")
    tab.keyboard.press("ArrowDown")
    assert tab.input_value("#kind") == ""


def test_the_pointer_shows_the_probability(opened, report):
    tab = opened()
    tab.locator("#rows .ent.is-wrong").first.hover()
    first = next(e for e in (*report.rows[0].gold, *report.rows[0].predicted) if e.kind != "right")
    assert f"probability {first.probability:.4f}" in tab.inner_text("#tip")


def test_hostile_text_stays_text(opened):
    tab = opened()
    tab.fill("#search", "onerror")
    wait_for_rows(tab, 1)
    assert tab.locator("img").count() == 0
    text = tab.locator("#rows .text").last.evaluate(
        "e => { e = e.cloneNode(true); e.querySelectorAll('small').forEach(s => s.remove());"
        " return e.textContent }"
    )
    assert text == HOSTILE


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_schemes(opened, scheme):
    tab = opened(390, 844, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    style = "getComputedStyle(document.body)"
    colours = [tab.evaluate(f"{style}.{name}") for name in ("backgroundColor", "color")]
    dark = [sum(map(int, c.strip("rgb()").split(","))) < 3 * 128 for c in colours]
    assert dark == [scheme == "dark", scheme == "light"]
