import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_bert_crf.encoder.passes import padded_batches, plan_batches
from spacy_bert_crf.encoder.texts.doc_texts import token_pieces
from spacy_bert_crf.encoder.texts.windows import joined_windows, parted, plan_windows


@given(n=st.integers(0, 3000), size=st.integers(4, 510), share=st.floats(0, 0.5))
def test_windows_cover_the_text_and_own_it_once(n, size, share):
    overlap = int(size * share)
    windows = plan_windows(n, size, overlap)
    owned = [i for w in windows for i in range(w.own_begin, w.own_end)]
    assert owned == list(range(n))
    for w in windows:
        assert 0 <= w.begin <= w.own_begin < w.own_end <= w.end <= n
        assert w.end - w.begin <= size
    for a, b in zip(windows, windows[1:], strict=False):
        assert a.end - b.begin >= overlap
    assert (len(windows) == 1) == (0 < n <= size)


def test_a_piece_is_read_where_it_is_most_central():
    windows = plan_windows(1000, 510, 128)
    assert len(windows) == 3
    for piece in range(1000):
        room = [min(piece - w.begin, w.end - 1 - piece) for w in windows]
        (owner,) = (i for i, w in enumerate(windows) if w.own_begin <= piece < w.own_end)
        assert room[owner] >= max(room) - 1


@given(
    counts=st.lists(st.integers(0, 400), max_size=5), data=st.data(), size=st.integers(4, 120),
    fit=st.booleans(),
)  # fmt: skip
def test_windows_are_made_of_sentences(counts, data, size, fit):
    total = sum(counts)
    cuts = sorted(data.draw(st.sets(st.integers(0, total), max_size=40)))
    kept = np.full(len(cuts), not fit)
    rows = joined_windows(np.array(counts, int), np.array(cuts, int), kept, size, size // 4)
    owned = {i: [] for i in range(len(counts))}
    for text, begin, end, own_begin, own_end in rows.tolist():
        assert 0 <= begin <= own_begin < own_end <= end <= counts[text] and end - begin <= size
        owned[text] += range(own_begin, own_end)
    assert owned == {i: list(range(n)) for i, n in enumerate(counts)}
    first = 0
    for i, n in enumerate(counts):
        edges = sorted({0, n, *(cut - first for cut in cuts if 0 < cut - first < n)})
        sentences = list(zip(edges, edges[1:], strict=False))
        mine = [row[1:3] for row in rows.tolist() if row[0] == i]
        for begin, end in mine:
            inside = [s for s in sentences if s[0] < end and begin < s[1]]
            if len(inside) == 1:
                a, b = inside[0]
                assert [begin, end] == [a, b] or b - a > size
            else:  # several whole sentences
                assert fit and [begin, end] == [inside[0][0], inside[-1][1]]
        if fit and n <= size:
            assert mine == [[0, n]] * (n > 0)
        if not fit:
            assert [list(s) for s in sentences if s[1] - s[0] <= size] == [
                m for m in mine if tuple(m) in sentences
            ]
        first += n


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60), size=st.integers(40, 200))
def test_a_long_text_has_as_few_parts_as_a_greedy_choice(lengths, size):
    edges = np.append(0, np.cumsum(lengths))
    kept = parted(edges, size).tolist()
    assert kept[0] == 0 and kept[-1] == edges[-1] and set(kept) <= set(edges.tolist())
    assert max(np.diff(kept)) <= size
    greedy, begin = 0, 0
    while begin < edges[-1]:
        begin, greedy = int(edges[edges <= begin + size][-1]), greedy + 1
    assert len(kept) - 1 <= greedy + 1


def test_parts_are_of_like_length():
    assert parted(np.arange(0, 701, 10), 510).tolist() == [0, 350, 700]


def test_overlap_must_leave_room():
    with pytest.raises(ValueError, match="overlap"):
        plan_windows(10, 4, 4)


@given(lengths=st.lists(st.integers(0, 600), max_size=40), limit=st.integers(1, 2000))
def test_batches_hold_each_index_once_within_the_limit(lengths, limit):
    batches = padded_batches(lengths, limit)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= limit
        assert lengths[batch[0]] == max(lengths[i] for i in batch)


@given(
    lengths=st.lists(st.integers(0, 40), max_size=40), limit=st.integers(1, 200),
    padding=st.booleans(),
)  # fmt: skip
def test_a_batch_takes_the_next_member_while_it_fits(lengths, limit, padding):
    want, longest = [], 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        other = not padding and max(lengths[index], 1) != longest
        if not want or other or (len(want[-1]) + 1) * longest > limit:
            want.append([])
            longest = max(lengths[index], 1)
        want[-1].append(index)
    assert padded_batches(lengths, limit, padding) == want


@given(
    lengths=st.lists(st.integers(0, 60), max_size=40), limit=st.integers(1, 900),
    dense=st.integers(1, 500),
)  # fmt: skip
def test_large_batches_have_little_padding(lengths, limit, dense):
    batches = padded_batches(lengths, limit, dense=dense)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest, shortest = max(lengths[batch[0]], 1), max(lengths[batch[-1]], 1)
        size = len(batch) * longest
        assert size <= max(limit, longest)
        assert size <= dense or 2 * shortest >= longest or len(batch) == 1
    assert padded_batches(lengths, min(limit, dense), dense=dense) == padded_batches(
        lengths, min(limit, dense)
    )  # a limit below it decides alone


def test_pieces_of_tokens_by_offsets():
    # text: 1998年 iphone (tokens 1|9|9|8|年|␣|iphone; pieces 1998, 年, ip, ##hone)
    starts = np.array([0, 1, 2, 3, 4, 5, 6])
    ends = np.array([1, 2, 3, 4, 5, 6, 12])
    pieces = token_pieces(starts, ends, np.array([0, 4, 6, 8]), np.array([4, 5, 8, 12]))
    assert pieces.tolist() == [[0, 1]] * 4 + [[1, 2], [0, 0], [2, 4]]


@settings(max_examples=50)
@given(
    sizes=st.lists(st.integers(0, 90), min_size=1, max_size=6), limit=st.integers(20, 200),
    context=st.sampled_from(["sentences", "fit"]),
)  # fmt: skip
def test_each_token_reads_the_rows_of_its_pieces(sizes, limit, context):
    """Each id is unique, so following a row back to its input id tells whether it is right."""
    first = 1000
    pieces, ranges, cuts = [], [], []
    for n in sizes:
        pieces.append(np.arange(first, first + n))
        first += n
        cuts.append(list(range(5, n, 11)))
        ranges.append(np.stack([np.arange(n), np.minimum(np.arange(n) + 2, n)], axis=1))
    plan = plan_batches(
        pieces, ranges, cuts, prefix=[1], suffix=[2], pad_id=0, size=30, overlap=8, limit=limit,
        context=context,
    )  # fmt: skip
    rows = np.concatenate([b.ids.reshape(-1) for b in plan.batches] or [np.zeros(0, int)])
    want = [
        np.arange(p[i], p[j - 1] + 1) for p, r in zip(pieces, ranges, strict=True) for i, j in r
    ]
    assert rows[plan.rows].tolist() == [int(x) for w in want for x in w]
    assert plan.counts.tolist() == [len(w) for w in want]
    for batch in plan.batches:
        assert batch.ids.shape[1] <= 32
        real = batch.ids != 0
        assert (batch.mask is None and real.all()) or (batch.mask == real).all()
