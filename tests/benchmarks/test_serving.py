"""The clients of the load benchmark: they ask for each text in turn, and keep what they get."""

import asyncio
import threading

import pytest
import spacy

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
import uvicorn

from benchmarks.serving import load
from benchmarks.serving.__main__ import entities, latency
from spacy_bert_crf.serving.annotator import Annotator
from spacy_bert_crf.serving.http.app import create_app
from spacy_bert_crf.serving.server import listen
from spacy_bert_crf.serving.settings import ServerSettings


@pytest.fixture(scope="module")
def nlp():
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "CITY", "pattern": "Paris"}])
    return nlp


@pytest.fixture(scope="module")
def port(nlp):
    """Where a server of the pipeline listens."""
    settings = ServerSettings(port=0)
    app = create_app({"rules": lambda: Annotator(nlp, "rules")}, settings)
    with listen(settings) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not app.state.service.batcher.is_ready:
                pass
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)


def test_clients_ask_for_all_texts_and_keep_the_answers(nlp, port):
    texts = ["in Paris", "Paris and Paris", "nowhere"]
    plan = {"port": port, "texts": texts, "clients": 4}
    found = asyncio.run(load.run({**plan, "seconds": 0.5}))
    assert {row[0] for row in found["rows"]} == {0, 1, 2} and found["seconds"] >= 0.5
    expected = [entities(nlp(text)) for text in texts]
    assert all(status == 200 and e == expected[i] for i, status, _, e in found["rows"])


def test_a_short_text_is_asked_for_in_turn_with_the_pipeline(nlp, port):
    found = asyncio.run(latency(nlp, port, "in Paris", 5))
    assert set(found) == {"nlp", "server", "ratio"}
    assert found["nlp"] > 0 and found["server"] > 0
    too_long = "x" * (ServerSettings().requests.chars + 1)
    with pytest.raises(RuntimeError, match="answered with 413"):
        asyncio.run(latency(nlp, port, too_long, 1))
