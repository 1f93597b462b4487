"""Attention over windows that read some rows of the next gives what torch's own gives."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert_crf.encoder.cpu.attention import (
    attended,
    one_length,
    read_length,
    rows_read,
    windows_of,
)

HEADS, WIDTH = 2, 16


def plain(qkv, n_windows, length, mask):
    n = n_windows * length
    heads = qkv[:n].view(n_windows, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
    context = F.scaled_dot_product_attention(*heads.contiguous(), attn_mask=mask)
    return context.transpose(1, 2).reshape(n, WIDTH)


def masks(n_windows, length):
    keys = torch.ones(n_windows, 1, 1, length, dtype=torch.bool)
    keys[1:, ..., length // 2 + 1 :] = False
    wide = keys.expand(-1, -1, length, -1)
    added = torch.zeros(keys.shape).masked_fill(~keys, torch.finfo(torch.float32).min)
    band = keys & torch.ones(length, length).tril(2).bool()
    return [None, keys, wide, added, added.expand(wide.shape), band]


@pytest.mark.parametrize("length", [1, 4, 5, 12, 15, 16, 17, 31, 47, 64])
def test_as_plain_attention(length):
    torch.manual_seed(0)
    n_windows = 3
    n = n_windows * length
    qkv = torch.randn(n + read_length(length) - length + 2, 3 * WIDTH)
    for mask in masks(n_windows, length):
        windows = [one_length((n_windows, length), mask, qkv)]
        assert rows_read(windows) == len(qkv) - 2
        out = attended(qkv, n, windows, HEADS)
        assert out.shape == (len(qkv), WIDTH) and not out[n:].any()
        assert torch.allclose(out[:n], plain(qkv, n_windows, length, mask), atol=1e-5)


@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=14), is_sorted=st.booleans())
def test_windows_of_several_lengths(lengths, is_sorted):
    lengths = sorted(lengths, reverse=True) if is_sorted else lengths
    windows = windows_of(lengths)
    firsts = [sum(lengths[:i]) for i in range(len(lengths))]
    begins = [own.first + i * own.length for own in windows for i in range(own.number)]
    assert begins == firsts
    qkv = torch.randn(rows_read(windows) + 1, 3 * WIDTH, generator=torch.Generator().manual_seed(0))
    out = attended(qkv, sum(lengths), windows, HEADS)
    assert not out[sum(lengths) :].any()
    for first, length in zip(firsts, lengths, strict=True):
        want = plain(qkv[first:], 1, length, None)
        assert torch.allclose(out[first : first + length], want, atol=1e-5)


def test_windows_of_near_lengths_are_attended_together():
    groups = [(own.number, own.length) for own in windows_of([47, 47, 46, 45, 44, 20, 3])]
    assert groups == [(3, 47), (2, 45), (1, 20), (1, 3)]


def test_few_lengths_are_read():
    lengths = {read_length(length) for length in range(33, 49)}
    assert all(0 <= read_length(n) - n < 16 for n in range(1, 513))
    assert len(lengths) < 16 and read_length(47) == 48 and read_length(48) == 48
