"""Emissions of docs through the CRF, in padded batches of docs of similar length.

Converts between thinc's arrays and torch's tensors. All code that runs the CRF over several docs
takes its batches from `crf_batches`: decoding, the likelihood of an update, and probabilities.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import torch
from numpy.typing import NDArray
from thinc.types import Floats2d
from torch import Tensor

from ..crf.linear_chain import LinearChainCRF
from ..encoder.passes import IntArray, padded_batches
from ..encoder.transfers import OnItsWay, to_device
from .host_crf import crf_on
from .shared.rows import join_rows, split_rows

#: Largest number of steps of one batch, padding included. It bounds the memory of the CRF.
CRF_BATCH_STEPS = 262_144
#: Largest number of tokens of a prediction on CUDA whose CRF runs on the host.
HOST_STEPS = 65_536

BoolArray = NDArray[np.bool_]


class Emissions(NamedTuple):
    """Emissions of several docs as one tensor.

    rows: the emissions of all tokens, doc after doc. [N tokens, K]
    lengths: number of tokens of each doc.
    """

    rows: Tensor
    lengths: list[int]

    @classmethod
    def of(cls, value: "AnyEmissions", device: torch.device) -> "Emissions":
        """Join the emissions of docs.

        value: the emissions [tokens, K] of each doc. Emissions are returned as they are.
        device: device of the result.
        """
        if isinstance(value, Emissions):
            return value
        return cls(join_rows(value, device), [len(rows) for rows in value])

    def split(self) -> list[Floats2d]:
        """The emissions of each doc as thinc's arrays. [tokens, K] each"""
        return split_rows(self.rows, self.lengths)

    def to_crf(self) -> "EmissionsToCrf":
        """Send them to where their CRF runs fastest: the host, unless they are very many.

        A step of a CRF is a few small operations. On a GPU each costs a launch, so that a CPU is
        done sooner with a batch of ordinary size.
        """
        is_sent = self.rows.device.type == "cuda" and sum(self.lengths) <= HOST_STEPS
        return EmissionsToCrf(OnItsWay(self.rows) if is_sent else None, self)


@dataclass(frozen=True)
class EmissionsToCrf:
    """Emissions on their way to where their CRF runs; see `Emissions.to_crf`.

    way: their way to the host, None where they stay.
    emissions: the emissions, where they were made.
    """

    way: Optional[OnItsWay]
    emissions: Emissions

    def wait(self) -> Emissions:
        """The emissions there."""
        if self.way is None:
            return self.emissions
        return Emissions(self.way.wait(), self.emissions.lengths)


#: Joined emissions, or a list with the emissions [tokens, K] of each doc.
AnyEmissions = Union[Emissions, Sequence[Floats2d]]


@dataclass
class CrfBatch:
    """Docs that go through the CRF together, the longest first. B docs, T steps, K tags.

    members: which of the docs. [B]
    lengths: their numbers of tokens. [B]
    index: row of the joined emissions at each step; padding points at a row of its doc. [B, T]
    emissions: [B, T, K]
    mask: True on real steps. [B, T]
    allowed: tags that each step may have; None if all docs may have all. [B, T, K]
    partial: rows of the docs with a step that may have several tags; None if `allowed` is. [P]
    """

    members: list[int]
    lengths: list[int]
    index: Tensor
    emissions: Tensor
    mask: Tensor
    allowed: Optional[Tensor]
    partial: Optional[Tensor]

    def docs(self) -> Iterator[tuple[int, int, int]]:
        """Row in the batch, number of the doc, and number of its tokens."""
        for row, (member, length) in enumerate(zip(self.members, self.lengths, strict=True)):
            yield row, member, length


