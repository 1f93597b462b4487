"""Downloads from a server of our own that behaves well or badly, and checks of files."""

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import socket
import tarfile
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scripts import downloads
from scripts.downloads import (
    check_checkpoint_file,
    check_json,
    check_tar_gz,
    check_vocab,
    download,
    extract_tar,
)
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
        body, status, headers = server.body, 200, dict(server.headers)
        wanted = self.headers.get("Range")
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            same = self.headers.get("If-Range") in (None, headers.get("ETag"))
            same = same or self.headers.get("If-Range") == headers.get("Last-Modified")
            same = same or server.careless
            if same and start >= len(body):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            if same:
                start += server.shift
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                body, status = body[start:], 206
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
        self.send(302, {"Location": "/f", "Connection": "close"})
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
        server.ranges, server.chunked, server.shift, server.careless = True, False, 0, False
        server.failures, server.failure_status = 0, 503
        server.endless = ()  # a start and a piece that is sent again and again
        server.moved = 0  # bytes of redirects' bodies
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
    download(server.url, dst, size=len(BODY), sha256=SHA.upper(), check=is_body)
    assert dst.read_bytes() == BODY
    assert names(dst.parent) == [dst.name]
    assert "Range" not in server.requests[0]
    assert server.requests[0]["Accept-Encoding"] == "identity"


def test_good_file_is_not_fetched_again(server, dst):
    dst.parent.mkdir()
    dst.write_bytes(BODY)
    download(server.url, dst, size=len(BODY), sha256=SHA, check=is_body)
    download(server.url, dst)
    assert server.requests == []


@pytest.mark.parametrize(
    "options",
    [{"size": len(BODY)}, {"sha256": SHA}, {"check": is_body}],
    ids=["size", "sha256", "check"],
)
def test_bad_file_is_fetched_again(server, dst, options):
    dst.parent.mkdir()
    dst.write_bytes(BODY[:-1])
    download(server.url, dst, **options)
    assert dst.read_bytes() == BODY
    assert names(dst.parent) == [dst.name]


def test_bad_file_is_put_aside_when_there_is_no_better_one(server, dst):
    dst.parent.mkdir()
    dst.write_bytes(b"my own work")
    server.failures = 99
    message = refused(server, dst, "503", left=["file.bin.bad"], check=is_body)
    assert "file.bin.bad now" in message and "is not the body" in message
    assert dst.with_name("file.bin.bad").read_bytes() == b"my own work"


def test_resumes_after_a_broken_connection(server, dst):
    server.cuts = 2
    download(server.url, dst, check=is_body)
    ranges = [(r.get("Range"), r.get("If-Range")) for r in server.requests]
    assert ranges == [
        (None, None),
        ("bytes=200000-", '"one"'),
        ("bytes=400000-", '"one"'),
    ]
    assert names(dst.parent) == [dst.name]


def test_next_call_resumes(server, dst):
    server.cuts = 1
    refused(server, dst, "only|connection", left=["file.bin.part", "file.bin.part.tag"], retries=0)
    assert dst.with_name("file.bin.part").read_bytes() == BODY[:200_000]
    download(server.url, dst, retries=0)
    assert dst.read_bytes() == BODY
    assert server.requests[1]["Range"] == "bytes=200000-"
    assert server.requests[1]["If-Range"] == '"one"'
    assert names(dst.parent) == [dst.name]


@pytest.mark.parametrize("ranges", [True, False])
def test_part_of_another_version_is_not_used(server, dst, ranges):
    server.cuts, server.body, server.ranges = 1, OTHER, ranges
    with pytest.raises(BertCrfError):
        download(server.url, dst, retries=0)
    server.body, server.headers = BODY, {"ETag": '"two"'}
    download(server.url, dst, retries=0)
    assert dst.read_bytes() == BODY
    assert "Range" in server.requests[1]


def test_server_that_does_not_heed_if_range(server, dst):
    server.cuts, server.body = 1, OTHER
    with pytest.raises(BertCrfError):
        download(server.url, dst, retries=0)
    server.body, server.headers, server.careless = BODY, {"ETag": '"two"'}, True
    download(server.url, dst, retries=1)
    assert dst.read_bytes() == BODY


def test_weak_etags_give_way_to_the_date(server, dst):
    date = formatdate(0, usegmt=True)
    server.headers, server.cuts = {"ETag": 'W/"one"', "Last-Modified": date}, 1
    download(server.url, dst, check=is_body)
    assert server.requests[1]["If-Range"] == date


