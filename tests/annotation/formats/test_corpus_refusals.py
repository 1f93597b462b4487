"""Files that are no corpus: one message each that a newcomer can act on."""

import io
import json
import pickle
import zipfile

import pytest

from spacy_bert_crf.annotation.formats import read_corpus
from spacy_bert_crf.errors import BertCrfError


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


#: The file, what the message says it is, and what it says to do.
WRONG = {
    "a.pdf": (b"%PDF-1.7\n%\xe2\xe3", "looks like a PDF document", "Export the annotation as text"),
    "gbk.txt": (
        "北 B-LOC\n京 I-LOC\n".encode("gbk"),
        r"invalid UTF-8 at byte 0 \(0xb1\). The file looks like GBK",
        "iconv -f GB18030 -t UTF-8 gbk.txt > utf8-gbk.txt",
    ),
    "utf16.txt": (
        "北 B-LOC\n京 I-LOC\n".encode("utf-16"),
        "looks like UTF-16",
        "iconv -f UTF-16 -t UTF-8 utf16.txt > utf8-utf16.txt",
    ),
    "latin.txt": (
        "Jörg B-PER\nMüller I-PER\nmöchte O\n".encode("cp1252"),
        "looks like text in an older encoding",
        "iconv -f CP1252",
    ),
    "unknown.bin": (b"\x01\0\0\0\xff\xfe\0", "looks like a binary file", "Export the annotation"),
    "other.json": (
        json.dumps([{"title": "x", "body": 3}]).encode(),
        "looks like JSON of something else.*\nThe keys of the first record are 'title, body'",
        "Give each record a text, and a list of entities",
    ),
    "classes.jsonl": (
        b'{"id": 1, "text": "good", "label": ["positive"]}\n',
        r"looks like texts with a class for each.*\nThe first record is .*'label': \['positive'\]",
        "Export a project of sequence labelling",
    ),
    "empty.txt": (b"", "has no sentences, it is empty", "choose a file with tokens and tags"),
    "folder": ({"notes.txt"}, "looks like a folder without .ann files", "Give one of its files"),
    "empty": (set(), "looks like an empty folder", "Give a file, or a folder of brat"),
    "pipeline": (
        {"config.cfg", "meta.json"},
        "looks like a trained spaCy pipeline",
        "Give the corpus, not the model",
    ),
    "a.xlsx": (
        zipped("[Content_Types].xml", "xl/workbook.xml"),
        r"looks like an Excel file.*\nIt holds \[Content_Types\].xml, xl/workbook.xml",
        "Save the sheet as CSV",
    ),
    "a.xls": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "looks like an old Excel or Word file",
        "Save the sheet as CSV",
    ),
    "model.bin": (zipped("archive/data.pkl"), "looks like a model", "Give the corpus, not the"),
    "model.safetensors": (
        b"\x40\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F32"}}',
        "looks like a model",
        "Give the corpus, not the model",
    ),
    "model.pkl": (pickle.dumps([1, 2]), "looks like a model", "Give the corpus, not the model"),
    "a.zip": (
        zipped("train.txt"),
        r"looks like a zip archive.*\nIt holds train.txt",
        "Unpack it first",
    ),
    "two.txt": (
        "北 B-X\n京 E-X\n\n上 I-X\n海 M-X\n".encode(),
        r"no tag scheme has all of the prefixes B \(line 1\), E \(line 2\), I \(line 4\), M",
        "Choose one by --scheme",
    ),
    "plain.csv": (
        b"id,text\n1,John lives in Paris\n",
        "looks like CSV without a column of spans",
        "Add a column of spans, or name both columns: --columns text,spans. "
        'The spans of a text are a list: [[0, 4, "PER"]',
    ),
    "prose.txt": (
        b"It was a bright cold day in April, and the clocks were striking.\n",
        "looks like text without annotation",
        "Annotate it first",
    ),
    "words.txt": (b"John\nlives\nin\n", "looks like lines without tags", "Give each token a tag"),
    "page.html": (
        b"<html><body>x</body></html>",
        "looks like HTML or XML",
        "Export the annotation",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_named_described_and_advised_on(tmp_path, name):
    data, kind, advice = WRONG[name]
    path = tmp_path / name
    if isinstance(data, set):
        path.mkdir()
        for each in data:
            (path / each).write_text("x")
    else:
        path.write_bytes(data)
    with pytest.raises(BertCrfError, match=kind) as error:
        read_corpus(path)
    message = str(error.value)
    assert str(path) in message and advice in message
    assert len(message.split("\n")) <= 5
    if "no known format" in message:
        assert "Expected is one of: columns, JSONL" in message
        assert '"label": [[0, 4, "PER"]' in message
