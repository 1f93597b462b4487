"""Viterbi decoding of a batch by a Triton kernel."""

# Triton reads the arguments of a kernel in its own way, so they have no types.
# mypy: allow-untyped-defs, allow-incomplete-defs

import torch
import triton
import triton.language as tl
from torch import Tensor

from .availability import on_device_of, padded, warps


def viterbi(
    emissions: Tensor,
    start: Tensor,
    end: Tensor,
    transitions: Tensor,
    mask: Tensor,
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """Best tag path of each sequence and its score. [B, T] (int64, 0 in padding), [B]

    Ties go to the lower tag id. Where there is no path, the score is -inf and the tags are 0. The
    host reads nothing. In the dtype of the emissions, the results have the same bits as those of
    `crf.viterbi.viterbi`, because the sums are the same.

    emissions: [B, T, K], -inf for tags that are not allowed.
    start: score of each tag at the first step, -inf for excluded ones. [K]
    end: score of each tag at the last step, -inf for excluded ones. [K]
    transitions: [from, to], -inf for excluded pairs. [K, K]
    mask: True on real steps, sequences padded on the right. bool [B, T]
    wide: whether to sum in float64. Sums over many steps need it.
    """
    n_batch, n_steps, n_tags = emissions.shape
    tags = torch.zeros_like(mask, dtype=torch.int64)
    score = emissions.new_empty(n_batch)
    pointers = torch.empty(emissions.shape, dtype=torch.uint8, device=emissions.device)
    with on_device_of(emissions):
        viterbi_kernel[(n_batch,)](
            emissions.contiguous(), start.contiguous(), end.contiguous(),
            transitions.contiguous(), mask.sum(1), pointers, tags, score, n_steps, n_tags,
            WIDE=wide, K=padded(n_tags), num_warps=warps(n_tags),
        )  # fmt: skip
    return tags, score


@triton.jit(do_not_specialize=["n_steps", "n_tags"])
def viterbi_kernel(
    emissions,  # [B, T, n_tags]
    start,  # [n_tags]
    end,  # [n_tags]
    transitions,  # [n_tags, n_tags]
    lengths,  # int64 [B]
    pointers,  # scratch: the tag before each tag. bytes [B, T, n_tags]
    tags_of,  # output, which holds zeros. int64 [B, T]
    score_of,  # output. [B]
    n_steps,
    n_tags,
    WIDE: tl.constexpr,
    K: tl.constexpr,  # n_tags, rounded up to a power of two
):
    """The best path of one sequence. Grid: (B,)"""
    sequence = tl.program_id(0).to(tl.int64)
    tags = tl.arange(0, K)
    there = tags < n_tags
    length = tl.maximum(tl.load(lengths + sequence), 1).to(tl.int32)
    # shape: (K_from, K_to)
    pairs = tl.load(
        transitions + tags[:, None] * n_tags + tags[None, :],
        mask=there[:, None] & there[None, :],
        other=float("-inf"),
    )
    first = tl.load(start + tags, mask=there, other=float("-inf"))
    last = tl.load(end + tags, mask=there, other=float("-inf"))
    if WIDE:
        pairs = pairs.to(tl.float64)
        first = first.to(tl.float64)
        last = last.to(tl.float64)
    begin = sequence * n_steps
    rows = emissions + begin * n_tags + tags
    scores = tl.load(rows, mask=there, other=0.0)
    best = scores + first
    sources = pointers + begin * n_tags
    # The scores of a step are loaded while the step before is computed.
    scores = tl.load(rows + tl.minimum(1, length - 1) * n_tags, mask=there, other=0.0)
    for step in range(1, length):
        next_row = rows + tl.minimum(step + 1, length - 1) * n_tags
        following = tl.load(next_row, mask=there, other=0.0)
        paths = best[:, None] + pairs
        incoming, source = tl.max(paths, 0, return_indices=True, return_indices_tie_break_left=True)
        tl.store(sources + step * n_tags + tags, source.to(tl.uint8), mask=there)
        best = scores + incoming
        scores = following
    # All threads must have written before one of them reads.
    tl.debug_barrier()
    score, tag = tl.max(best + last, 0, return_indices=True, return_indices_tie_break_left=True)
    tl.store(score_of + sequence, score.to(score_of.dtype.element_ty))
    if score != float("-inf"):
        tag = tl.minimum(tag, n_tags - 1)  # Of scores that are nan, any tag may be the best.
        tl.store(tags_of + begin + length - 1, tag.to(tl.int64))
        for back in range(1, length):
            step = length - back
            tag = tl.load(sources + step * n_tags + tag).to(tl.int32)
            tag = tl.minimum(tag, n_tags - 1)
            tl.store(tags_of + begin + step - 1, tag.to(tl.int64))
