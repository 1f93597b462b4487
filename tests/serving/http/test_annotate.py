"""POST /annotate: answers, and what is wrong with a request and where."""

import json

import pytest

from spacy_bert_crf.serving.annotator import Annotator
from spacy_bert_crf.serving.http.messages import AnnotateAnswer
from spacy_bert_crf.serving.options import Options, TextTask
from spacy_bert_crf.serving.settings import RequestLimits
from support.toys import TEXTS, characters

LIMITS = RequestLimits(chars=30, texts=3, body=2000)
TEXT = TEXTS[0][0]


def post(client, body, **headers):
    """Post a JSON value or bytes. RETURNS: the status and the JSON of the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(
        "/annotate", content=data, headers={"content-type": "application/json", **headers}
    )
    return answer.status_code, answer.json()


def test_texts_are_annotated_in_order(client, unsure):
    texts = [text for text, _ in TEXTS]
    status, answer = post(client, {"texts": texts})
    assert status == 200 and answer["pipeline"] == "toy"
    found = [[(e["start"], e["end"], e["label"]) for e in t["entities"]] for t in answer["texts"]]
    assert found == [characters(doc) for doc in unsure.pipe(texts)] and any(found)
    assert [e["text"] for e in answer["texts"][0]["entities"]] == [
        TEXT[a:b] for a, b, _ in found[0]
    ]


def test_options_reach_the_texts(client, unsure):
    options = {"scores": True, "candidates": 0.05, "threshold": 0.3, "nbest": 3}
    status, answer = post(client, {"texts": [TEXT], "labels": ["PER", "LOC"], **options})
    task = TextTask(TEXT, Options(**options, labels=("PER", "LOC")))
    (expected,) = Annotator(unsure, "toy").annotate([task])
    assert status == 200 and answer["texts"][0].keys() == expected.keys()
    assert answer["texts"][0]["entropy"] == pytest.approx(expected["entropy"], abs=1e-4)
    assert len(answer["texts"][0]["readings"]) == 3
    AnnotateAnswer.model_validate(answer)  # the form that the description promises


def test_a_text_has_its_own_id_entities_and_labels(client):
    texts = [
        {"text": TEXT, "id": 7, "entities": [{"start": 0, "end": 3, "label": "PER"}]},
        {"text": TEXT, "id": "b", "labels": []},
        {"text": TEXT, "entities": [{"start": 0, "end": 15, "label": None}]},
    ]
    status, answer = post(client, {"texts": texts, "labels": ["PER"]})
    assert status == 200
    first, second, third = answer["texts"]
    given = {"start": 0, "end": 3, "label": "PER", "text": "王小明", "fixed": True}
    assert first["id"] == 7 and first["entities"][0] == given
    assert {each["label"] for each in first["entities"]} == {"PER"}
    assert second == {"id": "b", "entities": []} and "id" not in third
    assert all(each["start"] >= 15 for each in third["entities"])


def test_no_texts_are_no_error(client):
    assert post(client, {"texts": []}) == (200, {"pipeline": "toy", "texts": []})


def test_a_pipeline_is_chosen_by_its_name(connect):
    client = connect("one", "two")
    assert post(client, {"texts": [TEXT]})[1]["pipeline"] == "one"
    assert post(client, {"texts": [TEXT], "pipeline": "two"})[1]["pipeline"] == "two"
    listed = client.get("/pipelines").json()
    assert [each["name"] for each in listed["pipelines"]] == ["one", "two"]
    assert listed["pipelines"][0]["labels"] == ["LOC", "ORG", "PER"]
    assert listed["limits"]["chars"] == RequestLimits().chars


BAD = [
    (b"", 400, "body", "is empty"),
    (b'{"texts": ["a"', 400, "body", "line 1, column 15"),
    (b'{"texts": ["\xff"]}', 400, "body", "byte 12 is not UTF-8"),
    (b'{"texts": ["a"], "threshold": NaN}', 400, "body", "NaN is no number of JSON"),
    (b"[" * 1900, 400, "body", "no JSON"),
    (["a"], 422, "body", "valid dictionary"),
    ({}, 422, "texts", "missing"),
    ({"texts": "a"}, 422, "texts", "valid list"),
    ({"texts": ["a", 5]}, 422, "texts[1]", "a text, or an object with a text"),
    ({"texts": [{"id": 1}]}, 422, "texts[0].text", "missing"),
    ({"texts": ["a"], "Texts": []}, 422, "Texts", "no such field"),
    ({"texts": ["\ud800a"]}, 422, "texts[0].text", "character 0 is half of a surrogate pair"),
    ({"texts": ["a"], "scores": "yes"}, 422, "scores", "valid boolean"),
    ({"texts": ["a"], "threshold": 1.5}, 422, "threshold", "less than or equal to 1"),
    ({"texts": ["a"], "candidates": 1e-9}, 422, "candidates", "0, or from 0.001 to 1"),
    ({"texts": ["a"], "nbest": 1000}, 422, "nbest", "less than or equal to 20"),
    ({"texts": ["a"], "nbest": True}, 422, "nbest", "valid integer"),
    ({"texts": ["a"], "labels": ["PER", "X"]}, 422, "texts[0].labels", "unknown: X"),
    ({"texts": ["a"], "pipeline": "b"}, 404, "pipeline", "use toy"),
    ({"texts": ["a" * 31]}, 413, "texts[0].text", "31 characters: at most 30"),
    ({"texts": ["a"] * 4}, 413, "texts", "at most 3"),
    ({"texts": ["a" * 2500]}, 413, "body", "more than 2,000 bytes"),
    (
        {"texts": ["ab", {"text": "ab", "entities": [{"start": 1, "end": 9, "label": "PER"}]}]},
        422, "texts[1].entities[0]", "number of characters",
    ),
    (
        {"texts": [{"text": "ab", "entities": [{"start": "0", "end": 1, "label": "PER"}]}]},
        422, "texts[0].entities[0].start", "valid integer",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "where", "message"), BAD)
def test_a_malformed_request_is_answered_with_what_and_where(connect, body, status, where, message):
    found, answer = post(connect(requests=LIMITS), body)
    assert (found, answer["problems"][0]["where"]) == (status, where), answer
    assert message in answer["problems"][0]["message"]
    assert answer["error"].startswith(f"{where}: ")


def test_all_that_is_wrong_is_told_at_once(client):
    status, answer = post(client, {"texts": [1, {"text": "a", "x": 2}], "nbest": -1})
    assert status == 422
    assert {each["where"] for each in answer["problems"]} == {"texts[0]", "texts[1].x", "nbest"}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_refused(client, kind):
    answer = client.post("/annotate", content=b'{"texts": []}', headers={"content-type": kind})
    assert answer.status_code == 415
    assert "send application/json" in answer.json()["error"]


def test_unknown_paths_and_methods_say_what_there_is(client):
    assert client.get("/nope").status_code == 404
    assert "/openapi.json" in client.get("/nope").json()["error"]
    answer = client.get("/annotate")
    assert answer.status_code == 405 and "use POST" in answer.json()["error"]


def test_a_text_that_fails_is_named_and_the_server_goes_on(connect, monkeypatch):
    client = connect()
    annotator = client.app.state.service.annotators["toy"]
    real = annotator._annotate

    def fail(tasks):
        if any("bad" in task.text for task in tasks):
            raise RuntimeError("broken\nwith details")
        return real(tasks)

    monkeypatch.setattr(annotator, "_annotate", fail)
    status, answer = post(client, {"texts": [TEXT, "bad"]})
    assert status == 500 and answer["problems"][0]["where"] == "texts[1]"
    assert "broken" in answer["error"] and "details" not in answer["error"]
    assert post(client, {"texts": [TEXT]})[0] == 200