def test_part_of_unknown_version(server, dst):
    part = dst.with_name("file.bin.part")
    part.parent.mkdir()
    # Nothing could tell whether it fits: from the start.
    part.write_bytes(OTHER[:300])
    download(server.url, dst)
    assert "Range" not in server.requests[0]
    assert dst.read_bytes() == BODY
    # The check can: gone on with, and from the start when it fails.
    dst.unlink()
    part.write_bytes(BODY[:300])
    download(server.url, dst, check=is_body)
    assert [r.get("Range") for r in server.requests[1:]] == ["bytes=300-"]
    dst.unlink()
    part.write_bytes(OTHER[:300])
    download(server.url, dst, sha256=SHA)
    assert [r.get("Range") for r in server.requests[2:]] == ["bytes=300-", None]
    assert dst.read_bytes() == BODY


def test_part_that_is_all_or_too_much(server, dst):
    part = dst.with_name("file.bin.part")
    part.parent.mkdir()
    part.write_bytes(BODY)
    download(server.url, dst, check=is_body)
    assert len(server.requests) == 1  # 416: all of it is there
    dst.unlink()
    part.write_bytes(BODY + b"more")
    download(server.url, dst, check=is_body)
    assert [r.get("Range") for r in server.requests[1:]] == ["bytes=512004-", None]


def test_wrong_range(server, dst):
    server.cuts, server.shift = 1, 5
    download(server.url, dst)
    assert dst.read_bytes() == BODY
    assert [r.get("Range") for r in server.requests] == [None, "bytes=200000-", None]


def test_short_body(server, dst):
    server.cuts, server.ranges = 99, False
    left = ["file.bin.part", "file.bin.part.tag"]
    refused(server, dst, "connection|only 200,000 of 512,000 bytes", left=left, retries=2)
    assert len(server.requests) == 3


def test_chunked(server, dst):
    server.chunked, server.headers = True, {}
    download(server.url, dst)
    assert dst.read_bytes() == BODY
    dst.unlink()
    server.cuts = 99
    refused(server, dst, "can't get", left=["file.bin.part"], retries=0)


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
    download(server.url.replace("/f", "/moved"), dst, sha256=SHA, timeout=5)
    assert dst.read_bytes() == BODY
    assert 0 < server.moved < 100_000_000  # what fits between the sockets


def test_not_found(server, dst):
    server.url += "/other"
    refused(server, dst, "the server answers 404 Not Found")
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


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 5}, "it has 512,000 bytes there, not 5"),
        ({"sha256": SHA}, f"is another file: sha256 .* not {SHA}"),
        ({"check": is_body}, "sub/file.bin is not the body"),
    ],
)
def test_wrong_content(server, dst, options, match):
    server.body = OTHER
    refused(server, dst, match, **options)
    assert len(server.requests) == 1


def test_wrong_size_is_seen_without_a_length(server, dst):
    server.chunked = True
    refused(server, dst, "more than 5 bytes came", size=5)


def test_gz_stays_gz_and_other_encodings_are_refused(server, dst):
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
def test_answers_without_end(server, dst, endless):
    server.endless = endless
    began = time.monotonic()
    left = ["file.bin.part"] if endless[0] == CHUNKED else []
    refused(server, dst, "no whole answer for 0.4 seconds", left, timeout=0.1, retries=0)
    assert time.monotonic() - began < 2


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
    with pytest.raises(BertCrfError, match="no torch weights file"):
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


def test_what_came_first_is_recorded_and_checked(server, dst):
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
    # A file in its place that is not what came: an error, and it stays.
    dst.write_bytes(b"my own")
    with pytest.raises(BertCrfError, match="file.bin is not the file that was first got"):
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
    assert not dst.exists() and lock.read_text() == text


@pytest.mark.parametrize("chunked", [False, True])
def test_no_more_is_taken_than_asked_for(server, dst, chunked):
    server.chunked = chunked
    refused(server, dst, "more than 300,000", max_bytes=300_000)


def test_a_trickle_is_given_up(server, dst, monkeypatch):
    monkeypatch.setattr(downloads, "SLOWEST", 10**12)
    monkeypatch.setattr(downloads, "_CHUNK", 1000)
    # A second passes with each look at the clock.
    clock = SimpleNamespace(monotonic=itertools.count().__next__)
    monkeypatch.setattr(downloads, "time", clock)
    kept = ["file.bin.part", "file.bin.part.tag"]
    refused(server, dst, "only .* bytes came in 31 seconds", left=kept, retries=0)


def test_more_files_than_a_corpus_has(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_MEMBERS", 3)
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
    monkeypatch.setattr(downloads, "MAX_UNPACKED", 2_000_000)
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
