"""One batch is in flight: the device has the next one before the host reads the last."""

import pytest
import spacy
import thinc.api

from spacy_bert_crf.model import crf_batches, layers
from support.toys import TEXTS, entities, load_pipeline
from tests.cuda.pretend import LOG

#: Two texts of a batch. Batches of the same texts need the same launches.
PAIR = [TEXTS[0][0], TEXTS[6][0]]
FAILS_FIRST, FAILS_LAST = "张三和李四", "李四"


@pytest.fixture
def pipe(trained_path):
    """The component on the device. It has predicted before."""
    nlp = load_pipeline(trained_path)
    list(nlp.pipe(PAIR))
    LOG.reset()
    return nlp.get_pipe("bert_crf")


def docs_of(pipe, texts):
    nlp = spacy.blank("zh", vocab=pipe.vocab)
    return [nlp.make_doc(text) for text in texts]


def test_the_next_batch_is_launched_before_a_batch_is_read(pipe):
    list(pipe.pipe(docs_of(pipe, PAIR), batch_size=2))
    one = LOG.launches.total()
    assert one and LOG.launches_before == [one]
    LOG.reset()
    docs = list(pipe.pipe(docs_of(pipe, PAIR * 3), batch_size=2))
    assert LOG.launches_before == [2 * one, 3 * one, 3 * one]
    assert LOG.launches.total() == 3 * one and len(LOG.copies_in) == 3
    assert [doc.text for doc in docs] == PAIR * 3
    found = [entities(doc) for doc in docs]
    assert all(found) and found == found[:2] * 3


def test_docs_come_when_the_next_batch_is_launched(pipe):
    stream, read = docs_of(pipe, PAIR * 3), []
    found = pipe.pipe((read.append(doc) or doc for doc in stream), batch_size=2)
    assert next(found) is stream[0]
    assert len(read) == 5  # two batches, and the doc that shows that the second is full
    assert list(found) == stream[1:]


def order_of_calls(model):
    calls = []

    def begin(batch):
        calls.append(f"begin {batch}")
        return batch

    def end(batch, begun):
        assert begun in (batch, None)
        calls.append(f"end {batch}")

    for batch, err in layers.in_flight(model, ["a", "b", "c"], begin, end):
        assert err is None
        calls.append(f"out {batch}")
    return ", ".join(calls)


def test_order_of_batches(pipe, trained_path):
    assert order_of_calls(pipe.model) == (
        "begin a, begin b, end a, out a, begin c, end b, out b, end c, out c"
    )
    thinc.api.require_cpu()
    assert order_of_calls(load_pipeline(trained_path).get_pipe("bert_crf").model) == (
        "end a, out a, end b, out b, end c, out c"
    )


def test_errors_come_in_the_order_of_the_docs(pipe, monkeypatch):
    texts = ["张三", FAILS_FIRST, FAILS_LAST, "南京", FAILS_LAST, FAILS_FIRST, FAILS_FIRST, "北京"]
    predict, decode, events = layers.predict_emissions, crf_batches.decode, []

    def failing_predict(model, docs):
        if docs[0].text == FAILS_FIRST:
            raise RuntimeError("first")
        return predict(model, docs)

    def failing_decode(crf, emissions, allowed=()):
        ids, impossible = decode(crf, emissions, allowed)
        if failing.pop(0):
            raise RuntimeError("last")
        return ids, impossible

    failing = [text == FAILS_LAST for text in texts if text != FAILS_FIRST]
    monkeypatch.setattr(layers, "predict_emissions", failing_predict)
    monkeypatch.setattr(crf_batches, "decode", failing_decode)
    pipe.set_error_handler(lambda name, proc, docs, err: events.append((docs[0].text, str(err))))
    for doc in pipe.pipe(docs_of(pipe, texts), batch_size=1):
        events.append((doc.text, ""))
    kinds = {FAILS_FIRST: "first", FAILS_LAST: "last"}
    assert events == [(text, kinds.get(text, "")) for text in texts]
