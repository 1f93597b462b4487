"""Viterbi decoding of long sequences: cut into blocks that are computed side by side. Exact.

Step by step, a sequence costs one round of small operations a step, however few the tags. Here
blocks take their steps together. Each needs the scores with which the block before it ends: they
are guessed first, and blocks whose guess was wrong are computed again with what the block before
found, until all fit. What a block ends with depends on how it begins by a constant at most, as soon
as the best paths to all tags share a step, which they do within a few dozen steps of any text: so
two rounds do as a rule. In the worst case there are as many rounds as blocks, of which each settles
one more, and the costs are those of going step by step.

Scores are kept relative to the best of their block: over 100,000 steps sums in float32 would be
good to 0.1 only.
"""

import math

import numpy as np
import torch
from torch import Tensor

#: Steps above which the blocks pay.
LONG = 4096
#: Scores of paths that agree this far are the same; they are sums in float64.
_SAME = 1e-7
#: Elements of the arrays [K, K, blocks] and [steps, K, K].
_IN_CACHE = 65_536


def viterbi_long(
    emissions: Tensor, start: Tensor, end: Tensor, transitions: Tensor
) -> tuple[Tensor, Tensor]:
    """Best tag path of one sequence and its score. [T] (int64), []

    emissions: [T, K]. start, end: [K]. transitions: [from, to], -inf for what is excluded.
    Where there is no path, the score is -inf and the tags are 0. One read by the host a round, and
    one of the pointers. Ties are decided by the lower tag id, within float64.
    """
    scores, total = _scores(emissions, start, transitions)
    dtype, device = emissions.dtype, emissions.device
    best, tag = (scores[-1] + end.double()).max(dim=0)
    path = _trace_back(scores, transitions.double(), int(tag))
    score = best + total
    tags = torch.from_numpy(path).to(device)
    return tags.masked_fill(score == -torch.inf, 0), score.to(dtype)


def _scores(emissions: Tensor, start: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """Score of the best path to each tag at each step, less a constant of the step's block, and
    that constant of the last step. [T, K], []"""
    n_steps, n_tags = emissions.shape
    # As many blocks as steps in each, or fewer, so that a step of all stays in cache.
    size = -(-n_steps // max(1, min(math.isqrt(n_steps), _IN_CACHE // n_tags**2)))
    n_blocks = -(-n_steps // size)
    wide = emissions.new_zeros((n_blocks * size, n_tags), dtype=torch.float64)
    wide[:n_steps] = emissions
    pairs = transitions.double().unsqueeze(2)
    # shape: (M * L, K) -> (L, K, M); holds emissions, and then the scores
    steps = wide.view(n_blocks, size, n_tags).permute(1, 2, 0).contiguous()
    first = start.double() + steps[0, :, 0]
    # Scores with which each block is entered, from the block before. shape: (K, M)
    entry = steps.new_zeros((n_tags, n_blocks))
    scores = torch.empty_like(steps)
    # By how much a block's scores are less than those of the one before.
    shifts = steps.new_zeros(n_blocks)
    wrong: Tensor | slice = slice(None)
    for turn in range(n_blocks):
        begin = first if turn == 0 else None
        scores[:, :, wrong] = _forward(steps[:, :, wrong], entry[:, wrong], pairs, begin)
        # shape: (K, M - 1)
        found, shifts[1:] = _relative(scores[-1, :, :-1])
        same = (found - entry[:, 1:]).abs() <= _SAME
        same |= found == entry[:, 1:]  # two that are -inf
        entry[:, 1:] = found
        wrong = (~same.all(dim=0)).nonzero().squeeze(1) + 1
        if not len(wrong):
            break
    # shape: (L, K, M) -> (T, K)
    relative = scores.permute(2, 0, 1).reshape(n_blocks * size, n_tags)[:n_steps]
    return relative, shifts.sum()


def _forward(emissions: Tensor, entry: Tensor, pairs: Tensor, first: Tensor | None) -> Tensor:
    """Scores of the best paths through some blocks. [L, K, M]

    emissions: [L, K, M]. entry: [K, M]. pairs: transitions [from, to, 1].
    first: of the first step of the first block, if that one begins the sequence. [K]
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
    """Scores less the best of their column, and that. [K, M], [M]"""
    best = scores.amax(dim=0)
    best = best.masked_fill(best == -torch.inf, 0.0)
    return scores - best, best


def _trace_back(scores: Tensor, transitions: Tensor, last: int) -> np.ndarray:
    """Tags of the path that ends with this one. [T]

    scores: [T, K], comparable within a step. transitions: [from, to].
    """
    n_steps, n_tags = scores.shape
    size = max(1, _IN_CACHE // n_tags**2)
    pointers = []
    for begin in range(0, n_steps - 1, size):
        some = scores[begin : min(begin + size, n_steps - 1)]
        # shape: (t, K_from, K_to) -> (t, K_to)
        pointers.append((some.unsqueeze(2) + transitions).argmax(dim=1).to(torch.int16))
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
