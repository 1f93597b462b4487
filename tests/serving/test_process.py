"""The command as a process: ready, overload, SIGTERM, bad arguments."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.serving.server import listen
from spacy_bert_crf.serving.server import serve as run
from spacy_bert_crf.serving.settings import ServerSettings
from support.paths import ROOT
from support.toys import TEXTS, characters

PLAIN = {"Content-Type": "application/json"}
JSON = {**PLAIN, "Authorization": "Bearer secret"}
TEXT = TEXTS[0][0]


class Process:
    """A server in a process of its own.

    port: where it listens.
    """

    def __init__(self, *arguments, env=()):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spacy", "bert-crf", "serve", "--port", "0", *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **dict(env)},
        )  # fmt: skip
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("ready: "):
                self.port = int(line.rsplit(":", 1)[1])
                break

    def ask(self, body, path="/annotate", headers=JSON):
        """Post a body. RETURNS: the status, the headers, and the JSON of the answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request("POST", path, data, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.headers, json.loads(answer.read())
        finally:
            connection.close()

    def wait_for_open(self, count):
        """Wait until the server has this number of requests in work, that for metrics included."""
        for _ in range(200):
            connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
            connection.request("GET", "/metrics", headers=JSON)
            text = connection.getresponse().read().decode()
            connection.close()
            if int(float(re.findall(r"^bert_crf_requests_open (\S+)", text, re.M)[0])) >= count:
                return
            time.sleep(0.002)
        raise AssertionError(f"there were never {count} requests in work")

    def end(self, number=signal.SIGTERM):
        """Send a signal. RETURNS: the exit status and what was printed since."""
        self.process.send_signal(number)
        printed, _ = self.process.communicate(timeout=120)
        return self.process.returncode, printed


@pytest.fixture
def serve(unsure_path):
    """A function that starts a server of the toy. It is ended in any case."""
    started = []

    def start(*arguments, env=()):
        started.append(Process(*(arguments or (str(unsure_path),)), env=env))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        each.process.stdout.close()


def test_it_answers_overload_and_finishes_what_it_took(serve, unsure, unsure_path):
    server = serve(f"toy={unsure_path}", "--queue", "8", "--max-texts", "8", "--batch", "2",
                   "--grace", "100", env={"SPACY_BERT_CRF_TOKEN": "secret"})  # fmt: skip
    expected = characters(unsure(TEXT))
    assert server.ask({"texts": [TEXT]}, headers=PLAIN)[0] == 401
    status, _, answer = server.ask({"texts": [TEXT]})
    assert status == 200 and answer["pipeline"] == "toy"
    found = [(e["start"], e["end"], e["label"]) for e in answer["texts"][0]["entities"]]
    assert found == expected
    # A body that is too large is told, although the client sends all of it first.
    status, _, answer = server.ask(b'{"texts": ["' + b"a" * (3 << 20) + b'"]}')
    assert status == 413 and "more than 1,048,576 bytes" in answer["error"]
    # More than the queue takes: 429 for some, right answers for all others.
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: server.ask({"texts": [TEXT] * 8}), range(48)))
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 429}
    assert all(int(headers["Retry-After"]) >= 1 for status, headers, _ in answers if status == 429)
    for status, _, answer in answers:
        if status == 200:
            assert all(
                [(e["start"], e["end"], e["label"]) for e in text["entities"]] == expected
                for text in answer["texts"]
            )
    assert server.ask({"texts": [TEXT]})[0] == 200  # over
    # SIGTERM while requests are in work, and a stream whose body has not ended.
    stream = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    head = "POST /annotate/stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    line = json.dumps(TEXT).encode() + b"\n"
    stream.sendall(
        f"{head}Authorization: Bearer secret\r\nContent-Type: application/x-ndjson\r\n\r\n".encode()
    )
    stream.sendall(b"%x\r\n%s\r\n" % (len(line), line))
    received = stream.recv(65536)  # the answer begins while the request goes on
    with ThreadPoolExecutor(2) as pool:
        # With the line of the stream, which may still wait, no more than the queue takes.
        work = [pool.submit(server.ask, {"texts": [TEXT * 4] * 3}) for _ in range(2)]
        server.wait_for_open(4)
        ended = threading.Thread(target=lambda: result.append(server.end()))
        result = []
        ended.start()
        statuses = [each.result()[0] for each in work]
    while part := stream.recv(65536):
        received += part
    stream.close()
    ended.join(120)
    assert statuses == [200] * 2
    assert b'{"line":1,"entities":' in received and b"the server is stopping" in received
    assert received.endswith(b"0\r\n\r\n")
    status, printed = result[0]
    assert status == 0 and printed == "stopped; all that was taken is answered\n"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_a_pipeline_that_can_not_be_loaded_ends_it(serve, tmp_path):
    server = serve(str(tmp_path))
    assert server.process.wait(120) == 1
    assert "✘" in server.lines[-1] and str(tmp_path) in server.lines[-1]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BertCrfError, match="there is no pipeline folder .*none"):
        run({"toy": tmp_path / "none"}, ServerSettings(port=0))


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BertCrfError, match=f"port {port}.*Use another --port"):
            run({"toy": tmp_path}, ServerSettings(port=port))


def test_an_answer_is_sent_without_waiting_for_the_client_to_acknowledge_its_head():
    async def connected():
        found = asyncio.get_running_loop().create_future()

        def accepted(reader, writer):
            taken = writer.get_extra_info("socket")
            found.set_result(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listen(ServerSettings(port=0)) as listening:
            server = await asyncio.start_server(accepted, sock=listening)
            async with server:
                with socket.create_connection(listening.getsockname()[:2]):
                    return await asyncio.wait_for(found, 30)

    assert asyncio.run(connected())
