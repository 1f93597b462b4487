"""Probabilities of entities, candidates and n-best from the emissions of docs. Knows no Doc.

Results leave the device twice for all docs together: first paths and figures, then the
probabilities of the spans that these name.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from spacy.tokens import Span
from torch import Tensor

from ..annotation.schemes import EntitySpan, TagSet
from ..crf.linear_chain import LinearChainCRF
from ..crf.log_scan import wide_dtype
from ..crf.posterior import Posterior
from ..encoder.passes import IntArray
from ..errors import BertCrfError
from ..model.crf_batches import (
    CRF_BATCH_STEPS,
    AnyEmissions,
    BoolArray,
    CrfBatch,
    Emissions,
    crf_batches,
    run_batches,
    to_host,
)
from ..model.host_crf import crf_on
from .entity_spans import SpanQueries, candidate_spans
from .score_map import ScoreMap

#: Entities (start, end, label) in tokens.
Spans = Sequence[tuple[int, int, str]]


class ScoredSpan(NamedTuple):
    """An entity, and the probability of exactly this one.

    start: its first token.
    end: the token after its last one.
    label: its entity type.
    probability: from 0 to 1.
    """

    start: int
    end: int
    label: str
    probability: float

    @property
    def span(self) -> EntitySpan:
        """The entity without its probability."""
        return EntitySpan(self.start, self.end, self.label)


class Alternative(NamedTuple):
    """One tag path of a doc.

    entities: the entities of the path, in order.
    probability: that of the path, from 0 to 1.
    """

    entities: tuple[Span, ...]
    probability: float


@dataclass
class Reading:
    """The distribution of the CRF over the tag paths of one doc, in figures.

    tags: tag ids of the best path. [tokens]
    entities: entities of the best path, in order.
    candidates: other entities that are probable enough, ordered by (start, end, label).
    requested: probability of each span that was requested, in the order of the request.
    log_probability: natural logarithm of the best path's probability.
    entropy: entropy of the distribution over paths, in nats.
    expected_entities: expected number of entities, if it was requested.
    expected_wrong: expected number of tokens whose label is not that of the best path, if it was
        requested. A token in no entity has a label of its own.
    within_allowed: False where no legal path keeps to the tags allowed on the doc. The figures
        are then those without that restriction.
    """

    tags: IntArray
    entities: list[ScoredSpan] = field(default_factory=list)
    candidates: list[ScoredSpan] = field(default_factory=list)
    requested: list[float] = field(default_factory=list)
    log_probability: float = 0.0
    entropy: float = 0.0
    expected_entities: float = 0.0
    expected_wrong: float = 0.0
    within_allowed: bool = True


class Path(NamedTuple):
    """A tag path [tokens] and its probability."""

    tags: IntArray
    probability: float


@dataclass
class _Requests:
    """Spans of a batch whose probabilities are computed together.

    batch: the emissions of the docs.
    posterior: the distributions over their tag paths.
    queries: the spans.
    kinds: what each span is: "entity", "candidate" or "requested".
    """

    batch: CrfBatch
    posterior: Posterior
    queries: SpanQueries
    kinds: list[str]


def check_labels(requested: Sequence[Spans], labels: Sequence[str]) -> None:
    """Check that spans have labels of the component.

    requested: spans of each doc.
    labels: labels of the component.
    Raises BertCrfError that names the other labels.
    """
    other = {label for spans in requested for _, _, label in spans} - set(labels)
    if other:
        raise BertCrfError(
            f"it has no labels {', '.join(sorted(other))}: request only entities with its labels "
            f"({', '.join(labels)})."
        )


def warn_impossible(component: str, count: int) -> None:
    """Warn that some docs were decoded without the restrictions that are set on them.

    component: name of the component.
    count: number of the docs.
    """
    warnings.warn(
        f"[{component}] {count} of the docs have no legal tag path that keeps to the entities on "
        "the doc and to its allowed labels. They are decoded without these restrictions, and "
        "entities that overlap those on the doc are dropped. (This warning is shown once.)",
        stacklevel=5,
    )


def read(
    crf: LinearChainCRF,
    emissions: AnyEmissions,
    tag_set: TagSet,
    *,
    constrained: bool = True,
    allowed: Sequence[Optional[BoolArray]] = (),
    temperature: float = 1.0,
    min_probability: float = 0.0,
    requested: Sequence[Spans] = (),
    expected: bool = False,
) -> list[Reading]:
    """A Reading of each doc, under the constraints of decoding.

    crf: the CRF, with the legal transitions of decoding.
    emissions: [tokens, K] of each doc.
    tag_set: the K tags.
    constrained: whether decoding keeps to the tag scheme.
    allowed: tags that each token may have [tokens, K], None for all, for each doc; or empty. A
        doc where no legal path keeps to them is read without them.
    temperature: see LinearChainCRF.posterior. The best path does not depend on it.
    min_probability: smallest probability of a candidate. 0 for no candidates.
    requested: spans of each doc whose probability is computed too, or empty.
    expected: whether the expected numbers are computed.
    """
    joined = Emissions.of(emissions, crf.legal_start.device)
    crf = crf_on(crf, joined.rows.device)
    out = [Reading(np.zeros(0, dtype=np.int64)) for _ in joined.lengths]
    batches, posteriors, results = [], [], []
    with torch.inference_mode():
        for batch in crf_batches(joined, allowed):
            tags, score = crf.viterbi(batch.emissions, batch.mask, batch.allowed)
            posterior = crf.posterior(
                batch.emissions, batch.mask, allowed=batch.allowed, temperature=temperature
            )
            figures = [tags, score, posterior.log_probability(tags), posterior.entropy()]
            figures += _expected_numbers(posterior, tags, batch.mask, tag_set) if expected else []
            batches.append(batch)
            posteriors.append(posterior)
            results.append([*figures, *([posterior.marginals()] if min_probability > 0 else [])])
        all_requests = []
        for batch, posterior, arrays in zip(batches, posteriors, to_host(results), strict=True):
            requests = _Requests(batch, posterior, SpanQueries(tag_set, constrained), [])
            for row, i, length in batch.docs():
                reading = out[i]
                reading.tags = arrays[0][row, :length].astype(np.int64)
                is_free = not allowed or allowed[i] is None
                reading.within_allowed = is_free or bool(arrays[1][row] != -np.inf)
                reading.log_probability = float(arrays[2][row])
                reading.entropy = float(arrays[3][row])
                if expected:
                    reading.expected_entities = float(arrays[4][row])
                    reading.expected_wrong = float(arrays[5][row])
                best = tag_set.decode(reading.tags.tolist()) if reading.tags.any() else []
                others: list[EntitySpan] = []
                if min_probability > 0:
                    found = candidate_spans(
                        arrays[-1][row, :length], tag_set, min_probability, constrained
                    )
                    others = sorted(set(found) - set(best))
                own = [EntitySpan(*span) for span in requested[i]] if requested else []
                for kind, spans in (("entity", best), ("candidate", others), ("requested", own)):
                    for span in spans:
                        requests.queries.add(row, span)
                        requests.kinds.append(kind)
            all_requests.append(requests)
        _add_probabilities(out, all_requests, min_probability)
    impossible = [i for i, reading in enumerate(out) if not reading.within_allowed]
    if impossible:
        parts = joined.split()
        again = read(
            crf,
            [parts[i] for i in impossible],
            tag_set,
            constrained=constrained,
            temperature=temperature,
            min_probability=min_probability,
            requested=[requested[i] for i in impossible] if requested else (),
            expected=expected,
        )
        for i, reading in zip(impossible, again, strict=True):
            reading.within_allowed = False
            out[i] = reading
    return out


def _expected_numbers(
    posterior: Posterior, tags: Tensor, mask: Tensor, tag_set: TagSet
) -> list[Tensor]:
    """Expected numbers of entities, and of tokens with another label than on a path. [B], [B]

    tags: the path of each sequence. [B, T]
    mask: True on real steps. bool [B, T]
    """
    # shape: (B, T, K)
    marginals = posterior.marginals()
    has_label, begins = (
        torch.tensor(rows, dtype=marginals.dtype, device=marginals.device)
        for rows in ([bool(label) for _, label in tag_set.roles], tag_set.begun())
    )
    # shape: (B,)
    n_entities = marginals[:, 0] @ has_label + (posterior.pair_counts() * begins).sum((1, 2))
    labels = torch.tensor(tag_set.label_ids(), device=tags.device)
    # shape: (B, T, K)
    is_other = labels[tags.masked_fill(~mask, 0)].unsqueeze(-1) != labels
    return [n_entities, (marginals * is_other).sum((1, 2))]


def _add_probabilities(
    out: list[Reading], all_requests: Sequence[_Requests], min_probability: float
) -> None:
    """Put the probabilities of the spans into the readings."""
    results = to_host([[each.queries.probabilities(each.posterior)] for each in all_requests])
    for requests, (probabilities,) in zip(all_requests, results, strict=True):
        spans = zip(requests.queries.spans, requests.kinds, probabilities.tolist(), strict=True)
        for (row, span), kind, p in spans:
            reading = out[requests.batch.members[row]]
            if kind == "requested":
                reading.requested.append(p)
            elif kind == "entity":
                reading.entities.append(ScoredSpan(*span, p))
            elif p >= min_probability:
                reading.candidates.append(ScoredSpan(*span, p))


def best_paths(
    crf: LinearChainCRF,
    emissions: AnyEmissions,
    k: int,
    *,
    allowed: Sequence[Optional[BoolArray]] = (),
    temperature: float = 1.0,
) -> list[list[Path]]:
    """The k best legal tag paths of each doc, the best first; fewer where there are no more.

    An empty doc has one path. A doc where no path keeps to the allowed tags is read without them.

    crf: the CRF, with the legal transitions of decoding.
    emissions: [tokens, K] of each doc.
    k: number of paths.
    allowed: see `read`.
    temperature: see LinearChainCRF.posterior.
    Raises ValueError for k below 1.
    """
    joined = Emissions.of(emissions, crf.legal_start.device)
    crf = crf_on(crf, joined.rows.device)
    out = [[Path(np.zeros(0, dtype=np.int64), 1.0)] for _ in joined.lengths]

    def best(batch: CrfBatch) -> tuple[Tensor, Tensor]:
        return crf.nbest(
            batch.emissions, batch.mask, k, allowed=batch.allowed, temperature=temperature
        )

    for batch, (ids, log_ps) in run_batches(joined, allowed, best, max(CRF_BATCH_STEPS // k, 1)):
        for row, i, length in batch.docs():
            paths = ids[row, :, :length].astype(np.int64)
            exists = log_ps[row] != -np.inf
            probabilities = np.exp(log_ps[row][exists])
            out[i] = [
                Path(path, float(p)) for path, p in zip(paths[exists], probabilities, strict=True)
            ]
    impossible = [i for i, paths in enumerate(out) if not paths and allowed]
    if impossible:
        parts = joined.split()
        again = best_paths(crf, [parts[i] for i in impossible], k, temperature=temperature)
        for i, found in zip(impossible, again, strict=True):
            out[i] = found
    return out


def corrected(readings: list[Reading], score_map: ScoreMap) -> list[Reading]:
    """The readings with the probabilities of their entities corrected, in place."""
    if score_map != ScoreMap():
        for each in readings:
            each.entities = [
                entity._replace(probability=score_map(entity.probability))
                for entity in each.entities
            ]
    return readings


def log_partitions(
    crf: LinearChainCRF,
    emissions: AnyEmissions,
    temperature: float,
    allowed: Sequence[Optional[BoolArray]] = (),
) -> NDArray[np.float64]:
    """log Z of each doc under the constraints of decoding and its allowed tags. [docs]

    0 for an empty doc.
    """
    joined = Emissions.of(emissions, crf.legal_start.device)
    crf = crf_on(crf, joined.rows.device)
    out = np.zeros(len(joined.lengths))

    def log_z_of(batch: CrfBatch) -> list[Tensor]:
        # In wide precision, since differences of these are compared.
        wide = batch.emissions.to(wide_dtype(batch.emissions.device))
        posterior = crf.posterior(wide, batch.mask, allowed=batch.allowed, temperature=temperature)
        return [posterior.log_z]

    for batch, (log_z,) in run_batches(joined, allowed, log_z_of):
        out[batch.members] = log_z
    return out
