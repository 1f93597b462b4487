"""POST /annotate/stream: a line for each line, in order."""

import json

import pytest

from spacy_bert_crf.serving.batcher import BatchLimits
from spacy_bert_crf.serving.settings import RequestLimits
from support.toys import TEXTS, characters

KIND = {"content-type": "application/x-ndjson"}


def stream(client, body, query="", **headers):
    answer = client.post(f"/annotate/stream{query}", content=body, headers={**KIND, **headers})
    return answer.status_code, [json.loads(line) for line in answer.text.splitlines()]


def dumped(*values):
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()


def test_lines_are_answered_in_order(client, unsure):
    texts = [TEXTS[i % len(TEXTS)][0] for i in range(150)]
    status, answers = stream(client, dumped(*texts))
    assert status == 200 and [each["line"] for each in answers] == list(range(1, 151))
    expected = [characters(doc) for doc in unsure.pipe(texts[: len(TEXTS)])]
    found = [[(e["start"], e["end"], e["label"]) for e in each["entities"]] for each in answers]
    assert found == [expected[i % len(TEXTS)] for i in range(150)]


def test_options_and_forms_of_lines(client):
    lines = [
        {"text": TEXTS[0][0], "id": "a", "entities": [{"start": 0, "end": 2, "label": "ORG"}]},
        TEXTS[1][0],
    ]
    query = "?scores=true&candidates=0.05&nbest=2&labels=PER&labels=LOC"
    status, (first, second) = stream(client, dumped(*lines), query)
    assert status == 200 and first["id"] == "a" and first["entities"][0]["fixed"]
    assert {"line", "entities", "entropy", "candidates", "readings"} <= second.keys()
    labels = {e["label"] for each in (first, second) for e in each["entities"]}
    assert labels <= {"PER", "LOC", "ORG"} and len(second["readings"]) == 2


def test_a_bad_line_has_an_error_and_the_others_are_answered(connect):
    client = connect(requests=RequestLimits(chars=20))
    body = b"\n".join([
        b'"good"', b"", b'{"text": 5}', b"no json", b'"\xff"', b'{"text": "a", "x": 1}',
        json.dumps("a" * 21).encode(),
        b'{"text": "abc", "entities": [{"start": 2, "end": 1, "label": "PER"}]}', b'"last"',
    ])  # fmt: skip
    status, answers = stream(client, body)
    assert status == 200 and [each["line"] for each in answers] == [1, 3, 4, 5, 6, 7, 8, 9]
    assert all("entities" in answers[i] for i in (0, 7))
    places = [each["problems"][0]["where"] for each in answers if "problems" in each]
    assert places == ["text", "line", "line", "x", "text", "entities[0]"]


@pytest.mark.parametrize(("query", "where"), [("?nbest=99", "nbest"), ("?nope=1", "nope"),
                                              ("?threshold=x", "threshold")])  # fmt: skip
def test_bad_options_are_refused_before_the_stream(client, query, where):
    status, (answer,) = stream(client, b'"a"\n', query)
    assert status == 422 and answer["problems"][0]["where"] == where


def test_another_content_type_or_pipeline_is_refused(client):
    assert stream(client, b'"a"', **{"content-type": "text/plain"})[0] == 415
    assert stream(client, b'"a"', "?pipeline=b")[0] == 404


def test_an_empty_stream_has_no_answers(client):
    assert stream(client, b"\n\n") == (200, [])


def test_a_stream_waits_for_a_place_in_the_queue(connect):
    client = connect(batches=BatchLimits(texts=4, queue_texts=33), requests=RequestLimits(texts=8))
    status, answers = stream(client, dumped(*(["一"] * 300)))
    assert status == 200 and [each["line"] for each in answers] == list(range(1, 301))
    assert all("entities" in each for each in answers)


def test_a_body_that_is_too_long_is_refused(connect):
    client = connect(requests=RequestLimits(stream_body=1000))
    status, (answer,) = stream(client, dumped("a" * 1000))
    assert status == 413 and "more than 1,000 bytes" in answer["error"]
    # Of unknown length, it is refused where it is too long.
    status, answers = stream(client, iter([dumped("a" * 2000)]))
    assert status == 200 and "more than 1,000 bytes" in answers[-1]["error"]


def test_as_many_streams_as_allowed(connect):
    client = connect(requests=RequestLimits(streams=0))
    status, (answer,) = stream(client, b'"a"')
    assert status == 429 and "streams are in work" in answer["error"]
