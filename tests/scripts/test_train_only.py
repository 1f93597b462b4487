"""Sentences and lists of names in the folders `train` are for train only."""

import shutil
from pathlib import Path

import pytest

from scripts.multiply_corpus import TRAIN_ONLY, multiply
from scripts.sentences import read_sentences

QUICKSTART = Path(__file__).parents[2] / "assets" / "quickstart"


@pytest.fixture
def source(tmp_path):
    """A copy of the quickstart's sentences and names."""
    for name in ("sentences", "names"):
        shutil.copytree(QUICKSTART / name, tmp_path / "source" / name)
    return tmp_path / "source"


def frame(sentence):
    return "".join(part.label or part.text for part in sentence)


@pytest.mark.parametrize(("seed", "hold_out"), [(0, True), (6, False)])
def test_dev_and_test_stay_as_they_are(source, tmp_path, seed, hold_out):
    options = (tmp_path / "corpus", 2, 0.3, hold_out, seed, 0.2, 0.2, 1.0, 0.4)
    after = multiply(source, *options)
    more = [s for file in read_sentences(source / "sentences" / TRAIN_ONLY).values() for s in file]
    for name in ("sentences", "names"):
        shutil.rmtree(source / name / TRAIN_ONLY)
    before = multiply(source, *options)
    assert after["dev"] == before["dev"] and after["test"] == before["test"]
    frames = {split: {frame(sentence) for sentence in after[split]} for split in after}
    written = {frame(sentence) for sentence in more}
    assert len(more) >= 450 and written <= frames["train"]
    assert not written & (frames["dev"] | frames["test"])
    assert not written & {frame(sentence) for sentence in before["train"]}


def test_same_options_same_train(source, tmp_path):
    options = (tmp_path / "corpus", 2, 0.3, True, 1, 0.2, 0.2, 0.4, 0.4)
    assert multiply(source, *options) == multiply(source, *options)


def test_names_that_may_be_persons(source, tmp_path):
    """They do not change which persons are drawn for dev and test."""
    options = (tmp_path / "corpus", 2, 0.0, True, 1)
    before = multiply(source, *options)
    surname = (source / "names" / "surnames.txt").read_text("utf8").split()[0]
    given = (source / "names" / "given.txt").read_text("utf8").split()
    names = [surname + name for name in given]
    (source / "names" / "train" / "club.txt").write_text("\n".join(names), encoding="utf8")
    after = multiply(source, *options)
    assert after["dev"] == before["dev"] and after["test"] == before["test"]
    clubs = {part.text for s in after["train"] for part in s if part.kind == "club"}
    assert len(clubs & set(names)) > 50


def test_a_name_of_dev_or_test_is_not_drawn(source, tmp_path):
    """A list for train only may have a name of another list. Its split stays."""
    everywhere = (source / "names" / "team.txt").read_text("utf8").split()
    (source / "names" / "train" / "club.txt").write_text("\n".join(everywhere), encoding="utf8")
    out = multiply(source, tmp_path / "corpus", 3, 0.0, True, 0)
    clubs = {part.text for s in out["train"] for part in s if part.kind == "club"}
    others = {part.text for split in ("dev", "test") for s in out[split] for part in s}
    assert len(clubs) > 50 and not clubs & others
