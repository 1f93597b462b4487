"""Sources: which files are found, and the rows of each format."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import spacy
from spacy.tokens import DocBin

from spacy_bert_crf.bulk.rows import Row, SetApart
from spacy_bert_crf.bulk.sources import lines
from spacy_bert_crf.bulk.sources.files import (
    PART_SIZE,
    SourceFile,
    check_fields,
    find_files,
    make_parts,
)
from spacy_bert_crf.bulk.sources.read import Fields, read_rows
from spacy_bert_crf.errors import BertCrfError

ROWS = [("a1", "Apple in Berlin", 3), ("a2", "王小明在北京。", None), ("a3", "", 5)]
FIELDS = Fields(id="key", keep=("year",))


def write_txt(path):
    path.write_bytes("".join(f"{text}\r\n" for _, text, _ in ROWS).encode("utf-8-sig"))


def write_jsonl(path):
    rows = [{"key": key, "text": text, "year": year} for key, text, year in ROWS]
    path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf8")


def write_csv(path):
    with path.open("w", encoding="utf8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["year", "key", "text"])
        rows.writerows([["" if year is None else year, key, text] for key, text, year in ROWS])


def write_parquet(path):
    columns = zip(*ROWS, strict=True)
    pq.write_table(pa.table(dict(zip(("key", "text", "year"), columns, strict=True))), path)


def write_docbin(path):
    docs = DocBin(store_user_data=True)
    for key, text, year in ROWS:
        doc = spacy.blank("zh").make_doc(text)
        doc.user_data = {"key": key, "year": year}
        docs.add(doc)
    docs.to_disk(path)


WRITERS = {
    ".txt": write_txt,
    ".jsonl": write_jsonl,
    ".csv": write_csv,
    ".parquet": write_parquet,
    ".spacy": write_docbin,
}


def rows_of(path, fields=FIELDS):
    [file] = find_files([str(path)])
    return [item for item, _ in read_rows(file, fields)]


def pack(path, suffix):
    packed = path.with_name(path.name + suffix)
    with pa.CompressedOutputStream(str(packed), {".gz": "gzip", ".zst": "zstd"}[suffix]) as file:
        file.write(path.read_bytes())
    return packed


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_each_format_gives_its_rows(tmp_path, suffix, packed):
    path = tmp_path / f"corpus{suffix}"
    WRITERS[suffix](path)
    path = pack(path, packed) if packed else path
    has_fields = suffix != ".txt"
    found = rows_of(path, FIELDS if has_fields else Fields())
    assert [row.text for row in found] == [text for _, text, _ in ROWS]
    if has_fields:
        assert [row.id for row in found] == ["a1", "a2", "a3"]
        years = [row.fields["year"] for row in found]
        assert years == (["3", "", "5"] if suffix == ".csv" else [3, None, 5])
    else:
        assert [row.id for row in found] == [f"{path.name}:{n}" for n in (1, 2, 3)]


def test_a_text_file_may_be_one_text(tmp_path):
    path = tmp_path / "one.txt"
    path.write_bytes(b"Apple\nin Berlin\n")
    assert rows_of(path, Fields(whole_files=True)) == [
        Row("one.txt", "Apple\nin Berlin\n", "one.txt", {})
    ]


def test_a_wrong_row_is_set_apart_and_the_others_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = b'{"key": "a", "text": "Apple"}'
    bad = {
        b'{"key": "b", "text": "\xff"}': "not valid UTF-8 (byte 23",
        b'{"key": "c", "text"': "not JSON",
        b'["text"]': "no JSON object",
        b'{"key": "d", "text": "\\ud800"}': "surrogate",
        b'{"key": "e", "text": 5}': "a int as text",
        b'{"key": "f"}': "no text in the field 'text'",
        b'{"text": "Apple"}': "no id in the field 'key'",
        b'{"text": "Apple", "key": 1.5}': "1.5 as id",
        b"[" * 100_000: "not JSON",
    }
    path.write_bytes(b"\n".join(line for each in bad for line in (each, good)))
    found = rows_of(path, Fields(id="key"))
    assert [item.text for item in found if isinstance(item, Row)] == ["Apple"] * len(bad)
    apart = [item for item in found if isinstance(item, SetApart)]
    for item, (line, reason) in zip(apart, bad.items(), strict=True):
        assert reason in item.reason, line
        assert item.where == f"rows.jsonl:{2 * list(bad).index(line) + 1}"


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_bytes_that_are_not_utf8_are_set_apart(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(b"text\n" * (suffix == ".csv") + b"Apple\n\xff\xfe\nBerlin\n")
    first, bad, last = rows_of(path, Fields())
    assert (first.text, last.text) == ("Apple", "Berlin")
    assert (bad.where, "UTF-8" in bad.reason) == (f"rows{suffix}:2", True)


def test_a_line_that_is_too_long_is_set_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE", 100)
    path = tmp_path / "rows.txt"
    path.write_bytes(b"Apple\n" + b"x" * 1000 + b"\nBerlin")
    first, bad, last = rows_of(path, Fields())
    assert (first.text, last.text, bad.where) == ("Apple", "Berlin", "rows.txt:2")
    assert "the line has more than" in bad.reason


def test_a_truncated_file_gives_the_rows_before(tmp_path):
    path = tmp_path / "cut.jsonl.gz"
    rows = [{"text": f"Apple {i} {i * 7919}"} for i in range(20_000)]
    data = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    path.write_bytes(data[: len(data) * 3 // 4])
    *found, last = rows_of(path, Fields())
    assert len(found) > 10_000
    assert [row.text for row in found] == [row["text"] for row in rows[: len(found)]]
    assert last.where == "cut.jsonl.gz" and f"after row {len(found):,}" in last.reason


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_file_without_the_field_is_set_apart(tmp_path, suffix):
    path = tmp_path / f"other{suffix}"
    WRITERS[suffix](path)
    [found] = rows_of(path, Fields("body"))
    assert found.where == path.name and "no column 'body'" in found.reason
    assert "year" in found.reason


@pytest.mark.parametrize("suffix", [".parquet", ".spacy", ".jsonl.gz", ".txt.zst"])
def test_a_file_of_other_bytes_is_set_apart(tmp_path, suffix):
    path = tmp_path / f"other{suffix}"
    path.write_bytes(b"these are other bytes" * 10)
    [found] = rows_of(path, Fields())
    assert found.where == path.name and "can't be read" in found.reason


def test_a_file_that_the_system_does_not_give_is_an_error(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("Apple")
    [file] = find_files([str(path)])
    path.unlink()
    with pytest.raises(BertCrfError, match="can't read .*rows.txt: No such file"):
        list(read_rows(file, Fields()))


def test_positions_grow_to_the_size_of_the_file(tmp_path):
    for suffix, write in WRITERS.items():
        path = tmp_path / f"corpus{suffix}"
        write(path)
        [file] = find_files([str(path)])
        fields = Fields() if suffix == ".txt" else FIELDS
        positions = [position for _, position in read_rows(file, fields)]
        assert positions == sorted(positions) and positions[-1] == path.stat().st_size


def test_files_are_found_and_sorted(tmp_path):
    for name in ("b/2.txt", "b/1.jsonl.gz", "a.csv", ".hidden.txt", "_SUCCESS", "b/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [f.name for f in find_files([str(tmp_path)])] == ["a.csv", "b/1.jsonl.gz", "b/2.txt"]
    assert [f.format for f in find_files([str(tmp_path)])] == ["csv", "jsonl", "txt"]
    found = find_files([f"{tmp_path}/b/*.txt", str(tmp_path / "b")])
    assert [f.name for f in found] == ["1.jsonl.gz", "2.txt"]


def test_an_address_of_another_file_system_is_read():
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus/x.txt", b"Apple\nBerlin\n")
    [file] = find_files(["memory://corpus"])
    assert file.name == "x.txt"
    assert [item.text for item, _ in read_rows(file, Fields())] == ["Apple", "Berlin"]


@pytest.mark.parametrize(
    "source, message",
    [
        ("missing", "there is no .*missing"),
        ("*.txt", "there is no"),
        ("empty", "has no file of a known format"),
        ("notes.md", "no known suffix"),
        ("nothing://x", "can't open nothing://x"),
    ],
)
def test_a_source_that_has_nothing_is_an_error(tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(BertCrfError, match=message):
        find_files([source if "://" in source else str(tmp_path / source)])


def test_plain_text_has_no_fields(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    files = find_files([str(tmp_path)])
    check_fields(files, [])
    with pytest.raises(BertCrfError, match="a.txt has lines without fields"):
        check_fields(files, ["year"])


def test_small_files_are_grouped_and_large_ones_are_not():
    sizes = [PART_SIZE // 2, PART_SIZE // 2, PART_SIZE * 3, 5, 7]
    files = [SourceFile(str(n), str(n), size, 0, "txt", "") for n, size in enumerate(sizes)]
    parts = make_parts(files)
    assert [[file.name for file in part.files] for part in parts] == [["0", "1"], ["2"], ["3", "4"]]
    assert [part.number for part in parts] == [0, 1, 2]
    assert len({part.digest for part in parts}) == 3
