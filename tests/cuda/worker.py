"""The subprocess that runs tests on the pretend device, one after another, as it is told.

A pytest plugin. The outer pytest writes a line of JSON for each test to a pipe: `[node id, node id
of the next test or null]`. This process writes the reports of the test to another pipe, a line of
JSON each, and null when the test has ended.
"""

import json
import os
from typing import Any

import pytest

#: File numbers of the pipes for orders and reports, with a comma between.
PIPES = "SPACY_BERT_CRF_PRETEND_PIPES"


class Worker:
    """Runs the tests that are ordered, and sends their reports."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        orders, reports = map(int, os.environ.pop(PIPES).split(","))
        self.orders, self.reports = os.fdopen(orders), os.fdopen(reports, "w")

    def send(self, message: Any) -> None:
        self.reports.write(json.dumps(message) + "\n")
        self.reports.flush()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        for line in self.orders:
            name, following = json.loads(line)
            item, nextitem = items[name], items.get(following)
            self.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
            self.send(None)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        hook = self.config.hook
        self.send(hook.pytest_report_to_serializable(config=self.config, report=report))


def pytest_configure(config: pytest.Config) -> None:
    if PIPES in os.environ:
        config.pluginmanager.register(Worker(config), "pretend-cuda-worker")


@pytest.fixture(autouse=True)
def _on_the_device() -> Any:
    """Each test starts on the pretend A100, with an empty log."""
    import spacy
    import thinc.api

    from tests.cuda.pretend import LOG, torch_cuda, transfers

    torch_cuda.use_card(torch_cuda.A100)
    spacy.require_gpu()
    LOG.reset()
    yield
    transfers.finish()  # a pinned buffer that was overwritten too early is this test's error
    thinc.api.require_cpu()  # for fixtures of the session: they are the CPU's
