"""Batches: bounded, shared by requests in turn, and without waiting for a request alone."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from spacy_bert_crf.serving.batcher import Batcher, BatchLimits, Closed, QueueFull
from spacy_bert_crf.serving.options import TextTask


class Recorder:
    """Annotates by counting characters, one batch each time that it is let."""

    def __init__(self):
        self.batches, self._gate = [], threading.Semaphore(0)

    def __call__(self, pipeline, tasks):
        assert self._gate.acquire(timeout=20)
        self.batches.append((pipeline, [task.text for task in tasks]))
        if any(task.text == "fail" for task in tasks):
            raise RuntimeError("failed")
        return [{"entities": [], "text": task.text} for task in tasks]

    def let(self, n=100):
        self._gate.release(n)


@pytest.fixture
def started():
    """A function that starts a batcher with these limits. All are closed at the end."""
    batchers = []

    def start(**limits):
        recorder = Recorder()
        batcher = Batcher(recorder, BatchLimits(**limits), after=facts.append)
        batchers.append((batcher, recorder))
        batcher.start()
        return batcher, recorder

    facts = []
    start.facts = facts
    yield start
    for batcher, recorder in batchers:
        recorder.let(1000)
        batcher.close(20)
        assert not batcher.is_alive


def tasks(*texts):
    return [TextTask(text) for text in texts]


def texts_of(future):
    return [answer["text"] for answer in future.result(20)]


def occupy(batcher):
    """Queue a text, and wait until it is in work."""
    future = batcher.submit("a", tasks("first"))
    until = time.monotonic() + 20
    while batcher.waiting[0]:
        assert time.monotonic() < until
        time.sleep(0.001)
    return future


def test_requests_take_turns_and_answers_keep_their_order(started):
    batcher, recorder = started(texts=4, wait=0)
    first = occupy(batcher)
    long = batcher.submit("a", tasks("1", "2", "3", "4", "5"))
    short = batcher.submit("a", tasks("x"))
    last = batcher.submit("a", tasks("y", "z"))
    recorder.let()
    assert texts_of(long) == ["1", "2", "3", "4", "5"]
    assert (texts_of(short), texts_of(last), texts_of(first)) == (["x"], ["y", "z"], ["first"])
    batches = [texts for _, texts in recorder.batches]
    assert batches == [["first"], ["1", "x", "y", "2"], ["z", "3", "4", "5"]] or batches == [
        ["first"], ["1", "x", "y", "2"], ["3", "z", "4", "5"],
    ]  # fmt: skip
    assert batcher.waiting == (0, 0)


def test_batches_are_bounded_by_characters_and_pipelines_are_apart(started):
    batcher, recorder = started(texts=10, chars=4, wait=0)
    occupy(batcher)
    futures = [batcher.submit(name, tasks(text)) for name, text in
               (("a", "123"), ("b", "1"), ("a", "12"), ("a", "4"), ("b", "123456"))]  # fmt: skip
    recorder.let()
    for future in futures:
        future.result(20)
    assert recorder.batches[1:] == [
        ("a", ["123", "4"]), ("b", ["1"]), ("a", ["12"]), ("b", ["123456"]),
    ]  # fmt: skip


def test_a_full_queue_is_refused_with_an_estimate_and_takes_again_later(started):
    batcher, recorder = started(queue_texts=3, queue_chars=5)
    occupy(batcher)
    waiting = batcher.submit("a", tasks("1", "2"))
    for more in (tasks("1", "2"), tasks("1234")):
        with pytest.raises(QueueFull) as caught:
            batcher.submit("a", more)
        assert 1 <= caught.value.seconds <= 60
    batcher.submit("a", tasks("3"))
    recorder.let()
    assert texts_of(waiting) == ["1", "2"]
    assert texts_of(batcher.submit("a", tasks("4", "5", "6"))) == ["4", "5", "6"]


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits(started):
    batcher, recorder = started(queue_chars=3)
    recorder.let()
    assert texts_of(batcher.submit("a", tasks("12345"))) == ["12345"]


def test_cancelled_texts_are_left_out(started):
    batcher, recorder = started(texts=1, wait=0)
    occupy(batcher)
    gone, stays = batcher.submit("a", tasks("gone", "2")), batcher.submit("a", tasks("stays"))
    assert gone.cancel()
    recorder.let()
    assert texts_of(stays) == ["stays"]
    with pytest.raises(CancelledError):
        gone.result(0)
    assert [texts for _, texts in recorder.batches] == [["first"], ["stays"]]
    assert batcher.waiting == (0, 0)


def test_a_request_alone_does_not_wait_and_others_do(started):
    wait = 0.3
    batcher, recorder = started(wait=wait)
    recorder.let()
    begin = time.monotonic()
    for i in range(20):
        batcher.submit("a", tasks(str(i))).result(20)
    assert time.monotonic() - begin < wait  # none of the twenty has waited
    recorder._gate = threading.Semaphore(0)
    occupy(batcher)
    pair = [batcher.submit("a", tasks(text)) for text in "xy"]
    recorder.let()
    for future in pair:
        future.result(20)
    again = batcher.submit("a", tasks("p"))
    time.sleep(wait / 10)
    other = batcher.submit("a", tasks("q"))
    assert texts_of(again) == ["p"] and texts_of(other) == ["q"]
    assert recorder.batches[-1] == ("a", ["p", "q"])


def test_an_error_of_a_batch_becomes_its_answer_and_work_goes_on(started):
    batcher, recorder = started(wait=0)
    recorder.let()
    (answer,) = batcher.submit("a", tasks("fail")).result(20)
    assert isinstance(answer, RuntimeError) and str(answer) == "failed"
    assert texts_of(batcher.submit("a", tasks("next"))) == ["next"]
    batcher.close(20)
    assert [(each.texts, each.errors) for each in started.facts] == [(1, 1), (1, 0)]


def test_closing_answers_what_was_taken_and_takes_no_more(started):
    batcher, recorder = started(texts=1, wait=5)
    futures = [batcher.submit("a", tasks(str(i))) for i in range(5)]
    threading.Timer(0.05, recorder.let).start()
    batcher.close(20)
    assert [texts_of(future) for future in futures] == [[str(i)] for i in range(5)]
    with pytest.raises(Closed):
        batcher.submit("a", tasks("late"))


def test_an_error_at_the_beginning_is_told():
    def begin():
        raise OSError("no pipeline")

    batcher = Batcher(Recorder(), begin=begin)
    batcher.start()
    with pytest.raises(OSError, match="no pipeline"):
        batcher.wait_ready(20)
    assert not batcher.is_ready
    batcher.close(20)
