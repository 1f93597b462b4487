"""The page in a real browser, with a server on a port of this machine."""

import json
import threading
from contextlib import ExitStack

import pytest
import uvicorn

from spacy_bert_crf.serving.annotator import Annotator
from spacy_bert_crf.serving.http.app import create_app
from spacy_bert_crf.serving.http.problems import Problem
from spacy_bert_crf.serving.server import listen
from spacy_bert_crf.serving.settings import ServerSettings
from support.browser import chromium
from support.toys import TEXTS, train_toy

TEXT, GOLD = TEXTS[0]


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def sure(encoder_path):
    return train_toy(encoder_path)


@pytest.fixture
def opened(browser, sure, unsure):
    """A function that starts a server and opens its page.

    At the end there must be no error on the console, and no request to another place.
    """
    with ExitStack() as stack:

        def open_page(nlp=sure, names=("toy",), token="", fills=TEXT, **context):
            settings = ServerSettings(port=0, token=token)
            app = create_app({n: lambda n=n: Annotator(nlp, n) for n in names}, settings)
            listening = listen(settings)
            stack.callback(listening.close)
            server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            stack.callback(thread.join, 30)
            stack.callback(setattr, server, "should_exit", True)
            app.state.service.batcher.wait_ready(60)
            context = browser.new_context(**{"locale": "en", **context})
            context.set_default_timeout(60_000)
            stack.callback(context.close)
            tab = context.new_page()
            tab.on("console", lambda found: problems.append(found.text))
            tab.on("pageerror", lambda found: problems.append(str(found)))
            tab.on("request", lambda request: requests.append(request.url))
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            addresses.append(address)
            tab.goto(address)
            tab.service = app.state.service
            if not token:
                tab.wait_for_selector("#status:not(:empty)")
                tab.fill("#text", fills)
                wait_for_text(tab, fills)
            return tab

        problems, requests, addresses = [], [], []
        open_page.problems = problems
        yield open_page
        assert not problems
        assert all(url.startswith(("data:", *addresses)) for url in requests)


def shown(tab):
    """The entities that are marked, as text and label."""
    return tab.eval_on_selector_all(
        "#result .entity",
        "all => all.map(e => [e.firstChild.textContent, e.querySelector('small').textContent])",
    )


def wait_for_text(tab, text):
    """Wait until the result is that of a text."""
    tab.wait_for_function(
        """text => { const copy = document.getElementById('result').cloneNode(true);
        copy.querySelectorAll('small').forEach(e => e.remove());
        return copy.textContent === text }""",
        arg=text,
    )


def expected(text, gold):
    return [[text[start:end], label] for start, end, label in gold]


def slide(tab, name, value):
    """Move a slider."""
    tab.eval_on_selector(
        f"#{name}",
        "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')) }", str(value),
    )  # fmt: skip


def test_entities_are_marked_while_one_types(opened):
    tab = opened()
    assert shown(tab) == expected(TEXT, GOLD)
    tab.fill("#text", "")
    tab.locator("#text").press_sequentially(TEXTS[4][0], delay=5)
    wait_for_text(tab, TEXTS[4][0])
    assert shown(tab) == expected(*TEXTS[4])
    first = tab.locator("#result .entity").first
    assert first.get_attribute("title").startswith("PER · 0.")
    assert first.get_attribute("aria-label").startswith("张三, PER, 0.")
    assert "3 entities" in tab.inner_text("#status")
    assert tab.locator("#list tbody tr").count() == 3


def test_hostile_text_stays_text_and_offsets_are_those_of_characters(opened):
    text = "😀<img src=x onerror=alert(1)>" + TEXT + "</script>&amp;"
    tab = opened(fills=text)
    assert tab.locator("#result img").count() == 0
    # Select the characters of 清华大学 by keyboard in the box, and fix them.
    start = text.index("清华大学")
    units = start + 1  # the emoji has two
    tab.eval_on_selector(
        "#text", f"e => {{ e.focus(); e.setSelectionRange({units}, {units + 4}) }}"
    )
    tab.keyboard.press("Alt+f")
    assert "清华大学" in tab.inner_text("#fix-title")
    tab.keyboard.press("Enter")  # the first label has the focus
    tab.wait_for_selector("#result .entity.fixed")
    assert ["清华大学", "LOC"] in shown(tab)
    wait_for_text(tab, text)


def test_the_slider_hides_less_probable_entities(opened, unsure):
    tab = opened(unsure)
    all_shown = shown(tab)
    probabilities = [
        float(each.split(" · ")[1])
        for each in tab.eval_on_selector_all("#result .entity", "all => all.map(e => e.title)")
    ]
    assert len(all_shown) >= 2 and max(probabilities) < 0.99
    least = round(sorted(probabilities)[-1] - 0.005, 2)
    slide(tab, "threshold", least)
    kept = [e for e, p in zip(all_shown, probabilities, strict=True) if p >= least]
    assert shown(tab) == kept and len(kept) < len(all_shown)
    slide(tab, "threshold", 1)
    assert shown(tab) == [] and tab.inner_text("#status") == "no entities"


def test_an_entity_is_fixed_and_released_and_the_rest_is_decoded_around_it(opened):
    tab = opened()
    tab.click("#result .entity >> nth=1")
    assert "北京" in tab.inner_text("#fix-title")
    tab.click("#fix-labels button:text-is('ORG')")
    tab.wait_for_selector("#result .entity.fixed")
    assert ["北京", "ORG"] in shown(tab) and ["王小明", "PER"] in shown(tab)
    tab.click("#result .entity.fixed")
    tab.click("#fix-none")
    tab.wait_for_selector("#result .entity.empty")
    assert ["北京", "∅"] in shown(tab)
    tab.click("#release")
    tab.wait_for_selector("#result .entity.fixed", state="detached")
    assert shown(tab) == expected(TEXT, GOLD)


