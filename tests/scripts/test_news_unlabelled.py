"""Sentences of the newspaper without annotation, apart from all splits."""

import pytest
import spacy
from spacy.tokens import DocBin

from scripts.news import __main__ as command
from scripts.news import unlabelled
from scripts.news.left_out import grams, shared
from spacy_bert_crf.errors import BertCrfError

TRAIN, DEV = "江泽民在北京", "天地玄黄宇宙洪荒日月盈昃辰宿列张"
NEWS_DEV = "寒来暑往秋收冬藏闰余成岁律吕调阳"
PUBLISHED = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳"
NUMBERS = "零一二三四五六七八九"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The newspaper and a folder of splits."""
    lines = [f"江/nr 泽民/nr 第{NUMBERS[n // 10]}{NUMBERS[n % 10]}次/q 到/v" for n in range(40)]
    lines += ["江/nr 泽民/nr 在/p 北京/ns", f"北京/ns {DEV}/n", f"上海/ns {NEWS_DEV}/n"]
    lines += [f"早/a 。/w 天津/ns {PUBLISHED}/n", "没有/v 名字/n 的/u 句子/n", "北京/ns"]
    lines += lines[:5]
    (tmp_path / "news.txt").write_text("\n".join(lines), encoding="utf8")
    nlp = spacy.blank("zh")
    for split, text in (("train", TRAIN), ("dev", DEV), ("test", "别的"), ("news-dev", NEWS_DEV)):
        DocBin(docs=[nlp.make_doc(text)]).to_disk(tmp_path / f"{split}.spacy")
    monkeypatch.setattr(unlabelled, "read_left_out", lambda: {44: [(4, 4 + len(PUBLISHED))]})
    return tmp_path


def test_what_is_in_no_split(made, capsys, monkeypatch):
    words = ["x", "unlabelled", str(made / "news.txt"), str(made), str(made / "out.txt")]
    monkeypatch.setattr("sys.argv", [*words, "--sentences", "1000"])
    assert command.main() == 0
    said = capsys.readouterr().out
    assert "40 sentences of the newspaper without annotation" in said
    assert "1 sentences that share 13 characters" in said and "corpora, 2 that share" in said
    texts = (made / "out.txt").read_text(encoding="utf8").split("\n")[:-1]
    assert len(set(texts)) == len(texts) == 40 and TRAIN not in texts
    assert all(text.startswith("江泽民第") for text in texts)
    known = grams([DEV, NEWS_DEV, PUBLISHED])
    assert not [text for text in texts if shared(text, known)]


def test_a_number_and_a_seed(made):
    def choose(count, seed):
        return unlabelled.choose_unlabelled(made / "news.txt", made, count, seed).texts

    assert choose(7, 1) == choose(1000, 1)[:7] != choose(7, 2)
    assert len(choose(7, 1)) == 7


def test_without_news_dev_its_sentences_are_not_apart(made):
    (made / "news-dev.spacy").unlink()
    chosen = unlabelled.choose_unlabelled(made / "news.txt", made, 1000, 1)
    assert f"上海{NEWS_DEV}" in chosen.texts and chosen.similar == 1


def test_no_sentence_is_left(made):
    (made / "news.txt").write_text("没有/v 名字/n 的/u 句子/n\n", encoding="utf8")
    with pytest.raises(BertCrfError, match="no sentence that is in no split: leave student.texts"):
        unlabelled.choose_unlabelled(made / "news.txt", made, 10, 1)
