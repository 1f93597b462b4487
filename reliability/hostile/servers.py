"""Downloads from a server on this machine that misbehaves.

    python -m reliability.hostile.servers

Good: the right file in the end, or an error that names file and address and leaves no file under
the final name, both in bounded time.
"""

import faulthandler
import gzip
import hashlib
import os
import socket
import socketserver
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from reliability.common import Result, parser_for

BODY = bytes(range(256)) * 2000
SHA = hashlib.sha256(BODY).hexdigest()
#: Seconds without progress after which a download gives up, and all that a case may take.
TIMEOUT, LIMIT = 0.5, 20.0
#: Bytes that a client may take from a server that sends without end, and what it took.
MOST = 200 << 20
sent: list[int] = []

Send = Callable[[socket.socket, str, int], None]


def reply(status: str = "200 OK", body: bytes = BODY, **headers: object) -> bytes:
    """An answer as bytes; names of headers have _ for -, and None is a header that is left out."""
    given = {"Content_Length": len(body), "Connection": "close", **headers}
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{k.replace('_', '-')}: {v}" for k, v in given.items() if v is not None]
    return "\r\n".join([*lines, "", ""]).encode() + body


def always(data: bytes) -> Send:
    return lambda sock, request, number: sock.sendall(data)


def stall(before: bytes) -> Send:
    """Send this, and then nothing."""

    def send(sock: socket.socket, request: str, number: int) -> None:
        sock.sendall(before)
        time.sleep(TIMEOUT * 4)

    return send


def dribble(sock: socket.socket, request: str, number: int) -> None:
    """A byte from time to time, so that no read ever times out."""
    sock.sendall(reply(body=b"", Content_Length=len(BODY)))
    for _ in range(200):
        sock.sendall(b"x")
        time.sleep(TIMEOUT / 10)


def endless(start: bytes, piece: bytes, pause: float = 0) -> Send:
    """Send this, and then a piece again and again, as long as they are read or the case lasts."""

    def send(sock: socket.socket, request: str, number: int) -> None:
        until = time.monotonic() + LIMIT
        sock.sendall(start)
        while time.monotonic() < until and sum(sent) < 2 * MOST:
            sock.sendall(piece)
            sent.append(len(piece))
            time.sleep(pause)

    return send


def cut(times: int, reset: bool = False, ranges: bool = True) -> Send:
    """End the connection in the middle, so many times."""

    def send(sock: socket.socket, request: str, number: int) -> None:
        start = 0
        if ranges and "bytes=" in request:
            start = int(request.split("bytes=")[1].split("-")[0])
        part = BODY[start:]
        span = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        more = {"Content_Range": span} if start else {}
        data = reply("206 Partial Content" if start else "200 OK", part, ETag='"1"', **more)
        sock.sendall(data[: len(data) - len(part) + 100_000] if number <= times else data)
        if number <= times and reset:
            linger = (1).to_bytes(4, sys.byteorder) + (0).to_bytes(4, sys.byteorder)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return send


def then(first: Send, second: Send, times: int = 1) -> Send:
    """One for the first requests, another one afterwards."""
    return lambda sock, request, number: (first if number <= times else second)(
        sock, request, number
    )


def redirect(to: str) -> Send:
    return always(reply("302 Found", b"", Location=to))


_CHUNKED = {"Content_Length": None, "Transfer_Encoding": "chunked"}
_PAGE = b"<!DOCTYPE html><html>login</html>"
GOOD = always(reply())

