import errno
import os
import signal
import stat
import subprocess
import sys

import pytest

from spacy_bert_crf import _files
from spacy_bert_crf._files import atomic_file, atomic_folder, remove_folder, sweep, write_text
from spacy_bert_crf.errors import BertCrfError


def rest(path):
    return sorted(p.name for p in path.iterdir())


def test_a_failure_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "a") as tmp:
        tmp.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a").read_text() == "old" and rest(tmp_path) == ["a"]


@pytest.mark.parametrize("exchange", [True, False])
def test_folders_are_replaced_as_a_whole(tmp_path, exchange, monkeypatch):
    if not exchange:
        monkeypatch.setattr(_files.sys, "platform", "elsewhere")
    for names in (["a", "b"], ["c"]):
        with atomic_folder(tmp_path / "x") as folder:
            for name in names:
                (folder / name).write_text(name)
        assert rest(tmp_path / "x") == names and rest(tmp_path) == ["x"]
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "x") as folder:
        (folder / "d").write_text("half")
        raise RuntimeError
    assert rest(tmp_path / "x") == ["c"] and rest(tmp_path) == ["x"]


def test_new_files_have_the_usual_permissions(tmp_path):
    write_text(tmp_path / "a", "x")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BertCrfError, match="can't write .*file"):
        write_text(tmp_path / "file" / "below", "x")


@pytest.mark.parametrize("where", ["file", "folder", "inside"])
def test_what_is_read_only_is_not_replaced(tmp_path, where):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_text("mine")
    path = tmp_path / "x" / "a" if where != "folder" else tmp_path / "x"
    path.chmod(path.stat().st_mode & ~0o222)
    try:
        with pytest.raises(BertCrfError, match=f"can't write .*{path.name}: it is read-only"):
            if where == "file":
                write_text(path, "other")
            else:
                with atomic_folder(tmp_path / "x") as folder:
                    (folder / "b").write_text("other")
    finally:
        path.chmod(path.stat().st_mode | 0o200)
    assert (tmp_path / "x" / "a").read_text() == "mine"
    assert rest(tmp_path) == ["x"] and rest(tmp_path / "x") == ["a"]


@pytest.mark.parametrize(
    "err",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail] File too large"),
    ],
)
def test_a_full_disk_is_one_message(tmp_path, err):
    """Whatever library says it in whatever way."""
    write_text(tmp_path / "x" / "a", "old")
    with (
        pytest.raises(BertCrfError, match=r"can't write .*x: (No space left|File too large)"),
        atomic_folder(tmp_path / "x") as folder,
    ):
        (folder / "a").write_text("new")
        raise err
    assert rest(tmp_path) == ["x"] and (tmp_path / "x" / "a").read_text() == "old"


def test_an_error_in_a_file_of_the_new_folder_names_the_folder(tmp_path):
    with pytest.raises(BertCrfError, match="can't write .*x: "), atomic_folder(tmp_path / "x") as f:
        (f / "a").mkdir()
        (f / "a").write_text("is a folder")
    source = tmp_path / "in" / "folder"
    source.mkdir(parents=True)
    with pytest.raises(IsADirectoryError), atomic_folder(tmp_path / "x") as folder:
        (folder / "a").write_bytes(source.read_bytes())  # an input has an error of its own


KILLED = """
import os, signal, sys
from pathlib import Path
from spacy_bert_crf._files import atomic_file, atomic_folder
with atomic_folder(sys.argv[1] + "/x") as folder, atomic_file(sys.argv[1] + "/y") as file:
    (folder / "a").write_text("half")
    file.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks of POSIX")
def test_the_next_write_removes_what_a_killed_one_left(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    assert len(rest(tmp_path)) == 2 and all(name.endswith(".tmp") for name in rest(tmp_path))
    (tmp_path / ".x.tmp").write_text("not of ours")
    write_text(tmp_path / "y", "whole")
    with atomic_folder(tmp_path / "x") as folder:
        # What is being written now is left alone.
        sweep(tmp_path)
        (folder / "a").write_text("whole")
    assert rest(tmp_path) == [".x.tmp", "x", "y"]


def test_a_removed_folder_is_never_half_there(tmp_path, monkeypatch):
    write_text(tmp_path / "x" / "a", "a")
    seen = []
    monkeypatch.setattr(
        _files.shutil, "rmtree", lambda path, **how: seen.append((path.name, rest(tmp_path)))
    )
    remove_folder(tmp_path / "x")
    remove_folder(tmp_path / "x")
    assert len(seen) == 1 and seen[0][1] == [seen[0][0]] and seen[0][0].startswith(".x.")
