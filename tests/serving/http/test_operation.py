"""Token, hosts, metrics, readiness, overload, time-outs, and the description of the interface."""

import threading

import pytest
from fastapi.testclient import TestClient

from spacy_bert_crf.serving.annotator import Annotator
from spacy_bert_crf.serving.batcher import BatchLimits
from spacy_bert_crf.serving.http.app import create_app
from spacy_bert_crf.serving.http.messages import AnnotateRequest
from spacy_bert_crf.serving.settings import RequestLimits, ServerSettings
from support.toys import TEXTS

BODY = {"texts": [TEXTS[0][0]]}


class Gate:
    """Holds an annotator back until it is opened."""

    def __init__(self, client):
        self.opened = threading.Event()
        annotator = client.app.state.service.annotators["toy"]
        self._real = annotator.annotate
        annotator.annotate = self
        self.entered = threading.Event()

    def __call__(self, tasks):
        self.entered.set()
        assert self.opened.wait(30)
        return self._real(tasks)


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Basic secret", "Bearer", "secret",
                                   "Bearer s\xe9cret"])  # fmt: skip
def test_without_the_token_nothing_is_answered(connect, given):
    client = connect(token="secret")
    headers = {} if given is None else {"authorization": given.encode("latin-1")}
    for answer in (
        client.post("/annotate", json=BODY, headers=headers),
        client.get("/pipelines", headers=headers),
        client.get("/metrics", headers=headers),
        client.get("/openapi.json", headers=headers),
    ):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["problems"][0]["where"] == "Authorization"


def test_with_the_token_all_is_answered(connect):
    client = connect(token="secret")
    headers = {"authorization": "bearer secret"}
    assert client.post("/annotate", json=BODY, headers=headers).status_code == 200
    assert client.get("/health").status_code == client.get("/ready").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example:8000", 421)],
)
def test_a_local_server_answers_to_no_other_name(client, host, status):
    answer = client.post("/annotate", json=BODY, headers={"host": host})
    assert answer.status_code == status
    assert status == 200 or "--allowed-host" in answer.json()["error"]


def test_metrics_count_requests_texts_and_batches(connect):
    client = connect("toy", "other")
    client.post("/annotate", json={"texts": ["一", "二三"], "pipeline": "other"})
    client.post("/annotate", json={"texts": 1})
    client.get("/made/up/1")
    client.get("/made/up/2")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = dict(
        line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")
    )
    assert lines['bert_crf_requests_total{path="/annotate",status="200"}'] == "1.0"
    assert lines['bert_crf_requests_total{path="/annotate",status="422"}'] == "1.0"
    assert lines['bert_crf_requests_total{path="other",status="404"}'] == "2.0"
    assert lines['bert_crf_texts_total{pipeline="other"}'] == "2.0"
    assert lines['bert_crf_characters_total{pipeline="other"}'] == "3.0"
    assert lines["bert_crf_queue_texts"] == "0.0"
    assert int(float(lines['bert_crf_batch_texts_count{pipeline="other"}'])) >= 1


def test_ready_only_when_the_pipelines_are_loaded(unsure):
    gate = threading.Event()

    def load():
        assert gate.wait(30)
        return Annotator(unsure, "toy")

    app = create_app({"toy": load}, ServerSettings())
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/health").status_code == 200
        assert (client.get("/ready").status_code, client.get("/ready").json()) == (
            503, {"status": "loading"},
        )  # fmt: skip
        answer = client.post("/annotate", json=BODY)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "2"
        gate.set()
        app.state.service.batcher.wait_ready(30)
        assert client.get("/ready").json() == {"status": "ready"}
        app.state.service.draining.set()
        assert client.get("/ready").json() == {"status": "stopping"}


def test_a_failed_load_is_told(unsure):
    told = []
    happened = threading.Event()

    def load():
        raise ValueError("damaged")

    def loaded(err):
        told.append(err)
        happened.set()

    with TestClient(create_app({"toy": load}, ServerSettings(), loaded)) as client:
        assert happened.wait(30)
        assert client.get("/ready", headers={"host": "localhost"}).status_code == 503
        assert client.get("/health", headers={"host": "localhost"}).status_code == 503
    assert str(told[0]) == "damaged"


def test_overload_is_answered_with_429_and_is_over_soon(connect):
    client = connect(batches=BatchLimits(queue_texts=2), requests=RequestLimits(texts=2), grace=5)
    gate, statuses = Gate(client), []

    def ask():
        statuses.append(client.post("/annotate", json={"texts": ["一", "二"]}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    threads[0].start()
    assert gate.entered.wait(20)
    threads[1].start()
    while client.app.state.service.batcher.waiting[0] < 2:
        pass
    answer = client.post("/annotate", json=BODY)
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    assert "try again in" in answer.json()["error"]
    gate.opened.set()
    for thread in threads:
        thread.join(30)
    assert statuses == [200, 200]
    assert client.post("/annotate", json=BODY).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(connect):
    client = connect(requests=RequestLimits(timeout=0.3))
    gate = Gate(client)
    answer = client.post("/annotate", json=BODY)
    assert answer.status_code == 503 and "no answer within 0.3 s" in answer.json()["error"]
    gate.opened.set()
    assert client.post("/annotate", json=BODY).status_code == 200


def test_a_stuck_thread_is_no_health(connect):
    client = connect(requests=RequestLimits(timeout=0.05))
    gate = Gate(client)
    assert client.post("/annotate", json=BODY).status_code == 503
    assert gate.entered.is_set()
    while client.app.state.service.batcher.busy_seconds() < 0.3:
        pass
    assert (client.get("/health").status_code, client.get("/health").json()) == (
        503, {"status": "stuck"},
    )  # fmt: skip
    gate.opened.set()


def test_the_interface_is_described_with_examples_that_work(client):
    described = client.get("/openapi.json").json()
    assert described["openapi"].startswith("3.")
    assert {"/annotate", "/annotate/stream", "/pipelines", "/health", "/ready", "/metrics"} <= set(
        described["paths"]
    )
    schema = described["components"]["schemas"]["AnnotateRequest"]
    assert len(schema["examples"]) == 3
    for example in schema["examples"]:
        AnnotateRequest.model_validate(example)
        answer = client.post("/annotate", json=example)
        assert answer.status_code == 200, answer.json()
    statuses = described["paths"]["/annotate"]["post"]["responses"]
    assert {"200", "400", "401", "413", "415", "422", "429", "503"} <= set(statuses)
    problem = statuses["422"]["content"]["application/json"]["schema"]
    assert problem == {"$ref": "#/components/schemas/ProblemAnswer"}
    # No page that loads scripts of other sites.
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