#: What the server does, whether the file comes in the end, and settings of the download.
CASES: list[tuple[str, Send, bool, dict[str, object]]] = [
    ("stalls before the headers", stall(b""), False, {}),
    ("stalls within the headers", stall(b"HTTP/1.1 200 OK\r\nContent-"), False, {}),
    ("stalls within the body", stall(reply()[:200_000]), False, {}),
    ("sends a byte from time to time", dribble, False, {}),
    ("stalls once", then(stall(b""), GOOD), True, {}),
    ("says more than it sends", always(reply(Content_Length=10**9)), False, {}),
    ("says less than it sends", always(reply(Content_Length=1000)), False, {}),
    ("says less than nothing", always(reply(Content_Length=-5)), False, {"sha256": "0" * 64}),
    ("says a length that is no number", always(reply(Content_Length="a lot")), True, {}),
    ("says a size of 10 TB", always(reply(Content_Length=10**13)), False, {"sha256": None}),
    ("sends without end", endless(
        reply(body=b"", Content_Length=None), bytes(1 << 16)), False, {"max_bytes": 1 << 22}),
    ("sends headers byte by byte", endless(b"HTTP/1.1 200 OK\r\nX: ", b"y", 0.01), False, {}),
    ("sends 100 Continue without end", endless(
        b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001), False, {}),
    ("sends trailers without end", endless(
        reply(body=b"2\r\nab\r\n0\r\n", **_CHUNKED), b"X: y\r\n", 0.001), False, {}),
    ("redirects once", then(redirect("/g"), GOOD), True, {}),
    ("sends HTML with status 200", always(reply(body=_PAGE, Content_Type="text/html")), False, {}),
    ("sends HTML as a binary file", always(reply(body=_PAGE)), False, {"sha256": None}),
    ("sends an empty file", always(reply(body=b"")), False, {}),
    ("redirects to itself for ever", redirect("/f"), False, {}),
    ("redirects with a body without end", endless(
        reply("302 Found", b"", Location="/g", Content_Length=None), bytes(1 << 16)), False, {}),
    ("redirects to a file of this machine", redirect("file:///etc/passwd"), False, {}),
    ("redirects to where nobody listens", redirect("http://127.0.0.1:9/f"), False, {}),
    ("cuts off twice", cut(2), True, {}),
    ("cuts off every time", cut(99, ranges=False), False, {}),
    ("resets the connection once", cut(1, reset=True), True, {}),
    ("sends another part than asked for", then(cut(1), always(
        reply("206 Partial Content", BODY[:5], Content_Range="bytes 0-4/5", ETag='"1"')), 1),
        False, {}),
    ("sends other bytes of the same size", always(reply(body=BODY[::-1])), False, {}),
    ("answers 500 for ever", always(reply("500 Oops", b"")), False, {}),
    ("answers 503 twice", then(always(reply("503 Busy", b"")), GOOD, 2), True, {}),
    ("answers 404 with a page", always(reply("404 Gone", _PAGE)), False, {}),
    ("answers 206 that nobody asked for", always(reply("206 Partial Content")), False, {}),
    ("answers 416", always(reply("416 No", b"")), False, {}),
    ("speaks no HTTP", always(b"\x16\x03\x01\x02\x00\x01\x00" * 20), False, {}),
    ("closes at once", always(b""), False, {}),
    ("sends 1,000 headers", always(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000), False, {}),
    ("sends a header of 1 MB", always(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10**6), False, {}),
    ("packs what it sends", always(
        reply(body=gzip.compress(BODY), Content_Encoding="gzip")), False, {}),
    ("sends chunks of bad length", always(
        reply(body=b"zz\r\nabc\r\n", **_CHUNKED)), False, {}),
    ("sends a chunk that claims 1 TB", always(
        reply(body=b"fffffffffff\r\nabc", **_CHUNKED)), False, {}),
    ("cuts off within a chunk", always(reply(body=b"10000\r\nabc", **_CHUNKED)), False, {}),
]  # fmt: skip


class Server(socketserver.ThreadingTCPServer):
    """Answers each connection with what `send` does."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, send: Send) -> None:
        self.send, self.number = send, 0
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are the point of this."""


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        text = b""
        while b"\r\n\r\n" not in text and (data := self.request.recv(65536)):
            text += data
        server.number += 1
        server.send(self.request, text.decode("latin1"), server.number)


def try_case(send: Send, comes: bool, settings: dict[str, object], folder: Path) -> str:
    """Run a case; what was wrong, or empty."""
    from scripts import downloads as module
    from spacy_bert_crf.errors import BertCrfError

    module.BACKOFF = 0.01
    options = {"sha256": SHA, "timeout": TIMEOUT, "lock": folder / "lock.json", **settings}
    dst = folder / "file.bin"
    sent.clear()
    with Server(send) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/f"
        began = time.monotonic()
        try:
            module.download(url, dst, **options)  # type: ignore[arg-type]
            wrong = "" if comes and dst.read_bytes() == BODY else "accepted"
        except BertCrfError as err:
            wrong = f"refused: {err}" if comes else ""
            if "file.bin" not in str(err) or url not in str(err):
                wrong = f"unclear: {err}"
            if dst.exists():
                wrong = "a file is there"
            if (folder / "lock.json").exists():
                wrong = "its hash was recorded"
        except Exception as err:
            wrong = f"{type(err).__name__}: {err}"
        finally:
            server.shutdown()
    seconds = time.monotonic() - began
    if not wrong and seconds > LIMIT:
        wrong = f"took {seconds:.1f} s"
    if not wrong and sum(sent) > MOST:
        wrong = f"took {sum(sent):,} bytes"
    return wrong


def main() -> int:
    parser_for(__doc__).parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    result = Result("servers")
    bad = []
    for what, send, comes, settings in CASES:
        # A hang says where it is, and ends the run.
        faulthandler.dump_traceback_later(3 * LIMIT, exit=True)
        with tempfile.TemporaryDirectory() as name:
            wrong = try_case(send, comes, settings, Path(name))
        if wrong:
            bad.append(f"{what}: {wrong}")
            print("  BAD", bad[-1], flush=True)
    faulthandler.cancel_dump_traceback_later()
    result.add(
        "a server that misbehaves",
        tries=len(CASES),
        bad=len(bad),
        command="python -m reliability.hostile.servers",
        note=f"{len(CASES)} kinds of misbehaviour, each one try",
        cases=[what for what, *_ in CASES],
        what_was_bad=bad,
    )
    result.write()
    return result.status()


if __name__ == "__main__":
    sys.exit(main())
