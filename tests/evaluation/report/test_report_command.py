"""`bert-crf report`: what it writes, and one message for each bad input."""

import shutil

import pytest
import spacy
from spacy.tokens import DocBin

from support.commands import cli
from support.toys import TEXTS

from .conftest import annotated


@pytest.fixture
def corpus(tmp_path):
    """A function that writes docs, by default all of TEXTS, to a file."""

    def write(name="dev.spacy", data=TEXTS):
        nlp = spacy.blank("zh")
        DocBin(docs=[annotated(nlp, *each) for each in data]).to_disk(tmp_path / name)
        return tmp_path / name

    return write


def test_it_writes_a_page(trained_path, corpus, tmp_path):
    out = tmp_path / "new" / "page.html"
    text = cli("report", trained_path, corpus(), "--output", out)
    size = round(out.stat().st_size / 1000)
    assert "F1 100.00 on dev.spacy, 8 sentences" in text and f"wrote {out} ({size} kB)" in text
    page = out.read_text(encoding="utf8")
    assert page.startswith("<!DOCTYPE html>") and "Learning curve" not in page
    assert f"<h1>{trained_path.parent.name}/{trained_path.name} on dev.spacy</h1>" in page


def test_it_finds_the_history_beside_the_pipeline(trained_path, corpus, tmp_path, history):
    shutil.copytree(trained_path, tmp_path / "run" / "model-best")
    shutil.copy(history, tmp_path / "run" / "history.json")
    out = tmp_path / "page.html"
    cli("report", tmp_path / "run" / "model-best", corpus(), "-o", out, "--title", "My <page>")
    page = out.read_text(encoding="utf8")
    assert "Learning curve" in page and "<title>My &lt;page&gt;</title>" in page
    # A folder above the pipeline is not guessed at: the message names what is inside.
    text = cli("report", tmp_path / "run", corpus(), "-o", out, code=1)
    assert f"name {tmp_path / 'run' / 'model-best'}" in text


@pytest.fixture
def refused(trained_path, corpus, tmp_path):
    """A function that runs the command, and returns its one line of output."""

    def run(pipeline=None, data=None, name="page.html", options=()):
        out = tmp_path / name
        words = [pipeline or trained_path, data or corpus(), "--output", out, *options]
        text = cli("report", *words, code=1)
        assert not out.exists()
        (line,) = [line for line in text.splitlines() if line.strip()]
        assert line.startswith("✘ ")
        return line

    return run


def test_no_gold(refused, tmp_path):
    nlp = spacy.blank("zh")
    DocBin(docs=[nlp.make_doc(TEXTS[0][0])]).to_disk(tmp_path / "no.spacy")
    assert "no doc of the corpus has entity annotation" in refused(data=tmp_path / "no.spacy")


def test_an_empty_corpus(refused, tmp_path):
    DocBin().to_disk(tmp_path / "empty.spacy")
    assert "empty.spacy" in refused(data=tmp_path / "empty.spacy")


def test_other_labels(refused, corpus):
    data = corpus(data=[(TEXTS[0][0], [(0, 3, "TIME")])])
    line = refused(data=data)
    assert "TIME (1 entity)" in line and "The pipeline has: LOC, ORG, PER" in line


def test_no_bert_crf(refused, tmp_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("entity_ruler")
    nlp.to_disk(tmp_path / "ruler")
    assert "no bert_crf component" in refused(pipeline=tmp_path / "ruler")


def test_a_page_of_another_kind(refused):
    assert "must be an .html file" in refused(name="page.pdf")


def test_a_corpus_or_a_pipeline_that_is_not_there(refused, tmp_path):
    assert "nothing.spacy" in refused(data=tmp_path / "nothing.spacy")
    assert "there is no pipeline folder" in refused(pipeline=tmp_path / "nothing")


def test_a_history_that_cannot_be_read(refused, tmp_path):
    (tmp_path / "broken.json").write_text("[1", encoding="utf8")
    assert "broken.json" in refused(options=("--history", tmp_path / "broken.json"))