def crf_batches(
    emissions: Emissions,
    allowed: Sequence[Optional[BoolArray]] = (),
    *,
    members: Optional[Sequence[int]] = None,
    limit: int = CRF_BATCH_STEPS,
) -> Iterator[CrfBatch]:
    """Batches of docs of similar length; a doc without tokens is in none.

    emissions: the emissions of all docs.
    allowed: tags that each token may have [tokens, K], None for all, for each doc; or empty.
    members: indices of the docs to use, None for all.
    limit: largest number of steps of a batch, padding included.
    """
    rows, lengths = emissions
    if members is None:
        members = [i for i, length in enumerate(lengths) if length]
    counts = np.array(lengths, dtype=np.int64)
    begins = np.cumsum(counts) - counts
    for group in padded_batches([lengths[i] for i in members], limit):
        docs = [members[i] for i in group]
        sizes = [lengths[i] for i in docs]
        arrays: list[NDArray[Any]] = [*_padded_rows(sizes, begins[docs])]
        if allowed and any(allowed[i] is not None for i in docs):
            arrays += _padded_allowed([allowed[i] for i in docs], arrays[1], rows.shape[1])
        index, mask, *constraints = to_device(arrays, rows.device)
        own, partial = constraints or (None, None)
        yield CrfBatch(docs, sizes, index, rows[index], mask, own, partial)


@torch.inference_mode()
def run_batches(
    emissions: Emissions,
    allowed: Sequence[Optional[BoolArray]],
    compute: Callable[[CrfBatch], Sequence[Tensor]],
    limit: int = CRF_BATCH_STEPS,
) -> list[tuple[CrfBatch, list[NDArray[Any]]]]:
    """Batches of docs, and what is computed of each, on the host. There is one transfer for all.

    emissions: the emissions of all docs.
    allowed: see `crf_batches`.
    compute: gives the results of a batch.
    limit: see `crf_batches`.
    """
    batches = list(crf_batches(emissions, allowed, limit=limit))
    return list(zip(batches, to_host([compute(batch) for batch in batches]), strict=True))


def decode(
    crf: LinearChainCRF,
    emissions: AnyEmissions,
    allowed: Sequence[Optional[BoolArray]] = (),
) -> tuple[list[IntArray], int]:
    """Best legal tag ids of each doc that keep to its allowed tags.

    A doc where no legal path keeps to them is decoded without them. There is one transfer from the
    device for all docs.

    crf: the CRF, with its legal transitions.
    emissions: the emissions of the docs, on the device of the CRF or on the host.
    allowed: see `crf_batches`.
    RETURNS: the tag ids of each doc (int64 [tokens]), and the number of docs that were decoded
        without their allowed tags.
    """
    joined = Emissions.of(emissions, crf.legal_start.device)
    crf = crf_on(crf, joined.rows.device)
    out = [np.zeros(length, dtype=np.int64) for length in joined.lengths]
    impossible = []

    def best(batch: CrfBatch) -> tuple[Tensor, Tensor]:
        return crf.viterbi(batch.emissions, batch.mask, batch.allowed)

    for batch, (ids, scores) in run_batches(joined, allowed, best):
        for row, i, length in batch.docs():
            if batch.allowed is not None and scores[row] == -np.inf:
                impossible.append(i)
            else:
                out[i] = ids[row, :length].astype(np.int64)
    if impossible:
        parts = joined.split()
        free, _ = decode(crf, [parts[i] for i in impossible])
        for i, ids in zip(impossible, free, strict=True):
            out[i] = ids
    return out, len(impossible)


