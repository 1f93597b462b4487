"""Benchmarks run in the process of the tests."""

import signal

import pytest


@pytest.fixture(autouse=True)
def same_signals():
    """SIGTERM is handled as before. A benchmark exits at it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
