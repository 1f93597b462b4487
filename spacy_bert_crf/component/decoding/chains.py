"""The CRF as docs are read with it: by its own tags, or by tags that keep words whole.

Whether an entity ends inside a word is seen from its tags only where a tag marks the last token.
Docs with such a word are read with the tags of BIOES where the scheme is BIO; see ExpandedCRF.
Results are in the tags of the component. All other docs are read as ever.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional, TypeVar, Union

import numpy as np
import torch
from numpy.typing import NDArray
from spacy.tokens import Doc
from torch import Tensor

from ...annotation.gold import BoolArray, Gold, allowed_tags, open_weights
from ...annotation.schemes import TagSet
from ...crf.expanded import ExpandedCRF
from ...crf.linear_chain import LinearChainCRF
from ...encoder.passes import IntArray
from ...model import crf_batches
from ...model.crf_batches import AnyEmissions, Emissions, EmissionsToCrf
from ...model.gradients.distilled import Expected, expectations, learn_expected
from ...model.host_crf import crf_on
from .. import reading
from ..reading import Path, Reading, Spans
from ..settings import Settings
from .allowed import Allowed, GoldTags, allowed_for_decoding
from .dictionary import Bonus, Match, Names
from .words import breaks, continuations, whole_words

T = TypeVar("T")


class Begun(NamedTuple):
    """A prediction of docs that has begun.

    emissions: their emissions, on their way.
    allowed: the tags that their tokens may have.
    """

    emissions: EmissionsToCrf
    allowed: Allowed


@dataclass
class _Part:
    """Docs that are read with the same tags.

    members: which of the docs. [D]
    emissions: theirs. [N, K or K']
    crf: the CRF of these tags.
    tags: the tags.
    own: the component's tag of each of them; None if they are the component's.
    """

    members: list[int]
    emissions: Emissions
    crf: LinearChainCRF
    tags: TagSet
    own: Optional[IntArray] = None

    def narrow(self, tags: IntArray) -> IntArray:
        """Tags of the component for tags of this part."""
        return tags if self.own is None else self.own[tags]

    def narrow_expected(self, found: Expected) -> Expected:
        """What is expected of tags of this part, as of the component's tags."""
        if self.own is None:
            return found
        # shape: (K', K)
        is_own = np.eye(self.own.max() + 1, dtype=np.float32)[self.own]
        tags, pairs = found.tags @ is_own, is_own.T @ found.pairs @ is_own
        return Expected(tags.astype(np.float32), pairs.astype(np.float32))


@dataclass(frozen=True)
class Chains:
    """A CRF and its tags, under the settings of decoding.

    crf: the CRF.
    tags: the K tags.
    constrained: whether decoding keeps to the tag scheme. Otherwise words may be cut, too.
    keeps_words: whether words stay whole under the tag scheme.
    """

    crf: LinearChainCRF
    tags: TagSet
    constrained: bool
    keeps_words: bool

    @property
    def keeps(self) -> bool:
        """Whether no entity begins or ends inside a word."""
        return self.keeps_words and self.constrained

    def words(self, docs: Sequence[Doc]) -> list[Optional[BoolArray]]:
        """Which tokens of each doc continue a word that stays whole. bool [tokens]

        None for docs without such a word, and for all docs if words may be cut.
        """
        return continuations(docs) if self.keeps else [None] * len(docs)

    def allowed(
        self,
        docs: Sequence[Doc],
        component: str,
        keep_ents: bool,
        names: Optional[Names] = None,
    ) -> Allowed:
        """The tags that the tokens of docs may have in decoding; see `allowed_for_decoding`.

        names: a dictionary of names that takes part in decoding, or None.
        """
        words = self.words(docs)
        found: list[list[Match]] = [[] for _ in docs]
        if names is not None:
            found = [names.find(doc, own) for doc, own in zip(docs, words, strict=True)]
        tags = [
            allowed_for_decoding(doc, self._tags_for(own), component, keep_ents, own, each)
            for doc, own, each in zip(docs, words, found, strict=True)
        ]
        allowed = Allowed(tags, [own is not None for own in words])
        if names is None:
            return allowed
        bonus = Bonus.of(names, found, [len(doc) for doc in docs], self.tags)
        return allowed._replace(bonus=bonus)

    def only_words(self, words: Sequence[Optional[BoolArray]]) -> Allowed:
        """The tags that keep words whole, and nothing else.

        words: which tokens of each doc continue a word, None for docs without words.
        """
        marking = self.tags.marking_last
        tags = [None if own is None else whole_words(own, marking) for own in words]
        return Allowed(tags, [own is not None for own in words])

    def gold(
        self, golds: Sequence[Gold], words: Optional[Sequence[Optional[BoolArray]]] = None
    ) -> list[GoldTags]:
        """The tags that gold allows. Where gold cuts a word, the likelihood counts all paths.

        golds: the gold of each doc.
        words: which tokens of each doc continue a word, None where all paths count.
        """
        out = []
        for gold, own in zip(golds, words or [None] * len(golds), strict=True):
            if own is None or breaks(gold.spans, own):
                out.append(GoldTags(allowed_tags(gold, self.tags), None, gold.covers))
                continue
            whole = whole_words(own, self.tags.marking_last)
            own_tags = allowed_tags(gold, self.tags.marking_last)
            out.append(GoldTags(own_tags, whole, gold.covers))
        return out

    def decode(self, emissions: AnyEmissions, allowed: Allowed) -> tuple[list[IntArray], int]:
        """Best tags of docs, and how many were decoded without their allowed tags.

        See `crf_batches.decode`.
        """
        n_impossible = 0

        def best(part: _Part, own: list[Optional[BoolArray]]) -> list[IntArray]:
            nonlocal n_impossible
            tags, count = crf_batches.decode(part.crf, part.emissions, own)
            n_impossible += count
            return [part.narrow(each) for each in tags]

        return self._each(emissions, allowed, best), n_impossible

    def read(
        self,
        emissions: AnyEmissions,
        allowed: Allowed,
        *,
        temperature: float = 1.0,
        min_probability: float = 0.0,
        requested: Sequence[Spans] = (),
        expected: bool = False,
    ) -> list[Reading]:
        """A Reading of each doc, see `reading.read`."""

        def read(part: _Part, own: list[Optional[BoolArray]]) -> list[Reading]:
            found = reading.read(
                part.crf, part.emissions, part.tags, constrained=self.constrained, allowed=own,
                temperature=temperature, min_probability=min_probability,
                requested=[requested[i] for i in part.members] if requested else (),
                expected=expected,
            )  # fmt: skip
            for each in found:
                each.tags = part.narrow(each.tags)
            return found

        return self._each(emissions, allowed, read)

    def best_paths(
        self, emissions: AnyEmissions, k: int, allowed: Allowed, temperature: float
    ) -> list[list[Path]]:
        """The k best paths of each doc, see `reading.best_paths`."""

        def best(part: _Part, own: list[Optional[BoolArray]]) -> list[list[Path]]:
            found = reading.best_paths(
                part.crf, part.emissions, k, allowed=own, temperature=temperature
            )
            return [[path._replace(tags=part.narrow(path.tags)) for path in each] for each in found]

        return self._each(emissions, allowed, best)

    def log_partitions(
        self, emissions: AnyEmissions, temperature: float, allowed: Allowed
    ) -> NDArray[np.float64]:
        """log Z of each doc, see `reading.log_partitions`. [docs]"""

        def log_z(part: _Part, own: list[Optional[BoolArray]]) -> list[float]:
            found = reading.log_partitions(part.crf, part.emissions, temperature, own)
            return found.tolist()

        return np.array(self._each(emissions, allowed, log_z))

    def expected(
        self, emissions: AnyEmissions, allowed: Allowed, temperature: float
    ) -> list[Expected]:
        """What is expected of each doc, in the tags of the component; see `expectations`."""

        def expect(part: _Part, own: list[Optional[BoolArray]]) -> list[Expected]:
            found = expectations(
                part.crf, part.emissions, own, constrain=self.constrained, temperature=temperature
            )
            return [part.narrow_expected(each) for each in found]

        return self._each(emissions, allowed, expect)

    def cross_entropy(
        self,
        emissions: Emissions,
        expected: Sequence[Expected],
        settings: Settings,
        *,
        temperature: float,
        weight: float,
    ) -> tuple[Tensor, Emissions]:
        """Cross-entropy of docs to what is expected, and its gradient; see `learn_expected`.

        settings: those of the component.
        """
        return learn_expected(
            self.crf, emissions, expected, constrain=settings.constrain_training,
            temperature=temperature, weight=weight,
        )  # fmt: skip

    def likelihood(
        self,
        emissions: AnyEmissions,
        golds: Sequence[GoldTags],
        settings: Settings,
        n_docs: Optional[float] = None,
    ) -> tuple[Tensor, Emissions]:
        """Negative log-likelihood, and the gradient of the emissions; see `crf_batches.likelihood`.

        Docs with words that stay whole have the likelihood among the paths that keep them so.

        emissions: the emissions of the docs.
        golds: the tags that their gold allows.
        settings: with `constrain_training` and `annotated_share`.
        n_docs: number of docs of the update that these are a part of, or another divisor of the
            sum; the gradient of the CRF is then added to its parameters. None for a loss that
            leaves them alone.
        """
        accumulate = n_docs is not None
        n_docs = len(trainable(golds)) if n_docs is None else n_docs
        joined = Emissions.of(emissions, self.crf.transitions.device)
        nothing = np.zeros((0, 0), dtype=bool)
        loss, gradient = crf_batches.likelihood(
            self.crf, joined, [gold.tags if gold.whole is None else nothing for gold in golds],
            constrain=settings.constrain_training, accumulate=accumulate, n_docs=n_docs,
            open_weights=_weights(golds, self.tags, settings.annotated_share),
        )  # fmt: skip
        members = [i for i in trainable(golds) if golds[i].whole is not None]
        if not members:
            return loss, gradient
        part = self._part(joined, members, words=True)
        missing = _weights([golds[i] for i in members], part.tags, settings.annotated_share)
        # The negative log-likelihood of gold, less that of all paths that keep words whole.
        sides = (
            (False, [golds[i].both for i in members], missing),
            (True, [w for i in members if (w := golds[i].whole) is not None], None),
        )
        rows = torch.zeros_like(part.emissions.rows)
        for negate, tags, weights in sides:
            more, found = crf_batches.likelihood(
                part.crf, part.emissions, tags, constrain=True, accumulate=accumulate,
                n_docs=n_docs, open_weights=weights, negate=negate,
            )  # fmt: skip
            loss, rows = loss + more, rows + found.rows
        own = rows
        if part.own is not None:
            columns = torch.from_numpy(part.own).to(rows.device)
            own = rows.new_zeros((len(rows), len(self.tags.tags))).index_add_(1, columns, rows)
        views = torch.split(gradient.rows, joined.lengths)
        for i, each in zip(members, torch.split(own, part.emissions.lengths), strict=True):
            views[i].copy_(each)
        return loss, gradient

    def _tags_for(self, words: Optional[BoolArray]) -> TagSet:
        return self.tags if words is None else self.tags.marking_last

    def _each(
        self,
        emissions: AnyEmissions,
        allowed: Allowed,
        compute: Callable[[_Part, list[Optional[BoolArray]]], list[T]],
    ) -> list[T]:
        """One result for each doc.

        compute: gives those of a part, from it and the tags that its docs allow.
        """
        joined = Emissions.of(emissions, self.crf.transitions.device)
        if allowed.bonus is not None:
            joined = joined._replace(rows=allowed.bonus.added(joined.rows))
        found: dict[int, T] = {}
        for part in self._parts(joined, allowed.words):
            own = [allowed.tags[i] for i in part.members]
            found.update(zip(part.members, compute(part, own), strict=True))
        return [found[i] for i in range(len(joined.lengths))]

    def _parts(self, joined: Emissions, words: Sequence[bool]) -> Iterator[_Part]:
        """The parts of docs. All docs are one part where all are read with the same tags."""
        if self.tags.has_last or not any(words):
            yield _Part(list(range(len(joined.lengths))), joined, self.crf, self.tags)
            return
        for has_words in (False, True):
            members = [i for i, own in enumerate(words) if own is has_words]
            if members:
                yield self._part(joined, members, has_words)

    def _part(self, joined: Emissions, members: list[int], words: bool) -> _Part:
        """Some of the docs, all with words that stay whole, or all without."""
        views = torch.split(joined.rows, joined.lengths)
        rows = torch.cat([views[i] for i in members])
        lengths = [joined.lengths[i] for i in members]
        if not words or self.tags.has_last:
            return _Part(members, Emissions(rows, lengths), self.crf, self.tags)
        marking, own = self.tags.marking_last, self.tags.of_marking_last
        crf = ExpandedCRF(crf_on(self.crf, rows.device), own, *marking.legal())
        part = Emissions(rows[:, crf.columns], lengths)
        return _Part(members, part, crf, marking, np.array(own, dtype=np.int64))


def trainable(golds: Sequence[GoldTags]) -> list[int]:
    """Indices of the docs that train the model, because they have a known token."""
    return crf_batches.trainable([gold.tags for gold in golds])


def _weights(
    golds: Sequence[GoldTags], tags: TagSet, share: float
) -> Union[None, list[float], list[list[float]]]:
    """The weights of `open_weights`: [K], or [docs, K] where docs differ in what they cover."""
    if not share or all(gold.covers is None for gold in golds):
        return open_weights(share, tags)
    return [open_weights(share, tags, gold.covers) or [] for gold in golds]
