import os
import stat

import pytest

from spacy_bert_crf import files
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.files import atomic_file, atomic_folder, write_text


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
        monkeypatch.setattr(files.sys, "platform", "elsewhere")
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
