"""docs/formats.md: each sample on the page is of the format that its heading names."""

import re

import pytest

from spacy_bert_crf.annotation.formats import FORMATS, read_corpus
from support.paths import ROOT

PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf8")
SAMPLES = dict(re.findall(r"^## `([\w-]+)`\n.*?^```(?:text|ann)\n(.*?)^```", PAGE, re.M | re.S))


def test_the_table_and_the_samples_have_every_format():
    rows = re.findall(r"^\| `([\w-]+)` \| ✓ \|( ✓)? \|", PAGE, re.M)
    writable = {name for name, each in FORMATS.items() if each.write} | {"spacy"}
    assert [name for name, _ in rows] == list(FORMATS)
    assert {name for name, out in rows if out} == writable
    assert SAMPLES.keys() == FORMATS.keys() - {"parquet", "spacy"}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_read(tmp_path, name):
    path = tmp_path / "sample"
    if name == "brat":
        path = tmp_path
        (tmp_path / "a.txt").write_text("John lives in Paris", encoding="utf8")
        (tmp_path / "a.ann").write_text(SAMPLES[name], encoding="utf8")
    else:
        path.write_text(SAMPLES[name], encoding="utf8")
    corpus = read_corpus(path)
    found = {(t.text[e.start : e.end], e.label) for t in corpus.texts for e in t.entities}
    assert corpus.format == name and corpus.problems == []
    assert {("John", "PER"), ("Paris", "LOC")} <= found
