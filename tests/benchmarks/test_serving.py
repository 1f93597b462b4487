"""The clients of the load benchmark: they ask for each text in turn, and keep what they get."""

import asyncio
import threading

import pytest
import spacy

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
import uvicorn

from benchmarks.serving import load
from benchmarks.serving.__main__ import entities
from spacy_bert_crf.serving.annotator import Annotator
from spacy_bert_crf.serving.http.app import create_app
from spacy_bert_crf.serving.server import listen
from spacy_bert_crf.serving.settings import ServerSettings


def test_clients_ask_for_all_texts_and_keep_the_answers():
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "CITY", "pattern": "Paris"}])
    texts = ["in Paris", "Paris and Paris", "nowhere"]
    settings = ServerSettings(port=0)
    app = create_app({"rules": lambda: Annotator(nlp, "rules")}, settings)
    with listen(settings) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not app.state.service.batcher.is_ready:
                pass
            plan = {"port": listening.getsockname()[1], "texts": texts, "clients": 4}
            found = asyncio.run(load.run({**plan, "seconds": 0.5}))
        finally:
            server.should_exit = True
            thread.join(30)
    assert {row[0] for row in found["rows"]} == {0, 1, 2} and found["seconds"] >= 0.5
    expected = [entities(nlp(text)) for text in texts]
    assert all(status == 200 and e == expected[i] for i, status, _, e in found["rows"])
