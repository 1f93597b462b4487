"""What the CRF says of docs' emissions: best paths within sets of allowed tags, probabilities of
entities, candidates, n-best. Knows nothing of Doc.

Docs of like length go through the CRF together, in the batches that decoding uses. Results leave
the device twice for all docs together: paths and figures, then the probabilities of the spans
that these name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from thinc.api import Model
from thinc.types import Floats2d
from torch import Tensor

from ..annotation.schemes import EntitySpan, TagSet
from ..crf.forward_backward import wide_dtype
from ..crf.linear_chain import LinearChainCRF
from ..crf.posterior import Posterior
from ..encoder.passes import IntArray, padded_batches
from ..model.layers import CRF_BATCH_STEPS, head_of, join_rows, padded_rows, to_device
from .entity_spans import SpanQueries, candidate_spans

BoolArray = NDArray[np.bool_]
#: Tags that each token of a doc may have, [tokens, K]; None for all.
Sets = Optional[BoolArray]


class ScoredSpan(NamedTuple):
    """An entity over tokens `start` to `end - 1`, and the probability that it is just these."""

    start: int
    end: int
    label: str
    probability: float

    @property
    def span(self) -> EntitySpan:
        """Without the probability."""
        return EntitySpan(self.start, self.end, self.label)


@dataclass
class Reading:
    """What the CRF says of one doc.

    tags: ids of the best path. [tokens]
    entities: of the best path, in order.
    candidates: other entities whose probability is high enough, ordered by (start, end, label).
    asked: probability of each span that was asked for, in that order.
    log_probability: of the best path. entropy: of the distribution over paths, in nats.
    within_sets: False where no legal path keeps to the doc's sets, so that they were left out.
    """

    tags: IntArray
    entities: list[ScoredSpan] = field(default_factory=list)
    candidates: list[ScoredSpan] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    log_probability: float = 0.0
    entropy: float = 0.0
    within_sets: bool = True


class Path(NamedTuple):
    """A tag path [tokens] and its probability."""

    tags: IntArray
    probability: float


@dataclass
class _Batch:
    """Docs that go through the CRF together. The docs are `members` of the list."""

    members: list[int]
    lengths: list[int]
    emissions: Tensor
    mask: Tensor
    allowed: Optional[Tensor]


@dataclass
class _Asks:
    """Spans of a batch whose probabilities are wanted, and of what kind each is: "entity",
    "candidate" or "asked"."""

    batch: _Batch
    posterior: Posterior
    queries: SpanQueries
    kinds: list[str]


def decode_within(
    model: Model, emissions: Sequence[Floats2d], sets: Sequence[Sets]
) -> list[Optional[IntArray]]:
    """Best legal tag ids of each doc [tokens] that keep to its sets; None where there are none."""
    out: list[Optional[IntArray]] = [np.zeros(0, dtype=np.int64) for _ in emissions]
    crf, batches, results = _crf(model), [], []
    with torch.inference_mode():
        for batch in _batches(crf, emissions, sets):
            tags, score = crf.viterbi(batch.emissions, batch.mask, batch.allowed)
            batches.append(batch)
            results.append([tags, score])
        for batch, (tags_array, scores) in zip(batches, _to_host(results), strict=True):
            for row, (i, length) in enumerate(zip(batch.members, batch.lengths, strict=True)):
                exists = scores[row] != -np.inf
                out[i] = tags_array[row, :length].astype(np.int64) if exists else None
    return out


def read(
    model: Model,
    emissions: Sequence[Floats2d],
    tag_set: TagSet,
    *,
    constrained: bool = True,
    sets: Sequence[Sets] = (),
    temperature: float = 1.0,
    least: float = 0.0,
    asked: Sequence[Sequence[tuple[int, int, str]]] = (),
) -> list[Reading]:
    """What the CRF says of each doc, under the constraints of decoding.

    emissions: [tokens, K] of each doc. constrained: whether decoding keeps to the scheme.
    sets: of each doc, or empty for none. Where no path keeps to them, they are left out.
    temperature: see LinearChainCRF.posterior; the best path does not depend on it.
    least: candidates have at least this probability; 0 for no candidates.
    asked: spans (start, end, label) of each doc whose probability is wanted, or empty.
    """
    crf = _crf(model)
    out = [Reading(np.zeros(0, dtype=np.int64)) for _ in emissions]
    sets = sets or [None] * len(emissions)
    batches, posteriors, results = [], [], []
    with torch.inference_mode():
        for batch in _batches(crf, emissions, sets):
            tags, score = crf.viterbi(batch.emissions, batch.mask, batch.allowed)
            posterior = crf.posterior(
                batch.emissions, batch.mask, allowed=batch.allowed, temperature=temperature
            )
            figures = [tags, score, posterior.log_probability(tags), posterior.entropy()]
            batches.append(batch)
            posteriors.append(posterior)
            results.append([*figures, *([posterior.marginals()] if least > 0 else [])])
        wanted = []
        for batch, posterior, arrays in zip(batches, posteriors, _to_host(results), strict=True):
            asks = _Asks(batch, posterior, SpanQueries(tag_set, constrained), [])
            for row, (i, length) in enumerate(zip(batch.members, batch.lengths, strict=True)):
                reading = out[i]
                reading.tags = arrays[0][row, :length].astype(np.int64)
                reading.within_sets = sets[i] is None or bool(arrays[1][row] != -np.inf)
                reading.log_probability = float(arrays[2][row])
                reading.entropy = float(arrays[3][row])
                best = tag_set.decode(reading.tags.tolist()) if reading.tags.any() else []
                others: list[EntitySpan] = []
                if least > 0:
                    found = candidate_spans(arrays[4][row, :length], tag_set, least, constrained)
                    others = sorted(set(found) - set(best))
                own = [EntitySpan(*span) for span in asked[i]] if asked else []
                for kind, spans in (("entity", best), ("candidate", others), ("asked", own)):
                    for span in spans:
                        asks.queries.add(row, span)
                        asks.kinds.append(kind)
            wanted.append(asks)
        _answer(out, wanted, least)
    lost = [i for i, reading in enumerate(out) if not reading.within_sets]
    if lost:
        again = read(
            model,
            [emissions[i] for i in lost],
            tag_set,
            constrained=constrained,
            temperature=temperature,
            least=least,
            asked=[asked[i] for i in lost] if asked else (),
        )
        for i, reading in zip(lost, again, strict=True):
            reading.within_sets = False
            out[i] = reading
    return out


def _answer(out: list[Reading], wanted: Sequence[_Asks], least: float) -> None:
    """Put the probabilities of the spans into the readings."""
    answers = _to_host([[asks.queries.ask(asks.posterior)] for asks in wanted])
    for asks, (answer,) in zip(wanted, answers, strict=True):
        spans = zip(asks.queries.spans, asks.kinds, answer.tolist(), strict=True)
        for (row, span), kind, p in spans:
            reading = out[asks.batch.members[row]]
            if kind == "asked":
                reading.asked.append(p)
            elif kind == "entity":
                reading.entities.append(ScoredSpan(*span, p))
            elif p >= least:
                reading.candidates.append(ScoredSpan(*span, p))


def best_paths(
    model: Model,
    emissions: Sequence[Floats2d],
    k: int,
    *,
    sets: Sequence[Sets] = (),
    temperature: float = 1.0,
) -> list[list[Path]]:
    """The k best legal tag paths of each doc, the best first; fewer where there are no more.

    An empty doc has one path. Where no path keeps to a doc's sets, they are left out.
    Raises ValueError for k below 1.
    """
    crf = _crf(model)
    out = [[Path(np.zeros(0, dtype=np.int64), 1.0)] for _ in emissions]
    sets = sets or [None] * len(emissions)
    batches, results = [], []
    with torch.inference_mode():
        for batch in _batches(crf, emissions, sets, max(CRF_BATCH_STEPS // k, 1)):
            batches.append(batch)
            results.append(
                list(
                    crf.nbest(
                        batch.emissions, batch.mask, k, allowed=batch.allowed,
                        temperature=temperature,
                    )
                )
            )  # fmt: skip
        for batch, (tags, log_p) in zip(batches, _to_host(results), strict=True):
            for row, (i, length) in enumerate(zip(batch.members, batch.lengths, strict=True)):
                paths = tags[row, :, :length].astype(np.int64)
                there = log_p[row] != -np.inf
                out[i] = [
                    Path(path, float(p))
                    for path, p in zip(paths[there], np.exp(log_p[row][there]), strict=True)
                ]
    lost = [i for i, paths in enumerate(out) if not paths and sets[i] is not None]
    if lost:
        again = best_paths(model, [emissions[i] for i in lost], k, temperature=temperature)
        for i, found in zip(lost, again, strict=True):
            out[i] = found
    return out


def log_partitions(
    model: Model, emissions: Sequence[Floats2d], temperature: float, sets: Sequence[Sets] = ()
) -> NDArray[np.float64]:
    """log Z of each doc under the constraints of decoding and its sets; 0 for an empty doc."""
    crf = _crf(model)
    out = np.zeros(len(emissions))
    batches, results = [], []
    with torch.inference_mode():
        for batch in _batches(crf, emissions, sets or [None] * len(emissions)):
            # In wide precision, since differences of these are compared.
            wide = batch.emissions.to(wide_dtype(batch.emissions.device))
            posterior = crf.posterior(
                wide, batch.mask, allowed=batch.allowed, temperature=temperature
            )
            batches.append(batch)
            results.append([posterior.log_z])
        for batch, (log_z,) in zip(batches, _to_host(results), strict=True):
            out[batch.members] = log_z
    return out


def _crf(model: Model) -> LinearChainCRF:
    crf: LinearChainCRF = head_of(model).module.crf
    return crf


def _batches(
    crf: LinearChainCRF,
    emissions: Sequence[Floats2d],
    sets: Sequence[Sets],
    limit: int = CRF_BATCH_STEPS,
) -> Iterator[_Batch]:
    """The docs that are not empty, by length."""
    lengths = np.array([len(rows) for rows in emissions], dtype=np.int64)
    filled = np.flatnonzero(lengths).tolist()
    if not filled:
        return
    joined = join_rows(list(emissions), crf.transitions.device)
    begins = np.cumsum(lengths) - lengths
    for group in padded_batches([int(lengths[i]) for i in filled], limit):
        members = [filled[i] for i in group]
        sizes = [int(lengths[i]) for i in members]
        rows, mask = padded_rows(sizes, begins[members])
        allowed = None
        if any(sets[i] is not None for i in members):
            full = np.ones((*mask.shape, crf.n_tags), dtype=bool)
            for row, i in enumerate(members):
                own = sets[i]
                if own is not None:
                    full[row, : sizes[row]] = own
            allowed = to_device(full, joined.device)
        yield _Batch(
            members,
            sizes,
            joined[to_device(rows, joined.device)],
            to_device(mask, joined.device),
            allowed,
        )


def _to_host(results: Sequence[Sequence[Tensor]]) -> list[list[NDArray]]:
    """Tensors as arrays of the same shapes; from another device in one transfer."""
    flat = [tensor for tensors in results for tensor in tensors]
    on_cpu = not flat or flat[0].device.type == "cpu"
    arrays = iter([tensor.numpy() for tensor in flat] if on_cpu else _joined(flat))
    return [[next(arrays) for _ in tensors] for tensors in results]


def _joined(tensors: Sequence[Tensor]) -> list[NDArray]:
    """Arrays of tensors by one transfer, in the widest of their floating types. (Tag ids are exact
    in float32.)"""
    is_wide = any(tensor.dtype is torch.float64 for tensor in tensors)
    dtype = torch.float64 if is_wide else torch.float32
    joined = torch.cat([tensor.flatten().to(dtype) for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])
    parts = np.split(joined, ends[:-1])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
