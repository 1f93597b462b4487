"""Parts are cut into shards, and shards are shared out to jobs."""

import pytest

from spacy_bert_crf.bulk.shards import Share, cut, parse_share
from spacy_bert_crf.bulk.sources.files import find_files, make_parts
from spacy_bert_crf.bulk.sources.read import Fields
from spacy_bert_crf.errors import BertCrfError
from support import bulk


@pytest.fixture
def part(tmp_path):
    bulk.write_jsonl(tmp_path / "a.jsonl.gz", bulk.records(25))
    (tmp_path / "b.jsonl").write_bytes(b"\n\xff\n")
    bulk.write_jsonl(tmp_path / "c.jsonl", bulk.records(10, 25))
    [found] = make_parts(find_files([str(tmp_path)]))
    return found


def ids(shards):
    return [[row.id for row in shard.rows] for shard in shards]


def test_shards_go_on_from_file_to_file(part):
    shards = list(cut(part, Fields(id="key"), 10, 10**9))
    assert [len(shard.rows) + len(shard.set_apart) for shard in shards] == [10, 10, 10, 6]
    assert sum(ids(shards), []) == [f"d{n}" for n in range(35)]
    assert [shard.name for shard in shards] == [f"000000-00000{n}" for n in range(4)]
    assert [shard.is_last for shard in shards] == [False, False, False, True]
    assert [len(shard.set_apart) for shard in shards] == [0, 0, 1, 0]
    assert sum(shard.read for shard in shards) == part.size
    assert sum(shard.characters for shard in shards) == sum(
        len(r["text"]) for r in bulk.records(35)
    )


def test_a_shard_ends_with_the_row_that_fills_it(part):
    shards = list(cut(part, Fields(id="key"), 10**6, 300))
    for shard in shards[:-1]:
        assert shard.characters >= 300 > shard.characters - len(shard.rows[-1].text)
    assert sum(ids(shards), []) == [f"d{n}" for n in range(35)]


def test_equal_rows_have_equal_digests_and_others_do_not(part, tmp_path):
    def digests(**fields):
        return [shard.digest for shard in cut(part, Fields(id="key", **fields), 10, 10**9)]

    first = digests()
    assert digests() == first and len(set(first)) == 4
    assert digests(keep=("year",))[0] != first[0]
    rows = bulk.records(10, 25)
    rows[7]["text"] = rows[7]["text"].replace("Apple", "apple")
    bulk.write_jsonl(tmp_path / "c.jsonl", rows)
    changed = digests()
    assert changed[:3] == first[:3] and changed[3] != first[3]


def test_a_part_without_rows_is_one_shard(tmp_path):
    (tmp_path / "a.txt").write_text("")
    [part] = make_parts(find_files([str(tmp_path)]))
    [shard] = cut(part, Fields(), 10, 10)
    assert shard.is_last and not shard.rows and shard.digest


@pytest.mark.parametrize("parts", [3, 40])
def test_each_shard_is_of_one_job(parts):
    shares = [parse_share(f"{n}/7", parts) for n in range(7)]
    assert {share.by_part for share in shares} == {parts == 40}
    for part in range(parts):
        for number in range(20):
            assert sum(share.has(part, number) for share in shares) == 1
    assert all(any(share.has(p, n) for p in range(parts) for n in range(20)) for share in shares)
    assert parse_share("", parts) == Share()


@pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/3", "1/0", "1/3/5"])
def test_a_wrong_share_is_an_error(text):
    with pytest.raises(BertCrfError, match="is not I/N"):
        parse_share(text, 10)
