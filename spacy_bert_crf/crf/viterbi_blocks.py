"""Exact Viterbi decoding of long sequences, in blocks that are computed side by side.

Step by step, a long sequence costs one round of small operations for each step. Here all blocks
take a step together. Each block needs the scores with which the block before it ends. They are
guessed first. A block whose guess was wrong is computed again from the scores that were found,
until all guesses are right.

Suppose that the best paths to all tags share a step of a block. Then the scores at the block's end
depend on those at its start by a constant only. In texts a few dozen steps suffice for that, so
two rounds are usual. At worst there are as many rounds as blocks, which costs as much as step by
step.

Scores are relative to the best of their block. In float32, absolute sums over 100,000 steps would
be accurate to 0.1 only.
"""

import math

import numpy as np
import torch
from torch import Tensor

from .log_scan import wide_dtype

#: Number of steps above which blocks are faster.
LONG = 4096
#: Largest difference between scores that count as equal. They are sums of `wide_dtype`.
_SAME = 1e-7
#: Largest number of elements of the arrays [K, K, blocks] and [steps, K, K]. They stay in cache.
_IN_CACHE = 65_536


def viterbi_long(
    emissions: Tensor, start: Tensor, end: Tensor, transitions: Tensor
) -> tuple[Tensor, Tensor]:
    """Best tag path of one sequence and its score. [T] (int64), []

    Where there is no path, the score is -inf and the tags are 0. Ties (in `wide_dtype`) go to the
    lower tag id. The host reads one value a round, and the pointers once.

    emissions: [T, K], -inf for tags that are not allowed.
    start: score of each tag at the first step, -inf for excluded ones. [K]
    end: score of each tag at the last step, -inf for excluded ones. [K]
    transitions: [from, to], -inf for excluded pairs. [K, K]
    """
    scores, total = _scores(emissions, start, transitions)
    dtype, device = emissions.dtype, emissions.device
    best, tag = (scores[-1] + end.to(scores.dtype)).max(dim=0)
    path = _trace_back(scores, transitions.to(scores.dtype), int(tag))
    score = best + total
    tags = torch.from_numpy(path).to(device)
    return tags.masked_fill(score == -torch.inf, 0), score.to(dtype)


def viterbi_one_by_one(
    emissions: Tensor, start: Tensor, end: Tensor, transitions: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """`viterbi_long` of each sequence of a batch. [B, T] (int64, 0 in padding), [B]

    emissions: [B, T, K], -inf for tags that are not allowed.
    mask: True on real steps, sequences padded on the right. bool [B, T]
    The other arguments are as in `viterbi_long`.
    """
    tags = torch.zeros_like(mask, dtype=torch.int64)
    score = emissions.new_empty(len(mask))
    for row, length in enumerate(mask.sum(1).tolist()):
        found = viterbi_long(emissions[row, :length], start, end, transitions)
        tags[row, :length], score[row] = found
    return tags, score


def _scores(emissions: Tensor, start: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """Score of the best path to each tag at each step, relative to its block. [T, K], []

    The second value plus a score of the last block is the score of the whole path.
    """
    n_steps, n_tags = emissions.shape
    # As many blocks as steps in each, or fewer, so that one step of all blocks stays in cache.
    size = -(-n_steps // max(1, min(math.isqrt(n_steps), _IN_CACHE // n_tags**2)))
    n_blocks = -(-n_steps // size)
    dtype = wide_dtype(emissions.device)
    wide = emissions.new_zeros((n_blocks * size, n_tags), dtype=dtype)
    wide[:n_steps] = emissions
    pairs = transitions.to(dtype).unsqueeze(2)
    # shape: (M * L, K) -> (L, K, M)
    steps = wide.view(n_blocks, size, n_tags).permute(1, 2, 0).contiguous()
    first = start.to(dtype) + steps[0, :, 0]
    # Scores with which each block is entered, from the block before. shape: (K, M)
    entry = steps.new_zeros((n_tags, n_blocks))
    scores = torch.empty_like(steps)
    # The difference between a block's scale and that of the block before.
    shifts = steps.new_zeros(n_blocks)
    wrong: Tensor | slice = slice(None)
    for turn in range(n_blocks):
        begin = first if turn == 0 else None
        scores[:, :, wrong] = _forward(steps[:, :, wrong], entry[:, wrong], pairs, begin)
        # shape: (K, M - 1)
        found, shifts[1:] = _relative(scores[-1, :, :-1])
        same = (found - entry[:, 1:]).abs() <= _SAME
        same |= found == entry[:, 1:]  # Both may be -inf.
        entry[:, 1:] = found
        wrong = (~same.all(dim=0)).nonzero().squeeze(1) + 1
        if not len(wrong):
            break
    # shape: (L, K, M) -> (T, K)
    relative = scores.permute(2, 0, 1).reshape(n_blocks * size, n_tags)[:n_steps]
    return relative, shifts.sum()


def _forward(emissions: Tensor, entry: Tensor, pairs: Tensor, first: Tensor | None) -> Tensor:
    """Scores of the best paths through blocks. [L, K, M]

    emissions: [L, K, M]
    entry: scores before the first step. [K, M]
    pairs: transitions [from, to, 1]. [K, K, 1]
    first: scores of the first step of the first block, if it begins the sequence. [K]
    """
    scores = torch.empty_like(emissions)
    paths = torch.empty_like(
        pairs.expand(-1, -1, entry.shape[1]), memory_format=torch.contiguous_format
    )
    before = entry
    for step, (rows, out) in enumerate(zip(emissions.unbind(), scores.unbind(), strict=True)):
        torch.add(before.unsqueeze(1), pairs, out=paths)
        torch.amax(paths, 0, out=out)
        out += rows
        if step == 0 and first is not None:
            out[:, 0] = first
        before = out
    return scores


def _relative(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Scores minus the best of their column, and that best score. [K, M], [M]"""
    best = scores.amax(dim=0)
    best = best.masked_fill(best == -torch.inf, 0.0)
    return scores - best, best


def _trace_back(scores: Tensor, transitions: Tensor, last: int) -> np.ndarray:
    """Tags of the best path that ends with the tag `last`. [T]

    scores: comparable within a step. [T, K]
    transitions: [from, to]. [K, K]
    last: tag id of the last step.
    """
    n_steps, n_tags = scores.shape
    size = max(1, _IN_CACHE // n_tags**2)
    pointers = []
    for begin in range(0, n_steps - 1, size):
        some = scores[begin : min(begin + size, n_steps - 1)]
        # shape: (t, K_from, K_to) -> (t, K_to)
        pointers.append((some.unsqueeze(2) + transitions).argmax(dim=1).to(torch.int16))
    # shape: (T - 1, K)
    joined = torch.cat(pointers) if pointers else scores.new_empty((0, n_tags), dtype=torch.int16)
    flat = joined.flatten().cpu().numpy().data
    path = np.empty(n_steps, dtype=np.int64)
    path[-1] = tag = last
    walked = []
    for at in range((n_steps - 2) * n_tags, -1, -n_tags):
        tag = flat[at + tag]
        walked.append(tag)
    path[:-1] = walked[::-1]
    return path