def likelihood(
    crf: LinearChainCRF,
    emissions: AnyEmissions,
    allowed: Sequence[BoolArray],
    *,
    constrain: bool,
    accumulate: bool,
    n_docs: Optional[float] = None,
    open_weights: Union[None, Sequence[float], Sequence[Sequence[float]]] = None,
    negate: bool = False,
) -> tuple[Tensor, Emissions]:
    """Negative log-likelihood, mean over the docs with known tokens, and its gradient.

    The host reads nothing.

    crf: the CRF.
    emissions: the emissions of the docs.
    allowed: the tags that each token may have by the gold, [tokens, K] for each doc.
    constrain: leave illegal transitions out of the sums.
    accumulate: add the gradient of the CRF's parameters to what they have.
    n_docs: number by which the sum is divided where these docs are a part of a batch; None for
        the number of docs with known tokens.
    open_weights: see `LinearChainCRF.forward`. [K], or [docs, K] for weights of each doc.
    negate: give the loss and all gradients the opposite sign.
    RETURNS: the loss (float32 []), and the gradient of the emissions. [N, K]
    """
    joined = Emissions.of(emissions, crf.legal_start.device)
    rows = joined.rows
    grad = torch.zeros_like(rows)
    total = torch.zeros((), dtype=torch.float32, device=rows.device)
    members = trainable(allowed)
    if not members:
        return total, Emissions(grad, joined.lengths)
    n_docs = len(members) if n_docs is None else n_docs
    params = list(crf.parameters())
    weights = None
    if open_weights is not None:
        dtype = np.float64 if rows.dtype is torch.float64 else np.float32
        (weights,) = to_device([np.array(open_weights, dtype=dtype)], rows.device)
    for batch in crf_batches(joined, allowed, members=members):
        padded = batch.emissions.requires_grad_()
        assert batch.allowed is not None
        own = weights
        if weights is not None and weights.dim() == 2:
            (index,) = to_device([np.array(batch.members)], rows.device)
            own = weights[index]
        losses = crf(padded, batch.allowed, batch.mask, constrain, own, batch.partial)
        loss = losses.sum() / (-n_docs if negate else n_docs)
        d_padded, *d_params = torch.autograd.grad(loss, [padded, *params])
        # Padding carries a gradient of 0, and points at a row of its own doc.
        grad.index_add_(0, batch.index.flatten(), d_padded.flatten(0, 1))
        total += loss.detach()
        if accumulate:
            for param, d_param in zip(params, d_params, strict=True):
                param.grad = d_param if param.grad is None else param.grad + d_param
    return total, Emissions(grad, joined.lengths)


def read_losses(losses: Sequence[Tensor]) -> list[float]:
    """The losses of `likelihood` as numbers. The host waits for the device once."""
    return torch.stack(list(losses)).tolist() if losses else []


def trainable(allowed: Sequence[BoolArray]) -> list[int]:
    """Indices of the docs that train the model, because they have a known token.

    allowed: the tags that each token may have by the gold, [tokens, K] for each doc.
    """
    return [i for i, own in enumerate(allowed) if own.size and not own.all()]


def to_host(results: Sequence[Sequence[Tensor]]) -> list[list[NDArray[Any]]]:
    """Tensors as arrays of the same shapes. From another device there is one transfer."""
    flat = [tensor for tensors in results for tensor in tensors]
    on_cpu = not flat or flat[0].device.type == "cpu"
    arrays = iter([tensor.numpy() for tensor in flat] if on_cpu else _one_transfer(flat))
    return [[next(arrays) for _ in tensors] for tensors in results]


def _padded_rows(lengths: list[int], begins: IntArray) -> tuple[IntArray, BoolArray]:
    """Rows of padded sequences in the joined emissions, and their mask. [B, T] each"""
    steps = np.arange(max(lengths))[None, :]
    mask = steps < np.array(lengths)[:, None]
    return np.where(mask, begins[:, None] + steps, begins[:, None]), mask


def _padded_allowed(
    allowed: Sequence[Optional[BoolArray]], mask: BoolArray, n_tags: int
) -> tuple[BoolArray, IntArray]:
    """Allowed tags of padded sequences [B, T, K], and rows of those with several at a step [P]."""
    padded = np.ones((*mask.shape, n_tags), dtype=bool)
    for row, own in enumerate(allowed):
        if own is not None:
            padded[row, : len(own)] = own
    several = (np.count_nonzero(padded, axis=2) != 1) & mask
    return padded, np.flatnonzero(several.any(1))


def _one_transfer(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Arrays of tensors by one transfer, in the widest of their floating types.

    Tag ids are exact in float32.
    """
    is_wide = any(tensor.dtype is torch.float64 for tensor in tensors)
    dtype = torch.float64 if is_wide else torch.float32
    joined = torch.cat([tensor.flatten().to(dtype) for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])
    parts = np.split(joined, ends[:-1])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
