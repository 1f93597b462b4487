"""Sentences of the newspaper beside those of another corpus."""

import pytest
import spacy
from spacy.tokens import DocBin

from scripts.news import __main__ as command
from scripts.news import corpus
from scripts.news.left_out import grams, shared
from spacy_bert_crf.errors import BertCrfError

NUMBERS = "零一二三四五六七八九"
#: A sentence that the published corpora hold, and one that shares a part with our own dev split.
PUBLISHED = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉"
OURS = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往"


def lines():
    """A newspaper of 300 lines, each with a sentence of its own."""
    for number in range(300):
        digits = "".join(NUMBERS[int(digit)] for digit in str(number))
        sure = f"记者/n 在/p 北京/ns 第/m {digits}/m 次/q 见到/v 江/nr 泽民/nr 。/w"
        unsure = f"第/m {digits}/m 次/q 见到/v 石油/n 公司/n 的/u 人们/n 。/w"
        yield unsure if number % 3 == 0 else sure
    yield from ["短/a", "短/a 句/n 有/v 六/m 个/q 字/n"] * 3


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The newspaper and a folder of own splits; the corpus is small."""
    text = [*lines()]
    text[3] = f"早/a 。/w {PUBLISHED}/n 的/u 事/n 。/w 北京/ns 晚上/t 下雨/v 。/w"
    text[4] = f"{OURS}/n 的/u 事/n 。/w"
    (tmp_path / "news.txt").write_text("\n".join(text) + "\n", encoding="utf8")
    nlp = spacy.blank("zh")
    for split in ("train", "dev", "test"):
        docs = [nlp.make_doc(f"{OURS} {split}"), nlp.make_doc("没有名字")]
        for doc in docs:
            doc.ents = []
        DocBin(docs=docs).to_disk(tmp_path / f"{split}.spacy")
    monkeypatch.setattr(corpus, "DEV", 9)
    monkeypatch.setattr(corpus, "read_left_out", lambda: {4: [(2, 2 + len(PUBLISHED))]})
    return tmp_path


def read(path):
    return list(DocBin().from_disk(path).get_docs(spacy.blank("zh").vocab))


def test_sentences_are_added(made, capsys, monkeypatch):
    words = ["x", "add", str(made / "news.txt"), str(made), "--sentences", "150", "--seed", "3"]
    monkeypatch.setattr("sys.argv", words)
    assert command.main() == 0
    said = capsys.readouterr().out
    assert "train: 150 sentences of the newspaper" in said and "news-dev: 9 sentences" in said
    assert "left out: 1 sentences" in said
    train, dev = read(made / "train.spacy"), read(made / "news-dev.spacy")
    own = {f"{OURS} train", "没有名字"}
    assert own < {doc.text for doc in train} and {doc.text for doc in train[:2]} != own
    added = [doc for doc in train if doc.text not in own]
    assert len(added) == 150 and len({doc.text for doc in added}) == 150
    assert {ent.label_ for doc in added for ent in doc.ents} == {"LOC", "PER"}
    # Unknown tokens in train, none in what one chooses by.
    assert any(token.ent_iob == 0 for doc in added for token in doc)
    assert len(dev) == 9 and all(token.ent_iob for doc in dev for token in doc)
    assert all(doc.has_annotation("ENT_IOB") for doc in added)
    # The held-out sentences are of the last lines.
    last = {text for line in [*lines()][270:] for text in ["".join(_words(line))]}
    assert {doc.text for doc in dev} <= last
    known = grams([PUBLISHED, OURS, *(doc.text for doc in dev)])
    assert not [doc.text for doc in added if shared(doc.text, known)]


def _words(line):
    return [item.rpartition("/")[0] for item in line.split()]


def test_only_the_sentence_is_left_out_and_not_its_line(made):
    everything = list(corpus.read_news(made / "news.txt"))
    apart = [f"{OURS} dev"]
    chosen = corpus.choose(everything, corpus.Mix(270, seed=1), apart)
    texts = [each.text for each in chosen.train]
    assert "北京晚上下雨。" in texts and texts.count("短句有六个字") <= 1
    assert not any(PUBLISHED in text or OURS in text for text in texts)
    assert any(
        OURS in each.text for each in corpus.choose(everything, corpus.Mix(270, seed=1)).train
    )
    assert corpus.choose(everything, corpus.Mix(200, seed=1)) == corpus.choose(
        everything, corpus.Mix(200, seed=1)
    )
    assert corpus.choose(everything, corpus.Mix(200, seed=1)) != corpus.choose(
        everything, corpus.Mix(200, seed=2)
    )


def test_more_sentences_than_there_are(made):
    with pytest.raises(BertCrfError, match=r"1,000 are requested: set corpus.news.sentences"):
        corpus.write_news(made / "news.txt", made, corpus.Mix(1000))
    assert len(read(made / "train.spacy")) == 2 and not (made / "news-dev.spacy").exists()


def test_two_fifths_at_most_are_without_an_entity(tmp_path):
    line = "第/m {}/m 次/q 见到/v 人们/n 。/w"
    text = [line.format("".join(NUMBERS[int(d)] for d in str(number))) for number in range(400)]
    text[::5] = [f"江/nr 泽民/nr {each}" for each in text[::5]]
    (tmp_path / "news.txt").write_text("\n".join(text), encoding="utf8")
    chosen = corpus.choose(list(corpus.read_news(tmp_path / "news.txt")), corpus.Mix(100, seed=1))
    assert len(chosen.train) == 100
    assert sum(not each.entities for each in chosen.train) == 40


def test_a_share_has_organisations(tmp_path):
    text = [f"第/m {number}/m 次/q 见到/v 北京/ns 的/u 人/n 。/w" for number in range(300)]
    text[:90] = [f"第/m {number}/m 次/q 见到/v 国务院/nt 的/u 人/n 。/w" for number in range(90)]
    (tmp_path / "news.txt").write_text("\n".join(text) + "\n", encoding="utf8")
    everything = list(corpus.read_news(tmp_path / "news.txt"))
    chosen = corpus.choose(everything, corpus.Mix(100, organisations=0.6)).train
    labels = [label for each in chosen for *_, label in each.entities]
    assert len(chosen) == 100 and labels.count("ORG") >= 60 and "LOC" in labels
    with pytest.raises(BertCrfError, match="has 115 sentences for training of this mix"):
        corpus.choose(everything, corpus.Mix(250, organisations=0.9))
