"""The weights file beside a component: mapped, checked, and never half-written."""

import json
import zlib

import pytest
import torch
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_bert_crf.model.weights_file import (
    NAME,
    PendingWeights,
    WeightsFileError,
    beside,
    weights_beside,
    write_weights,
)

#: Checksums of the file in `test_checksums_of_earlier_versions_are_compared`, as computed then.
BLOCKS, CRC = 3490118656, 333128600


def weights(numbers=3_000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(numbers, generator=generator),
        "b.c": torch.randn(3, 5, generator=generator),
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / NAME
    return path, write_weights(path, weights())


def check(path, checksum, **settings):
    pending = PendingWeights(path, **settings)
    pending.check(checksum)
    return pending.tensors


@pytest.mark.parametrize("numbers", [1, 2_047, 2_048, 100_000])
def test_round_trip(tmp_path, numbers):
    path = tmp_path / NAME
    checksum = write_weights(path, weights(numbers))
    found = check(path, checksum)
    for name, tensor in weights(numbers).items():
        assert torch.equal(found[name], tensor)
        assert found[name].data_ptr() % 4 == 0


def test_the_checksum_is_xxh3_of_the_file(written):
    path, checksum = written
    assert checksum == xxhash.xxh3_64_intdigest(path.read_bytes())


@pytest.mark.parametrize("kind, checksum", [("weights_checksum", BLOCKS), ("weights_crc32", CRC)])
def test_checksums_of_earlier_versions_are_compared(tmp_path, kind, checksum):
    path = tmp_path / NAME
    body = (bytes(range(256)) * 81)[:20_492]  # two blocks of 8 KB, 513 words and half a word
    tensor = {"dtype": "F32", "shape": [len(body) // 4], "data_offsets": [0, len(body)]}
    header = json.dumps({"a": tensor}).encode().ljust(88)
    data = len(header).to_bytes(8, "little") + header + body
    assert zlib.crc32(data) == CRC
    path.write_bytes(data)
    assert set(check(path, checksum, kind=kind)) == {"a"}
    for place in (95, 96, 96 + 8_192, 96 + 16_384, len(data) - 1):
        damaged = bytearray(data)
        damaged[place] = ord("\t") if place == 95 else damaged[place] ^ 1  # 95: still valid JSON
        path.write_bytes(damaged)
        with pytest.raises(WeightsFileError, match="checksum"):
            check(path, checksum, kind=kind)


@settings(deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_seen(written, tmp_path_factory, place, bit):
    path, checksum = written
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    damaged = tmp_path_factory.mktemp("damaged") / NAME
    damaged.write_bytes(data)
    with pytest.raises(WeightsFileError):
        check(damaged, checksum)


def test_swapped_blocks_change_the_checksum(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    numbers = torch.randn(4, 2_048)  # rows of 8 KB
    assert write_weights(one, {"a": numbers}) != write_weights(other, {"a": numbers[[1, 0, 2, 3]]})


@pytest.mark.parametrize("what", ["missing", "empty", "cut", "longer"])
def test_other_damage_is_named(written, tmp_path, what):
    path, checksum = written
    data = path.read_bytes()
    damaged = tmp_path / NAME
    if what != "missing":
        damaged.write_bytes({"empty": b"", "cut": data[:-8], "longer": data + b"\0" * 8}[what])
    with pytest.raises(WeightsFileError):
        check(damaged, checksum)


def test_a_mapped_file_survives_its_replacement(tmp_path):
    path = tmp_path / NAME
    tensors = check(path, write_weights(path, weights()))
    write_weights(path, weights(seed=1))
    assert torch.equal(tensors["a"], weights()["a"])
    assert [file.name for file in tmp_path.iterdir()] == [NAME]


def test_weights_beside_ends_with_its_block(tmp_path):
    assert beside() is None
    with weights_beside(tmp_path):
        assert beside() == tmp_path / NAME
    assert beside() is None
