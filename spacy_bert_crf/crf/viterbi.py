"""Viterbi decoding of a batch: the best path and the k best. Viterbi (1967), Rabiner (1989)."""

import numpy as np
import torch
from torch import Tensor

from .kernels.availability import use_kernels
from .viterbi_blocks import LONG, viterbi_one_by_one


def decode(
    emissions: Tensor, start: Tensor, end: Tensor, transitions: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """`viterbi` in the fastest way for this batch. [B, T] (int64, 0 in padding), [B]

    Sums over more than LONG steps are in float64. The host reads nothing, except for such
    sequences where there are no kernels.
    """
    is_long = mask.shape[1] > LONG
    if use_kernels(emissions):
        from .kernels.viterbi import viterbi as by_kernel

        return by_kernel(emissions, start, end, transitions, mask, wide=is_long)
    return (viterbi_one_by_one if is_long else viterbi)(emissions, start, end, transitions, mask)


def viterbi(
    emissions: Tensor, start: Tensor, end: Tensor, transitions: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Best tag path of each sequence and its score. [B, T] (int64, 0 in padding), [B]

    Ties go to the lower tag id. The host reads nothing.

    emissions: [B, T, K], -inf for tags that are not allowed.
    start: score of each tag at the first step, -inf for excluded ones. [K]
    end: score of each tag at the last step, -inf for excluded ones. [K]
    transitions: [from, to], -inf for excluded pairs. [K, K]
    mask: True on real steps, sequences padded on the right. bool [B, T]
    """
    n_batch, n_steps, n_tags = emissions.shape
    # Tags come before sequences, so that the maximum over tags runs over whole rows of sequences.
    # shape: (T, K, B), holds emissions first, then the best score of a path to each tag
    best = emissions.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)
    best[0] += start.unsqueeze(1)
    # shape: (K_from, K_to, B) -> (K_to, B)
    paths = best.new_empty((n_tags, n_tags, n_batch))
    value = best.new_empty((n_tags, n_batch))
    pairs, incoming = transitions.unsqueeze(2), value.unsqueeze(1)
    # shape of a step: (K, 1, B)
    before, *steps = best.unsqueeze(2).unbind()
    for state in steps:
        torch.add(before, pairs, out=paths)
        torch.amax(paths, 0, out=value)
        before = state.add_(incoming)

    # shape: (T, B, K)
    scores, back = _backwards(best.transpose(1, 2), mask)
    # Each sequence is traced back from its own last step. No pointers were kept, because only
    # one in K is needed.
    score, tag = (scores[0] + end).max(dim=1)
    trace = _trace_back_on_cpu if tag.device.type == "cpu" else _trace_back
    # shape: (B, T)
    tags = trace(scores, transitions.T.contiguous(), tag).gather(0, back).T
    exists = (score != -torch.inf).unsqueeze(1)
    return tags.masked_fill(~(mask & exists), 0), score


def _trace_back(scores: Tensor, into: Tensor, tag: Tensor) -> Tensor:
    """Tags of the best paths, from the last step to the first. [T, B]

    scores: score of the best path to each tag, last step first. [T, B, K]
    into: transitions [to, from]. [K, K]
    tag: the last tag of each path. [B]
    """
    first, *rows = scores.unbind()
    path, source = [tag], torch.empty_like(first)
    for row in rows:
        torch.index_select(into, 0, tag, out=source)
        tag = source.add_(row).argmax(1)
        path.append(tag)
    return torch.stack(path)


def _trace_back_on_cpu(scores: Tensor, into: Tensor, tag: Tensor) -> Tensor:
    """`_trace_back` in numpy, whose calls on such small arrays take half the time of torch's."""
    rows, sources = scores.numpy(), into.numpy()
    path = np.empty(rows.shape[:2], dtype=np.int64)
    before = path[0]
    before[:] = tag.numpy()
    source = np.empty_like(rows[0])
    for row, here in zip(rows[1:], path[1:], strict=True):
        sources.take(before, 0, source, "clip")
        np.add(source, row, source)
        source.argmax(1, here)
        before = here
    return torch.from_numpy(path)


def nbest(
    emissions: Tensor, start: Tensor, end: Tensor, transitions: Tensor, mask: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The k best tag paths of each sequence and their scores. [B, k, T], [B, k]

    List Viterbi decoding (Seshadri & Sundberg 1994): each tag keeps its k best paths. All paths
    of a sequence differ, and the best comes first. Where there are fewer than k, the score is -inf
    and the tags are 0. The host reads nothing.

    k: number of paths. The other arguments are as in `viterbi`.
    """
    n_batch, n_steps, n_tags = emissions.shape
    scores = emissions.transpose(0, 1)
    # A place of a step is a pair (tag, rank).
    # shape: (B, K, k)
    best = scores.new_full((n_batch, n_tags, k), -torch.inf)
    best[:, :, 0] = start + scores[0]
    # shape: (K_to, K_from * k)
    into = transitions.T.repeat_interleave(k, dim=1)
    states = [best.flatten(1)]
    sources = [torch.zeros_like(states[0], dtype=torch.int64)]
    for step in range(1, n_steps):
        best, source = (states[-1].unsqueeze(1) + into).topk(k, dim=2)
        states.append((best + scores[step].unsqueeze(2)).flatten(1))
        sources.append(source.flatten(1))
    # shape: (T, B, K * k)
    last, back = _backwards(torch.stack(states), mask)
    pointers, _ = _backwards(torch.stack(sources), mask)
    # shape: (B, k)
    score, place = (last[0] + end.repeat_interleave(k)).topk(k, dim=1)
    path = [place]
    for pointer in pointers[:-1]:
        place = pointer.gather(1, place)
        path.append(place)
    # shape: (T, B, k) -> (B, k, T)
    tags = torch.stack(path).div_(k, rounding_mode="floor")
    tags = tags.gather(0, back.unsqueeze(2).expand_as(tags)).permute(1, 2, 0)
    exists = (score != -torch.inf).unsqueeze(2)
    return tags.masked_fill(~(mask.unsqueeze(1) & exists), 0), score


def _backwards(rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of each sequence from its last step to its first, and their steps.

    rows: [T, B, N]
    mask: True on real steps. bool [B, T]
    RETURNS: [T, B, N], [T, B]. Beyond the first step, the first is repeated.
    """
    n_steps, n_batch, _ = rows.shape
    places = torch.arange(n_steps, device=mask.device).unsqueeze(1)
    columns = torch.arange(n_batch, device=mask.device)
    # shape: (T, B)
    back = (mask.sum(1) - 1 - places).clamp_(min=0)
    flat = rows.reshape(n_steps * n_batch, -1)
    return flat.index_select(0, (back * n_batch + columns).flatten()).view(rows.shape), back
