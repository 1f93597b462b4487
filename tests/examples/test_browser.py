"""The example of a page that reads texts by onnxruntime-web, in a headless Chromium."""

import json
import os
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from support.browser import chromium
from support.mixed import mixed_texts
from support.paths import ROOT
from support.toys import TEXTS, characters

EXAMPLE = ROOT / "examples" / "browser"
#: Several sentences, Latin words, white space, characters beyond the first plane, nothing.
MORE = [
    "王小明在北京。他喜欢南京！\n张三呢？",
    "CEO张三在iphone，F-16在北京。",
    "\u200b张三😀在南京😀。",
    "",
    " \n",
]


class Handler(SimpleHTTPRequestHandler):
    """The example, with node_modules and the model from where they are."""

    def __init__(self, *args, model, modules, **more):
        self.places = {"model": model, "node_modules": modules}
        super().__init__(*args, directory=str(EXAMPLE), **more)

    def translate_path(self, path):
        first, _, rest = path.lstrip("/").partition("/")
        if first in self.places:
            return str(self.places[first] / rest)
        return super().translate_path(path)

    def log_message(self, *args):
        """Nothing is printed."""


def node_modules():
    """The folder that npm filled. The test is skipped without onnxruntime-web in it."""
    for folder in (os.environ.get("SPACY_BERT_CRF_NPM"), EXAMPLE):
        if folder and (Path(folder) / "node_modules" / "onnxruntime-web").is_dir():
            return Path(folder) / "node_modules"
    pytest.skip("no onnxruntime-web: npm install in examples/browser (SPACY_BERT_CRF_NPM)")


@pytest.fixture(scope="module")
def tab(toys):
    """The page with the zh toy. At the end there must be no error on the console."""
    handler = partial(Handler, model=toys["zh"].out / "onnx", modules=node_modules())
    problems = []
    with chromium() as browser, ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            tab = browser.new_page()
            tab.set_default_timeout(120_000)
            tab.on("console", lambda found: problems.append(found.text))
            tab.on("pageerror", lambda found: problems.append(str(found)))
            tab.goto(f"http://127.0.0.1:{server.server_address[1]}/")
            tab.wait_for_function("window.reader && !document.getElementById('status').textContent")
            yield tab
        finally:
            server.shutdown()
            thread.join(30)
    assert not [text for text in problems if "favicon" not in text and "404" not in text]


def test_the_page_finds_the_pipelines_entities(tab, toys):
    toy = toys["zh"]
    texts = [*toy.texts, *MORE]
    found = tab.evaluate(
        """async texts => {
        const out = [];
        for (const text of texts) out.push(await reader.entities(text));
        return out }""",
        texts,
    )
    wanted = [characters(doc) for doc in toy.nlp.pipe(texts)]
    assert sum(map(len, wanted)) > 20
    for text, got, want in zip(texts, found, wanted, strict=True):
        assert [(e["start"], e["end"], e["label"]) for e in got] == want, text
        assert all(e["text"] == text[e["start"] : e["end"]] for e in got)


def test_typing_shows_them(tab):
    tab.fill("#text", TEXTS[0][0])
    tab.wait_for_function("document.querySelectorAll('#result mark').length === 3")
    marks = tab.eval_on_selector_all("#result mark", "all => all.map(e => e.textContent)")
    assert marks == ["王小明PER", "北京LOC", "清华大学ORG"]
    tab.fill("#text", "张" * 600)
    tab.wait_for_function("document.getElementById('status').textContent.includes('too long')")


def test_wordpieces_are_those_of_the_tokenizer(tab, toys):
    tokenizer = Tokenizer.from_file(str(toys["zh"].out / "onnx" / "tokenizer.json"))
    texts = [
        *toys["zh"].texts,
        *MORE,
        *mixed_texts(300),
        "Café ÀÉÎ 한국 \x0b\x85a\ufffdb①½",
        "a" * 101,
    ]
    found = tab.evaluate("texts => texts.map(text => reader.wordpieces.read(text))", texts)
    for text, got in zip(texts, found, strict=True):
        want = tokenizer.encode(text, add_special_tokens=False)
        assert [piece["id"] for piece in got] == want.ids, text
        assert [(piece["start"], piece["end"]) for piece in got] == want.offsets, text


def test_regular_expressions_match_as_in_python(tab, toys):
    info = json.loads((toys["zh"].out / "onnx" / "best_model.json").read_text(encoding="utf8"))
    texts = [
        *mixed_texts(300),
        *MORE,
        "Dr. Li said 3.14. He left. No. 5 É. It's U.S.A. now",
        "é.A é. A",
    ]
    for key in ("sentence_end", "whole_words"):
        found = tab.evaluate(
            """async ([pattern, texts]) => {
            const { matches } = await import('./reader.js');
            return texts.map(text => matches(pattern, text)) }""",
            [info[key], texts],
        )
        for text, got in zip(texts, found, strict=True):
            assert got == [list(m.span()) for m in re.finditer(info[key], text)], (key, text)
