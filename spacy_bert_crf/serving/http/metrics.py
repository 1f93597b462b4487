"""Metrics in the format of Prometheus."""

from collections.abc import Callable
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ..batcher import BatchFacts

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The metrics of one server.

    waiting: gives the numbers of texts and of characters that wait.
    """

    def __init__(self, waiting: Callable[[], tuple[int, int]]) -> None:
        registry = self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.requests = Counter(
            "bert_crf_requests", "Requests by path and status", ["path", "status"],
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "bert_crf_request_seconds", "Seconds from a request to the end of its answer",
            ["path"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.open = Gauge("bert_crf_requests_open", "Requests in work", registry=registry)
        self._texts = _counter("texts", "Texts that were annotated", registry)
        self._chars = _counter("characters", "Characters that were annotated", registry)
        self._entities = _counter("entities", "Entities that were found", registry)
        self._errors = _counter("text_errors", "Texts that could not be annotated", registry)
        self._batch_texts = Histogram(
            "bert_crf_batch_texts", "Texts of a batch", ["pipeline"], buckets=_SIZES,
            registry=registry,
        )  # fmt: skip
        self._batch_seconds = Histogram(
            "bert_crf_batch_seconds", "Seconds of a batch", ["pipeline"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._waited = Histogram(
            "bert_crf_wait_seconds", "Seconds that a text waits for its batch", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        for i, what in enumerate(("texts", "characters")):
            gauge = Gauge(
                f"bert_crf_queue_{what}", f"{what.capitalize()} that wait", registry=registry
            )
            gauge.set_function(partial(_item, waiting, i))

    def add_batch(self, facts: BatchFacts) -> None:
        """Count a batch."""
        name = facts.pipeline
        self._texts.labels(name).inc(facts.texts)
        self._chars.labels(name).inc(facts.chars)
        self._entities.labels(name).inc(facts.entities)
        self._errors.labels(name).inc(facts.errors)
        self._batch_texts.labels(name).observe(facts.texts)
        self._batch_seconds.labels(name).observe(facts.seconds)
        for seconds in facts.waited:
            self._waited.observe(seconds)

    def text(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self._registry)


def _item(waiting: Callable[[], tuple[int, int]], i: int) -> float:
    return waiting()[i]


def _counter(name: str, meaning: str, registry: CollectorRegistry) -> Counter:
    return Counter(f"bert_crf_{name}", f"{meaning}, by pipeline", ["pipeline"], registry=registry)
