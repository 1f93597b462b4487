"""Downloads from a local server that behaves well or badly, and checks of files."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import signal
import socket
import tarfile
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from scripts import download_checks, downloads
from scripts.download_checks import (
    check_checkpoint_file,
    check_json,
    check_tar_gz,
    check_vocab,
    extract_tar,
)
from scripts.downloads import download
from spacy_bert_crf.errors import BertCrfError

BODY = bytes(range(256)) * 2000  # 512,000 bytes
OTHER = bytes(reversed(range(256))) * 2000
SHA = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves the server's `body` as its settings say; records the requests."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        number = len(server.requests)
        if self.path == "/moved":
            return self.redirect()
        if server.endless:
            return self.go_on_and_on(*server.endless)
        if self.path != "/f":
            return self.answer(404, b"no such file")
        if number <= server.failures:
            return self.answer(server.failure_status, b"try later")
        body, status, headers = server.body, server.status, dict(server.headers)
        sent = body[: server.stop_after] if number <= server.cuts else body
        if server.chunked:
            self.send(status, {**headers, "Transfer-Encoding": "chunked"})
            for at in range(0, len(sent), 100_000):
                piece = sent[at : at + 100_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if len(sent) == len(body):
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.send(status, {"Content-Length": str(len(body)), **headers})
            self.wfile.write(sent)
        if len(sent) < len(body) or server.chunked:
            self.close_connection = True
        return None

    def redirect(self):
        """To /f, with a body that is as long as the client reads it."""
        self.close_connection = True
        to = "/moved" if self.server.circle else "/f"
        self.send(302, {"Location": to, "Connection": "close"})
        with contextlib.suppress(OSError):
            while self.server.moved < 200_000_000:
                self.wfile.write(bytes(1 << 16))
                self.server.moved += 1 << 16

    def go_on_and_on(self, start, piece):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(start)
            for _ in range(300):
                self.wfile.write(piece)
                time.sleep(0.01)

    def send(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def answer(self, status, body, headers=()):
        self.send(status, {"Content-Length": str(len(body)), **dict(headers)})
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "BACKOFF", 0.001)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.url = f"http://127.0.0.1:{server.server_port}/f"
        server.body, server.headers, server.requests = BODY, {"ETag": '"one"'}, []
        server.status, server.chunked = 200, False
        server.failures, server.failure_status = 0, 503
        server.endless = ()  # a start and a piece that is sent again and again
        server.moved = 0  # bytes of redirects' bodies
        server.circle = False  # whether /moved redirects to itself
        server.cuts, server.stop_after = 0, 200_000  # the first so many answers are cut
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def dst(tmp_path):
    return tmp_path / "sub" / "file.bin"


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def refused(server, dst, match, left=(), **options):
    with pytest.raises(BertCrfError, match=match) as caught:
        download(server.url, dst, **options)
    assert names(dst.parent) == list(left)
    message = str(caught.value)
    assert dst.name in message and server.url in message and "Check the address" in message
    return message


def is_body(path):
    if path.read_bytes() != BODY:
        raise BertCrfError(f"{path} is not the body")


def test_whole_file(server, dst):
    download(server.url, dst, check=is_body)
    assert dst.read_bytes() == BODY
    assert names(dst.parent) == [dst.name]
    assert server.requests[0]["Accept-Encoding"] == "identity"
    assert dst.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_good_file_is_not_fetched_again(server, dst):
    dst.parent.mkdir()
    dst.write_bytes(BODY)
    download(server.url, dst, check=is_body)
    download(server.url, dst)
    assert server.requests == []


def test_bad_file_is_fetched_again(server, dst):
    dst.parent.mkdir()
    dst.write_bytes(BODY[:-1])
    download(server.url, dst, check=is_body)
    assert dst.read_bytes() == BODY
    assert names(dst.parent) == [dst.name]


def test_bad_file_stays_where_there_is_no_better_one(server, dst):
    dst.parent.mkdir()
    dst.write_bytes(b"my own work")
    server.failures = 99
    message = refused(server, dst, "503", left=["file.bin"], check=is_body)
    assert "file that is there can't be used" in message and "is not the body" in message
    assert dst.read_bytes() == b"my own work"


@pytest.mark.parametrize("chunked", [False, True])
def test_starts_again_after_a_broken_connection(server, dst, chunked):
    server.cuts, server.chunked = 2, chunked
    download(server.url, dst)
    assert dst.read_bytes() == BODY
    assert len(server.requests) == 3 and not any("Range" in r for r in server.requests)
    assert names(dst.parent) == [dst.name]


@pytest.mark.parametrize("chunked", [False, True])
def test_short_body(server, dst, chunked):
    server.cuts, server.chunked = 99, chunked
    refused(server, dst, "no connection", retries=2)
    assert len(server.requests) == 3


def test_chunked(server, dst):
    server.chunked, server.headers = True, {}
    download(server.url, dst)
    assert dst.read_bytes() == BODY


def test_passing_trouble(server, dst):
    server.failures = 3
    download(server.url, dst)
    assert len(server.requests) == 4
    dst.unlink()
    server.requests.clear()
    server.failures, server.failure_status = 99, 429
    refused(server, dst, "the server answers 429", retries=1)
    assert len(server.requests) == 2


def test_bodies_of_redirects_are_not_read(server, dst):
    download(server.url.replace("/f", "/moved"), dst, check=is_body, timeout=5)
    assert dst.read_bytes() == BODY
    assert 0 < server.moved < 100_000_000  # what fits between the sockets


def test_redirects_in_a_circle(server, dst):
    server.circle = True
    server.url = server.url.replace("/f", "/moved")
    refused(server, dst, "30 redirects")
    assert len(server.requests) == 31


def test_not_found(server, dst):
    server.url += "/other"
    refused(server, dst, "the server answers 404 Not Found")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [206, 304])
def test_answers_that_are_no_whole_file(server, dst, status):
    server.status = status
    refused(server, dst, f"the server answers {status}")
    assert len(server.requests) == 1


@pytest.mark.parametrize("ctype", ["text/html; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("body", [b"<!DOCTYPE html><p>log in", b"\xef\xbb\xbf\n <HTML><body>"])
def test_web_page(server, dst, ctype, body):
    server.body, server.headers = body, {"Content-Type": ctype}
    refused(server, dst, "web page")
    assert len(server.requests) == 1


def test_web_page_by_its_type_only(server, dst):
    server.body, server.headers = b"Please log in", {"Content-Type": "text/html"}
    refused(server, dst, "answers with a web page")


def test_wrong_content(server, dst):
    server.body = OTHER
    refused(server, dst, "sub/file.bin is not the body", check=is_body)
    assert len(server.requests) == 1


def test_gz_stays_gz_and_other_content_encodings_are_refused(server, dst):
    server.body = gzip.compress(BODY)
    server.headers = {"Content-Encoding": "x-gzip"}
    refused(server, dst, "in another encoding .x-gzip")
    archive = dst.with_name("a.tar.gz")
    download(server.url, archive)
    assert archive.read_bytes() == server.body


def test_unreachable(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "BACKOFF", 0.001)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/vocab.txt"
    with pytest.raises(BertCrfError) as caught:
        download(url, tmp_path / "vocab.txt")
    assert f"can't get vocab.txt from {url}: no connection" in str(caught.value)
    assert "refused" in str(caught.value) and "object at 0x" not in str(caught.value)
    assert names(tmp_path) == []


def test_silent_server(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/f"
        with pytest.raises(BertCrfError, match="no answer for 0.2 seconds"):
            download(url, tmp_path / "f", retries=0, timeout=0.2)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"


@pytest.mark.parametrize(
    "endless",
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED, b"X: y\r\n"),
    ],
    ids=["headers", "interim answers", "trailers"],
)
def test_endless_answers_end_at_the_time_limit(server, dst, endless):
    server.endless = endless
    began = time.monotonic()
    refused(server, dst, "took more than 0.4 seconds", max_seconds=0.4)
    assert time.monotonic() - began < 2


def test_a_slow_body_ends_at_the_time_limit(server, dst):
    server.endless = (b"HTTP/1.1 200 OK\r\nContent-Length: 512000\r\n\r\n", b"x")
    began = time.monotonic()
    refused(server, dst, "took more than 0.4 seconds", max_seconds=0.4)
    assert time.monotonic() - began < 2


def test_the_time_limit_leaves_no_trace(server, dst):
    def own(*_):
        pass

    before = signal.signal(signal.SIGALRM, own)
    try:
        download(server.url, dst, max_seconds=60)
        assert signal.getsignal(signal.SIGALRM) is own
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_in_another_thread(server, dst):
    thread = threading.Thread(target=download, args=(server.url, dst))
    thread.start()
    thread.join()
    assert dst.read_bytes() == BODY


def test_what_a_killed_download_left_is_removed(server, dst):
    left = dst.with_name(f".{dst.name}.abcd1234.tmp")
    left.mkdir(parents=True)
    (left / dst.name).write_bytes(BODY[:1000])
    download(server.url, dst)
    assert names(dst.parent) == [dst.name]


def test_any_file_server_can_be_a_mirror(tmp_path, monkeypatch):
    """A mirror is a folder behind a plain server, such as that of Python."""
    path = "bert-base-chinese/resolve/main/config.json"
    (tmp_path / "mirror" / path).parent.mkdir(parents=True)
    (tmp_path / "mirror" / path).write_text("{}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    serve = partial(SimpleHTTPRequestHandler, directory=tmp_path / "mirror")
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{path}"
        download(url, tmp_path / "config.json", check=check_json)
        server.shutdown()
    assert (tmp_path / "config.json").read_text() == "{}"


@pytest.mark.parametrize("url", ["no-scheme/f", "ftp://host/f", "http:///f", "/etc/hostname"])
def test_bad_address(tmp_path, url):
    with pytest.raises(BertCrfError, match="can't get f from"):
        download(url, tmp_path / "f")
    assert names(tmp_path) == []


def test_unwritable_target(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BertCrfError, match="can't write"):
        download(server.url, tmp_path / "file" / "f")


def test_checkpoint_files(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    for is_zip in (True, False):
        buffer = io.BytesIO()
        torch.save({"w": torch.ones(500)}, buffer, _use_new_zipfile_serialization=is_zip)
        path.write_bytes(buffer.getvalue())
        check_checkpoint_file(path)
        for cut in (0, 3, 200, len(buffer.getvalue()) - 1):
            path.write_bytes(buffer.getvalue()[:cut])
            with pytest.raises(BertCrfError, match=r"pytorch_model\.bin"):
                check_checkpoint_file(path)
    torch.save({"w": torch.ones(0)}, path)
    with pytest.raises(BertCrfError, match="holds no weights"):
        check_checkpoint_file(path)
    path.write_text("Not Found")
    with pytest.raises(BertCrfError, match="is not a torch weights file"):
        check_checkpoint_file(path)


def test_json_and_vocab_files(tmp_path):
    path = tmp_path / "file"
    path.write_text(json.dumps({"a": 1}))
    check_json(path)
    with pytest.raises(BertCrfError, match="no BERT vocabulary: 1 lines without .CLS"):
        check_vocab(path)
    path.write_text('{"a": ')
    with pytest.raises(BertCrfError, match="can't be read as JSON"):
        check_json(path)
    lines = [str(number) for number in range(99)]
    path.write_text("\n".join([*lines, "[CLS]"]) + "\n")
    check_vocab(path)
    for bad in ([*lines[1:], "[CLS]"], [*lines, "CLS"]):
        path.write_text("\n".join(bad) + "\n")
        with pytest.raises(BertCrfError, match="no BERT vocabulary"):
            check_vocab(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BertCrfError, match="UTF-8"):
        check_vocab(path)


def make_tar(path, files, compress=gzip.compress):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            if isinstance(data, bytes):
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                info.type, info.linkname = data
                archive.addfile(info)
    path.write_bytes(compress(buffer.getvalue()))
    return path


def test_the_first_hash_is_recorded_and_compared(server, dst):
    lock = dst.parent / "lock.json"
    download(server.url, dst, lock=lock)
    entry = {"sha256": SHA, "size": len(BODY)}
    assert json.loads(lock.read_text()) == {server.url: entry}
    download(server.url, dst, lock=lock)
    assert len(server.requests) == 1
    # Another file at the same address.
    dst.unlink()
    server.body = OTHER
    message = refused(server, dst, "recorded in", left=["lock.json"], lock=lock)
    assert SHA in message and "delete the entry" in message
    assert len(server.requests) == 2
    # A file in its place that is not what came: an error, and it stays.
    dst.write_bytes(b"my own")
    with pytest.raises(BertCrfError, match="file.bin is not the file that is recorded"):
        download(server.url, dst, lock=lock)
    assert dst.read_bytes() == b"my own"
    lock.write_text(json.dumps({}))
    download(server.url, dst, lock=lock)
    assert dst.read_bytes() == b"my own" and json.loads(lock.read_text()) == {}


@pytest.mark.parametrize("text", ["[", "[]", '{"u": {}}', '{"u": {"sha256": "x", "size": 1}}'])
def test_a_damaged_lock_file_is_named(server, dst, text):
    lock = dst.parent / "lock.json"
    lock.parent.mkdir()
    lock.write_text(text)
    with pytest.raises(BertCrfError, match="lock.json is damaged"):
        download(server.url, dst, lock=lock)
    assert not dst.exists() and lock.read_text() == text and server.requests == []


@pytest.mark.parametrize("chunked", [False, True])
def test_larger_files_are_refused(server, dst, chunked):
    server.chunked = chunked
    refused(server, dst, "more than 300,000", max_bytes=300_000)


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(download_checks, "MAX_MEMBERS", 3)
    path = make_tar(tmp_path / "a.tar.gz", [(f"f{n}", b"x") for n in range(4)])
    with pytest.raises(BertCrfError, match="more than 3 files"):
        check_tar_gz(path, ["f0"])


RANDOM = os.urandom(5000)
FILES = [
    ("corpus", (tarfile.DIRTYPE, "")),
    ("corpus/._example.dev", b"mac"),
    ("corpus/example.dev", RANDOM),
    ("corpus/example.train", b"train"),
    ("corpus/link", (tarfile.SYMTYPE, "/etc/passwd")),
]


def test_extract(tmp_path):
    path = make_tar(tmp_path / "a.tar.gz", FILES)
    check_tar_gz(path, ["example.dev"])
    written = extract_tar(path, tmp_path / "out", ["example.train", "example.dev"])
    assert written == [tmp_path / "out" / n for n in ("example.train", "example.dev")]
    assert names(tmp_path / "out") == ["example.dev", "example.train"]
    assert (tmp_path / "out/example.dev").read_bytes() == RANDOM


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("corpus/example.dev", (tarfile.SYMTYPE, "/etc/passwd")),
        ("corpus/example.dev", (tarfile.LNKTYPE, "corpus/example.train")),
        ("corpus/example.dev", (tarfile.FIFOTYPE, "")),
        ("/corpus/example.dev", b"x"),
        ("../example.dev", b"x"),
        ("corpus/../../example.dev", b"x"),
    ],
)
def test_unsafe_members(tmp_path, name, data):
    path = make_tar(tmp_path / "a.tar.gz", [FILES[3], (name, data)])
    with pytest.raises(BertCrfError, match="refused"):
        extract_tar(path, tmp_path / "out", ["example.dev", "example.train"])
    assert names(tmp_path) == ["a.tar.gz"]


def test_missing_and_doubled_members(tmp_path):
    path = make_tar(tmp_path / "a.tar.gz", [*FILES, ("old/example.dev", b"old")])
    with pytest.raises(BertCrfError, match="example.dev twice"):
        extract_tar(path, tmp_path / "out", ["example.dev"])
    with pytest.raises(BertCrfError, match="lacks example.test, corpus"):
        check_tar_gz(path, ["example.test", "example.train", "corpus"])
    assert names(tmp_path) == ["a.tar.gz"]


def test_damaged_archives(tmp_path):
    path = make_tar(tmp_path / "a.tar.gz", FILES)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    bad_sum = bytearray(whole)
    bad_sum[-6] ^= 1
    for data in (b"", whole[:7], whole[:-1], whole[: len(whole) // 2], flipped, bad_sum, BODY):
        path.write_bytes(data)
        with pytest.raises(BertCrfError, match=r"a.tar.gz is no whole tar.gz"):
            check_tar_gz(path, ["example.dev"])
        with pytest.raises(BertCrfError):
            extract_tar(path, tmp_path / "out", ["example.dev"])
    make_tar(path, FILES, compress=bytes)
    with pytest.raises(BertCrfError, match="no whole tar.gz"):
        check_tar_gz(path, ["example.dev"])
    path.write_bytes(gzip.compress(b"no tar at all" * 100))
    with pytest.raises(BertCrfError, match="no whole tar.gz"):
        check_tar_gz(path, ["example.dev"])
    with pytest.raises(BertCrfError, match="no whole tar.gz"):
        check_tar_gz(tmp_path / "absent", ["example.dev"])
    assert names(tmp_path) == ["a.tar.gz"]


def test_size_limit(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "a.tar.gz", [("example.dev", b"x"), ("big", bytes(3_000_000))])
    check_tar_gz(path, ["example.dev", "big"])
    monkeypatch.setattr(download_checks, "MAX_UNPACKED", 2_000_000)
    for name in ("example.dev", "big"):
        with pytest.raises(BertCrfError, match="more than 2,000,000 bytes"):
            extract_tar(path, tmp_path / "out", [name])
    assert names(tmp_path) == ["a.tar.gz"]


def test_sparse_member_that_claims_to_be_huge(tmp_path):
    info = tarfile.TarInfo("example.dev")
    info.size = 512
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.map": "0,512",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(bytes(512)))
    path = Path(tmp_path / "a.tar.gz")
    path.write_bytes(gzip.compress(buffer.getvalue()))
    with pytest.raises(BertCrfError, match="unpacks to more than"):
        extract_tar(path, tmp_path / "out", ["example.dev"])
    assert names(tmp_path) == ["a.tar.gz"]
