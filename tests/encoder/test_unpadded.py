"""Windows of a plan one after the other: what stands where, and which go together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert_crf.encoder.passes import plan_batches
from spacy_bert_crf.encoder.unpadded import flatten, positions_of, split_windows


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any),
    limit=st.integers(1, 200),
)
def test_each_token_reads_the_same_wordpiece(lengths, limit):
    """Every wordpiece has an id of its own here, so that ids tell which one is read."""
    begins = np.cumsum([10, *lengths])
    pieces = [np.arange(a, a + n) for a, n in zip(begins[:-1], lengths, strict=True)]
    ranges = [np.stack([np.arange(n), np.arange(n) + 1], 1) for n in lengths]
    plan = plan_batches(
        pieces, ranges, [[]] * len(pieces), prefix=[1], suffix=[2], pad_id=0, size=20, overlap=4,
        limit=limit,
    )  # fmt: skip
    flat = flatten(plan, None)
    assert flat.ids[flat.place[plan.rows]].tolist() == np.concatenate(pieces).tolist()
    assert flat.lengths.sum() == len(flat.ids) == len(flat.positions)
    assert 0 not in flat.ids  # no padding
    firsts = np.cumsum(flat.lengths) - flat.lengths
    assert (flat.ids[firsts] == 1).all() and (flat.positions[firsts] == 0).all()
    assert (np.diff(flat.positions)[flat.positions[1:] > 0] == 1).all()


def test_positions_count_from_zero_or_behind_the_padding():
    ids = np.array([[0, 7, 1, 8, 2, 1, 1]])
    assert positions_of(ids, None).tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    # transformers' create_position_ids_from_input_ids with padding_idx = 1
    assert positions_of(ids, 1).tolist() == [[2, 3, 1, 4, 5, 1, 1]]


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=20), limit=st.integers(1, 120))
def test_ranges_of_windows(lengths, limit):
    ranges = split_windows(np.array(lengths), limit)
    assert [at for a, b in ranges for at in range(a, b)] == list(range(len(lengths)))
    for a, b in ranges:
        assert a < b and (sum(lengths[a:b]) <= limit or b == a + 1)
    for (a, b), (_, end) in zip(ranges[:-1], ranges[1:], strict=True):
        assert sum(lengths[a : b + 1]) > limit and end > b  # no more would have fitted
