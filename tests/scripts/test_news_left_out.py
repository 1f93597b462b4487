"""No training text shares 13 characters in a row with the published dev and test corpora."""

import os
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

from scripts.news import left_out
from scripts.news.left_out import LEFT_OUT, LENGTH, grams, is_left_out, read_left_out, shared
from spacy_bert_crf.errors import BertCrfError

TEXT = "一二三四五六七八九十甲乙丙丁戊己庚辛壬癸"
#: Column files of the published corpora, joined by the path separator of the system.
PUBLISHED = os.environ.get("PEOPLES_DAILY", "")
#: A training corpus that `spacy project run corpus` made.
TRAIN = os.environ.get("QUICKSTART_TRAIN", "corpus/quickstart/train.spacy")


def test_runs_are_found_in_any_width_and_case():
    assert len(grams([TEXT])) == len(TEXT) - LENGTH + 1
    assert grams(["短"]) == set()
    known = grams(["前" + "ABC1998年" + TEXT[:6] + "后"])
    assert shared("在ａＢｃ１９９８年" + TEXT[:6] + "里", known) == [(1, 15)]
    assert shared("在ａＢｃ１９９８年" + TEXT[:4] + "里", known) == []
    assert shared("İstanbul" * 3, grams(["İSTANBUL" * 2])) == [(0, 24)]


def test_overlapping_runs_are_one():
    known = grams([TEXT[:15], TEXT[6:20]])
    assert shared("〇" + TEXT + "〇", known) == [(1, 21)]
    assert shared(TEXT[:13] + "〇" + TEXT[6:19], known) == [(0, 13), (14, 27)]


def test_a_sentence_is_left_out_if_it_holds_a_whole_run():
    assert is_left_out(10, 40, [(5, 23)]) and is_left_out(0, 13, [(0, 13)])
    assert not is_left_out(11, 40, [(5, 23)]) and not is_left_out(0, 40, [])


def write_columns(path, *texts):
    path.write_text("\n".join("".join(f"{c} O\n" for c in text) for text in texts), "utf8")
    return path


def test_the_list_is_made_and_read(tmp_path, monkeypatch, capsys):
    news, dst = tmp_path / "news.txt", tmp_path / "left_out.txt"
    news.write_text(f"好/a\n我/r 说/v {TEXT[:8]}/n {TEXT[8:]}/n 。/w\n", encoding="utf8")
    dev = write_columns(tmp_path / "example.dev", "你好", "他说" + TEXT[3:18])
    monkeypatch.setattr("sys.argv", ["x", str(news), str(dev), "--output", str(dst)])
    assert left_out.main() == 0 and "1 parts" in capsys.readouterr().out
    assert read_left_out(dst) == {2: [(5, 20)]}
    dev.write_text("\n", encoding="utf8")
    assert left_out.main() == 1 and "example.dev has no sentences" in capsys.readouterr().err
    dst.write_text("# head\n1 2 x\n", encoding="utf8")
    with pytest.raises(BertCrfError, match=r"left_out.txt:2: '1 2 x' is no line of three numbers"):
        read_left_out(dst)


def test_the_list_of_the_project():
    stretches = [span for spans in read_left_out().values() for span in spans]
    assert len(stretches) > 400
    assert all(end - start >= LENGTH for start, end in stretches)
    # Numbers only: nothing of the newspaper or of the published corpora is copied.
    lines = LEFT_OUT.read_text(encoding="utf8").split("\n")
    assert LEFT_OUT.read_text(encoding="utf8").isascii() and len(lines) > 400


@pytest.mark.skipif(not PUBLISHED, reason="PEOPLES_DAILY names no example.dev and example.test")
@pytest.mark.skipif(not Path(TRAIN).is_file(), reason=f"there is no {TRAIN}")
def test_the_training_corpus_shares_nothing_with_the_published_ones():
    known = grams(
        text for path in PUBLISHED.split(os.pathsep) for text in left_out.read_columns(Path(path))
    )
    assert len(known) > 50_000
    docs = list(DocBin().from_disk(TRAIN).get_docs(spacy.blank("zh").vocab))
    assert len(docs) > 10_000
    assert sum(len(shared(doc.text, known)) for doc in docs) == 0
