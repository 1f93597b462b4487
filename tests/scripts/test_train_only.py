"""Sentences and lists of names in the folders `train` are for train only."""

import shutil
from pathlib import Path

import pytest

from scripts.multiply_corpus import TRAIN_ONLY, multiply
from scripts.sentences import read_sentences
from spacy_bert_crf.errors import BertCrfError

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


@pytest.mark.parametrize("file", ["sentences/train/sport.txt", "names/train/club.txt"])
def test_a_name_that_may_be_a_person(source, tmp_path, file):
    """It would change which persons are drawn for dev and test."""
    surname = (source / "names" / "surnames.txt").read_text("utf8").split()[0]
    name = surname + (source / "names" / "given.txt").read_text("utf8").split()[0]
    line = f"[{name}|ORG.club]赢了这场球。" if "sentences" in file else name
    with (source / file).open("a", encoding="utf8") as out:
        out.write(f"\n{line}\n")
    with pytest.raises(BertCrfError, match=f"train.*{name} is also a surname and a first name"):
        multiply(source, tmp_path / "corpus", 2, 0.0, True, 1)


def test_a_name_of_dev_or_test_is_not_drawn(source, tmp_path):
    """A list for train only may have a name of another list. Its split stays."""
    everywhere = (source / "names" / "team.txt").read_text("utf8").split()
    (source / "names" / "train" / "club.txt").write_text("\n".join(everywhere), encoding="utf8")
    out = multiply(source, tmp_path / "corpus", 3, 0.0, True, 0)
    clubs = {part.text for s in out["train"] for part in s if part.kind == "club"}
    others = {part.text for split in ("dev", "test") for s in out[split] for part in s}
    assert len(clubs) > 50 and not clubs & others
