"""Download from a server on this machine that misbehaves.

    python -m reliability.hostile.servers

A case passes if the right file is there in the end. It also passes with an error that names file
and address and leaves no file under the final name. Both must happen in bounded time.
"""

import faulthandler
import gzip
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
#: Limits in seconds: of the server's silence, of a download, of a case.
TIMEOUT, TOTAL, LIMIT = 0.5, 8.0, 12.0
#: Bytes that a client may take from an endless answer.
MOST = 200 << 20
#: Sizes of the pieces that were sent in the present case.
sent: list[int] = []

Send = Callable[[socket.socket, str, int], None]


def reply(status: str = "200 OK", body: bytes = BODY, **headers: object) -> bytes:
    """An answer as bytes. Names of headers have _ for -, and None leaves a header out."""
    fields = {"Content_Length": len(body), "Connection": "close", **headers}
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{k.replace('_', '-')}: {v}" for k, v in fields.items() if v is not None]
    return "\r\n".join([*lines, "", ""]).encode() + body


def check_body(path: Path) -> None:
    """The check of a download: raise BertCrfError unless it is BODY."""
    from spacy_bert_crf.errors import BertCrfError

    if path.read_bytes() != BODY:
        raise BertCrfError(f"{path} is not the body")


def always(data: bytes) -> Send:
    return lambda sock, request, number: sock.sendall(data)


def stall(before: bytes) -> Send:
    """Send some bytes, and then nothing."""

    def send(sock: socket.socket, request: str, number: int) -> None:
        sock.sendall(before)
        time.sleep(TIMEOUT * 4)

    return send


def dribble(sock: socket.socket, request: str, number: int) -> None:
    """Send a byte from time to time, so that no read times out."""
    sock.sendall(reply(body=b"", Content_Length=len(BODY)))
    for _ in range(200):
        sock.sendall(b"x")
        time.sleep(TIMEOUT / 10)


def endless(start: bytes, piece: bytes, pause: float = 0) -> Send:
    """Send `start`, then `piece` again and again while the client reads and the case lasts."""

    def send(sock: socket.socket, request: str, number: int) -> None:
        until = time.monotonic() + LIMIT
        sock.sendall(start)
        while time.monotonic() < until and sum(sent) < 2 * MOST:
            sock.sendall(piece)
            sent.append(len(piece))
            time.sleep(pause)

    return send


def cut(times: int, reset: bool = False) -> Send:
    """End the first `times` connections in the middle."""

    def send(sock: socket.socket, request: str, number: int) -> None:
        data = reply()
        sock.sendall(data[:-100_000] if number <= times else data)
        if number <= times and reset:
            linger = (1).to_bytes(4, sys.byteorder) + (0).to_bytes(4, sys.byteorder)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return send


def then(first: Send, second: Send, times: int = 1) -> Send:
    """Use `first` for the first requests and `second` afterwards."""
    return lambda sock, request, number: (first if number <= times else second)(
        sock, request, number
    )


def redirect(to: str) -> Send:
    return always(reply("302 Found", b"", Location=to))


_CHUNKED = {"Content_Length": None, "Transfer_Encoding": "chunked"}
_PAGE = b"<!DOCTYPE html><html>login</html>"
GOOD = always(reply())

#: What the server does, whether the file arrives in the end, and options of the download.
CASES: list[tuple[str, Send, bool, dict[str, object]]] = [
    ("stalls before the headers", stall(b""), False, {}),
    ("stalls within the headers", stall(b"HTTP/1.1 200 OK\r\nContent-"), False, {}),
    ("stalls within the body", stall(reply()[:200_000]), False, {}),
    ("sends a byte from time to time", dribble, False, {}),
    ("stalls once", then(stall(b""), GOOD), True, {}),
    ("says more than it sends", always(reply(Content_Length=10**9)), False, {}),
    ("says less than it sends", always(reply(Content_Length=1000)), False, {}),
    ("says less than nothing", always(reply(Content_Length=-5)), True, {}),
    ("says a length that is no number", always(reply(Content_Length="a lot")), True, {}),
    ("says a size of 10 TB", always(reply(Content_Length=10**13)), False, {"check": None}),
    ("sends without end", endless(
        reply(body=b"", Content_Length=None), bytes(1 << 16)), False, {"max_bytes": 1 << 22}),
    ("sends headers byte by byte", endless(b"HTTP/1.1 200 OK\r\nX: ", b"y", 0.01), False, {}),
    ("sends 100 Continue without end", endless(
        b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001), False, {}),
    ("sends trailers without end", endless(
        reply(body=b"2\r\nab\r\n0\r\n", **_CHUNKED), b"X: y\r\n", 0.001), False, {}),
    ("redirects once", then(redirect("/g"), GOOD), True, {}),
    ("sends HTML with status 200", always(reply(body=_PAGE, Content_Type="text/html")), False, {}),
    ("sends HTML as a binary file", always(reply(body=_PAGE)), False, {"check": None}),
    ("sends an empty file", always(reply(body=b"")), False, {}),
    ("redirects to itself for ever", redirect("/f"), False, {}),
    ("redirects with a body without end", endless(
        reply("302 Found", b"", Location="/g", Content_Length=None), bytes(1 << 16)), False, {}),
    ("redirects to a file of this machine", redirect("file:///etc/passwd"), False, {}),
    ("redirects to where nobody listens", redirect("http://127.0.0.1:9/f"), False, {}),
    ("cuts off twice", cut(2), True, {}),
    ("cuts off every time", cut(99), False, {}),
    ("resets the connection once", cut(1, reset=True), True, {}),
    ("sends other bytes of the same size", always(reply(body=BODY[::-1])), False, {}),
    ("answers 500 for ever", always(reply("500 Oops", b"")), False, {}),
    ("answers 503 twice", then(always(reply("503 Busy", b"")), GOOD, 2), True, {}),
    ("answers 404 with a page", always(reply("404 Gone", _PAGE)), False, {}),
    ("answers 206 without a range request", always(reply("206 Partial Content")), False, {}),
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
    """Answers each connection by calling `send`."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, send: Send) -> None:
        self.send, self.number = send, 0
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: many clients hang up."""


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
    """Run a case; return what was wrong, or an empty string."""
    from scripts import downloads as module
    from spacy_bert_crf.errors import BertCrfError

    module.BACKOFF = 0.01
    options = {"check": check_body, "timeout": TIMEOUT, "max_seconds": TOTAL}
    options |= {"lock": folder / "lock.json", **settings}
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