def test_characters_are_selected_with_the_mouse(opened):
    tab = opened()
    tab.evaluate(
        """() => { const result = document.getElementById('result'), range = document.createRange();
        range.setStart(result.childNodes[2], 0); range.setEnd(result.childNodes[3].firstChild, 2);
        getSelection().removeAllRanges(); getSelection().addRange(range);
        result.dispatchEvent(new Event('mouseup', {bubbles: true})) }"""
    )
    assert "昨天在北京" in tab.inner_text("#fix-title")
    tab.keyboard.press("Escape")
    assert tab.is_hidden("#fix")


def test_labels_are_switches(opened):
    tab = opened()
    tab.uncheck("#labels input[value=PER]")
    tab.wait_for_function(
        "() => ![...document.querySelectorAll('#result small')].some(e => e.textContent === 'PER')"
    )
    tab.check("#labels input[value=PER]")
    tab.wait_for_function(
        "() => [...document.querySelectorAll('#result small')].some(e => e.textContent === 'PER')"
    )


def test_readings_stand_side_by_side_and_candidates_can_be_fixed(opened, unsure):
    tab = opened(unsure)
    assert tab.locator("#readings li").count() == 3
    slide(tab, "nbest", 5)
    tab.wait_for_function("() => document.querySelectorAll('#readings li').length === 5")
    tops = tab.eval_on_selector_all(
        "#readings li", "all => all.map(e => e.getBoundingClientRect().top)"
    )
    assert len(set(tops)) < 5
    candidate = tab.locator("#candidate-list button").first
    text = candidate.evaluate("e => e.firstChild.textContent")
    candidate.click()
    tab.wait_for_selector("#result .entity.fixed")
    assert text in [each for each, _ in shown(tab)]


def test_names_are_tried_and_removed(opened):
    pytest.importorskip("ahocorasick_rs")
    tab = opened()
    tab.fill("#name", "昨天")
    tab.select_option("#name-label", "ORG")
    tab.select_option("#name-mode", "hard")
    tab.keyboard.press("Tab")
    tab.click("#dictionary-form button")
    tab.wait_for_function("() => document.querySelector('#result').textContent.includes('昨天ORG')")
    assert ["昨天", "ORG"] in shown(tab)
    tab.select_option("#language", "zh")
    assert tab.inner_text("#names button") == "昨天 · ORG · 一定是 ×"
    tab.click("#names button")
    tab.wait_for_function(
        "() => !document.querySelector('#result').textContent.includes('昨天ORG')"
    )
    assert tab.locator("#names button").count() == 0


def test_an_error_of_the_server_is_shown_as_one(opened):
    tab = opened()

    def fail(*_):
        raise Problem(429, "the server is busy: try again in 3 s", "server")

    tab.service.submit = fail
    tab.fill("#text", "张三在南京。")
    tab.wait_for_selector("#error:not([hidden])")
    assert "the server is busy: try again in 3 s" in tab.inner_text("#error")
    del tab.service.submit
    tab.fill("#text", "李四在南京。")
    tab.wait_for_selector("#error", state="hidden")
    # The browser itself reports the status; nothing else may be reported.
    assert opened.problems and all("429" in each for each in opened.problems)
    opened.problems.clear()


def test_the_token_is_asked_for(opened):
    tab = opened(token="secret")
    tab.wait_for_selector("#token-box")
    assert "token" in tab.inner_text("#error")
    tab.fill("#token", "secret")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#status:not(:empty)")
    assert tab.is_hidden("#token-box") and tab.is_hidden("#error")
    assert all("401" in each for each in opened.problems)
    opened.problems.clear()


def test_examples_languages_and_several_pipelines(opened):
    tab = opened(names=("one", "two"))
    tab.select_option("#pipeline", "two")
    tab.click("#examples button >> nth=1")
    assert tab.input_value("#text").startswith("新华社")
    tab.wait_for_function(
        "() => document.getElementById('result').textContent.startsWith('新华社')"
    )
    tab.select_option("#language", "zh")
    assert tab.inner_text("h1") == "命名实体识别"
    assert tab.get_attribute("html", "lang") == "zh"
    tab.reload()
    assert tab.inner_text("h1") == "命名实体识别"  # it is remembered
    left = tab.evaluate(
        "Object.keys(WORDS.en).filter(k => !(k in WORDS.zh)).concat("
        "[...document.querySelectorAll('[data-word]')].map(e => e.dataset.word)"
        ".filter(k => !(k in WORDS.en)))"
    )
    assert left == []


def test_the_entities_are_copied_as_json(opened):
    tab = opened(permissions=["clipboard-read", "clipboard-write"])
    tab.click("#copy")
    tab.wait_for_function("() => document.getElementById('status').textContent === 'Copied.'")
    found = json.loads(tab.evaluate("navigator.clipboard.readText()"))
    assert found["text"] == TEXT
    assert [(e["start"], e["end"], e["label"]) for e in found["entities"]] == GOLD
    assert {"candidates", "readings", "entropy"} <= found.keys()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 360)])
def test_it_is_accessible_and_fits_on_narrow_screens(opened, unsure, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    tab = opened(unsure, color_scheme=scheme, viewport={"width": width, "height": 800})
    tab.click("#result .entity >> nth=0")
    tab.click("#list-box summary")
    found = axe.Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # Everything that can be used is reached by the tabulator.
    reachable = tab.evaluate(
        "[...document.querySelectorAll('button, input, select, textarea, a')].every("
        "e => e.tabIndex >= 0)"
    )
    assert reachable
