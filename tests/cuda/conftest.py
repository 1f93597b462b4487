"""Runs the tests of `cases/` in a subprocess that has the pretend CUDA device.

The device must be there before torch is imported, so this process can't have it. One subprocess
runs all of these tests, and each is a test with a result of its own here.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.cuda.pretend.environment import ROOT, VARIABLE, environment
from tests.cuda.pretend.guard import reason_not_to_run
from tests.cuda.worker import PIPES

CASES = Path(__file__).with_name("cases")
#: Options of the outer pytest that its subprocess must not take.
_NOT_FOR_THE_WORKER = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST")


#: After so many broken subprocesses, the remaining tests fail without another.
_TRIES = 3


class Device:
    """The subprocess. It starts with the first test, and ends with the session."""

    started = 0

    def __init__(self) -> None:
        Device.started += 1
        if Device.started > _TRIES:
            raise RuntimeError(f"the process of the pretend device ended {_TRIES} times")
        order_reader, order_writer = os.pipe()
        report_reader, report_writer = os.pipe()
        env = environment() | {PIPES: f"{order_reader},{report_writer}"}
        for name in _NOT_FOR_THE_WORKER:
            env.pop(name, None)
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        self.process = subprocess.Popen(
            [*command, "-p", "tests.cuda.worker", str(CASES)],
            cwd=ROOT, env=env, pass_fds=[order_reader, report_writer],
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        os.close(order_reader)
        os.close(report_writer)
        self.orders, self.reports = os.fdopen(order_writer, "w"), os.fdopen(report_reader)

    def run(self, name: str, following: Optional[str]) -> Iterator[Any]:
        """Run a test. YIELDS: its reports, serialised.

        Raises RuntimeError, with the end of the subprocess's output, if it is no longer there.
        """
        with contextlib.suppress(BrokenPipeError):
            self.orders.write(json.dumps([name, following]) + "\n")
            self.orders.flush()
        for line in self.reports:
            if (report := json.loads(line)) is None:
                return
            yield report
        code = self.process.wait()
        self.output.seek(0)
        tail = self.output.read()[-4000:]
        raise RuntimeError(f"the process of the pretend device ended with {code}:\n{tail}")

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.orders.close()
        self.process.wait()


_devices: list[Device] = []


def _is_case(item: Optional[pytest.Item]) -> bool:
    return item is not None and CASES in item.path.parents


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything here where the device can't be built."""
    if reason := reason_not_to_run():
        for item in items:
            if CASES.parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: Optional[pytest.Item]) -> Optional[bool]:
    """Let the subprocess run a case, and report what it reports."""
    if VARIABLE in os.environ or reason_not_to_run() or not _is_case(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    try:
        if not _devices:
            _devices.append(Device())
        following = nextitem.nodeid if nextitem is not None and _is_case(nextitem) else None
        for data in _devices[0].run(item.nodeid, following):
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
            if isinstance(report.longrepr, list):  # place and reason of a skip, from JSON
                report.longrepr = tuple(report.longrepr)
            item.ihook.pytest_runtest_logreport(report=report)
    except (RuntimeError, OSError) as err:
        _report_failure(item, err)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _report_failure(item: pytest.Item, err: Exception) -> None:
    _devices.clear()  # the next test starts another process

    def fail() -> None:
        raise err

    call = pytest.CallInfo.from_call(fail, "call")
    report = pytest.TestReport.from_item_and_call(item, call)
    report.longrepr = str(err)
    item.ihook.pytest_runtest_logreport(report=report)


def pytest_sessionfinish() -> None:
    for device in _devices:
        device.close()
    _devices.clear()
