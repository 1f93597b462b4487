"""What the component does at prediction: settings, best entities, probabilities, n-best."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc, Span
from thinc.types import Floats2d

from ..annotation.allowed import decoding_sets
from ..annotation.schemes import TagSet
from ..errors import BertCrfError
from ..model import layers
from . import reading as posterior_layer
from .doc_output import register_labels, register_scores, set_ents, set_reading, writable
from .reading import Reading, Sets
from .score_map import ScoreMap

#: Settings that are kept with the weights, in the component's cfg, and what they are in a cfg that
#: lacks them.
KEPT = {"threshold": 0.0, "temperature": 1.0}
#: Where a cfg has the points of a ScoreMap; it may lack them.
SCORE_MAP = "score_map"

#: Most tokens that `pipe` holds back to sort docs of like length together.
_LOOKAHEAD_TOKENS = 100_000

Tags = list[NDArray[np.int64]]


class Alternative(NamedTuple):
    """The entities of one tag path, in order, and the path's probability."""

    entities: tuple[Span, ...]
    probability: float


class Predictor(TrainablePipe):
    """The part of BertCrf that predicts; see there for the settings."""

    scheme: str
    cfg: dict[str, Any]
    constraints: bool
    overwrite: bool
    constrain_to_ents: bool
    _scores: bool
    _score_extension: str
    _candidates: float
    _given: dict[str, float]
    _told_sets: bool

    @property
    def tag_set(self) -> TagSet:
        """The tags in id order."""
        return TagSet(tuple(self.cfg["labels"]), self.scheme)

    @property
    def scores(self) -> bool:
        """See the setting. May be set at any time."""
        return self._scores

    @scores.setter
    def scores(self, value: bool) -> None:
        self._scores = value
        if value:
            register_scores(self.name, self._score_extension)

    @property
    def score_extension(self) -> str:
        """See the setting. May be set at any time."""
        return self._score_extension

    @score_extension.setter
    def score_extension(self, value: str) -> None:
        self._score_extension = value
        self.scores = self._scores

    @property
    def candidates(self) -> float:
        """See the setting. May be set at any time."""
        return self._candidates

    @candidates.setter
    def candidates(self, value: float) -> None:
        self._candidates = self._checked("candidates", value)

    @property
    def threshold(self) -> float:
        """See the setting; the same as cfg["threshold"]. May be set at any time."""
        return self._checked("threshold", self.cfg.get("threshold", KEPT["threshold"]))

    @threshold.setter
    def threshold(self, value: float) -> None:
        self.cfg["threshold"] = self._checked("threshold", value)

    @property
    def temperature(self) -> float:
        """See the setting; the same as cfg["temperature"]. May be set at any time."""
        return self._checked("temperature", self.cfg.get("temperature", KEPT["temperature"]))

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.cfg["temperature"] = self._checked("temperature", value)
        self.cfg.pop(SCORE_MAP, None)  # it was fitted with the old one

    @property
    def score_map(self) -> ScoreMap:
        """How the probabilities of entities that are found are corrected before they are told; as
        `calibrate` fitted it with the temperature, otherwise not at all.

        Raises BertCrfError if what the cfg holds is no such map.
        """
        points = self.cfg.get(SCORE_MAP)
        if points is None:
            return ScoreMap()
        try:
            return ScoreMap(*(tuple(map(float, points[name])) for name in ("told", "right")))
        except (KeyError, TypeError, ValueError) as err:
            raise BertCrfError(
                f"[{self.name}] {SCORE_MAP} in the cfg is damaged ({err}): calibrate anew."
            ) from err

    def predict(self, docs: Iterable[Doc]) -> Union[Tags, list[Reading]]:
        """Best tag ids of each doc, [tokens] each; or, if a setting asks for probabilities, what
        the CRF says of each."""
        docs = list(docs)
        emissions, sets = self._emissions(docs), self._sets(docs)
        if self._scores or self._candidates or self.threshold:
            return self._corrected(self._read(emissions, sets, self._candidates))
        if all(own is None for own in sets):
            return layers.decode(self.model, emissions)
        tags = posterior_layer.decode_within(self.model, emissions, sets)
        lost = [i for i, ids in enumerate(tags) if ids is None]
        free = layers.decode(self.model, [emissions[i] for i in lost])
        self._tell_lost_sets(len(lost))
        again = dict(zip(lost, free, strict=True))
        return [again[i] if ids is None else ids for i, ids in enumerate(tags)]

    def set_annotations(
        self, docs: Iterable[Doc], scores: Sequence[Union[NDArray[np.int64], Reading]]
    ) -> None:
        """Write what `predict` gave to the docs; every doc counts as annotated afterwards."""
        tag_set, threshold = self.tag_set, self.threshold
        if self._scores:
            register_scores(self.name, self._score_extension)  # it may have been unpickled
        for doc, score in zip(docs, scores, strict=True):
            if isinstance(score, Reading):
                set_reading(
                    doc,
                    score,
                    self.name,
                    overwrite=self.overwrite,
                    threshold=threshold,
                    scores=self._scores,
                    candidates=self._candidates > 0,
                )
                continue
            entities = tag_set.decode(score.tolist()) if score.any() else []
            spans = writable(doc, entities, self.overwrite)
            set_ents(doc, [span for span in spans if span is not None], self.overwrite)

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Annotate a stream of docs, in order, looking ahead at most `batch_size` of them."""
        error_handler = self.get_error_handler()
        for docs in _bounded(stream, batch_size):
            try:
                self.set_annotations(docs, self.predict(docs))
            except Exception as err:
                error_handler(self.name, self, docs, err)
            else:
                yield from docs

    def read(
        self,
        docs: Iterable[Doc],
        *,
        candidates: float = 0.0,
        asked: Sequence[Sequence[tuple[int, int, str]]] = (),
    ) -> list[Reading]:
        """What the CRF says of docs, whatever the settings; the docs are not changed.

        candidates: the least probability of entities beyond those of the best path; 0: none.
        asked: entities (start, end, label) of each doc whose probability is wanted, or empty.
        Entities are not trimmed of white space. See Reading.
        Raises BertCrfError for labels that the component does not have.
        """
        docs = list(docs)
        other = {label for spans in asked for _, _, label in spans} - set(self.cfg["labels"])
        if other:
            raise BertCrfError(
                f"[{self.name}] has no labels {', '.join(sorted(other))}, only "
                f"{', '.join(self.cfg['labels'])}."
            )
        least = self._checked("candidates", candidates)
        return self._read(self._emissions(docs), self._sets(docs), least, asked)

    def nbest(self, docs: Iterable[Doc], k: int) -> list[list[Alternative]]:
        """The k best tag paths of each doc, the likeliest first: their entities as they would be
        written to the doc, and their probabilities. The docs are not changed.

        Paths are legal and keep to what is on the doc, as in decoding; there may be fewer than k.
        All differ as tags. With `constraints` they differ as entities too, but for white space
        at an entity's ends, which is trimmed.
        Raises BertCrfError for k below 1.
        """
        if k < 1:
            raise BertCrfError(f"the number of best paths must be at least 1, not {k}.")
        docs = list(docs)
        paths = posterior_layer.best_paths(
            self.model,
            self._emissions(docs),
            k,
            sets=self._sets(docs),
            temperature=self.temperature,
        )
        tag_set = self.tag_set
        out: list[list[Alternative]] = []
        for doc, found in zip(docs, paths, strict=True):
            kept = [] if self.overwrite else list(doc.ents)
            out.append([])
            for tags, probability in found:
                spans = writable(doc, tag_set.decode(tags.tolist()), self.overwrite)
                entities = sorted([*kept, *(span for span in spans if span is not None)])
                out[-1].append(Alternative(tuple(entities), probability))
        return out

    def _init_prediction(
        self,
        *,
        overwrite: bool,
        constrain_to_ents: bool,
        scores: bool,
        score_extension: str,
        candidates: float,
        threshold: float,
        temperature: float,
    ) -> None:
        """Take the settings, where name and cfg are there already."""
        self.overwrite = overwrite
        self.constrain_to_ents = constrain_to_ents
        self._score_extension = score_extension
        self.candidates = candidates
        self.threshold = threshold
        self.temperature = temperature
        self._given = {name: float(self.cfg[name]) for name in KEPT}
        self.cfg["given"] = dict(self._given)
        self._told_sets = False
        register_labels(self.name)
        self.scores = scores

    def _settle_kept(self) -> None:
        """Decide between the config and a cfg that was loaded: what the config says counts where
        it is not what it said when the cfg was saved, so where it was changed at load."""
        was = self.cfg.get("given", {})
        for name, default in KEPT.items():
            if name not in self.cfg or was.get(name, default) != self._given[name]:
                if name == "temperature" and self.cfg.get(name) != self._given[name]:
                    self.cfg.pop(SCORE_MAP, None)
                self.cfg[name] = self._given[name]
        self.cfg["given"] = dict(self._given)
        _ = self.score_map  # refuses a damaged one now

    def _emissions(self, docs: list[Doc]) -> list[Floats2d]:
        if any(len(doc) for doc in docs):
            emissions: list[Floats2d] = self.model.predict(docs)
            return emissions
        return [np.zeros((0, len(self.tag_set.tags)), dtype=np.float32) for _ in docs]

    def _sets(self, docs: list[Doc]) -> list[Sets]:
        tag_set, keep = self.tag_set, self.constrain_to_ents and not self.overwrite
        return [decoding_sets(doc, tag_set, self.name, keep) for doc in docs]

    def _read(
        self,
        emissions: list[Floats2d],
        sets: list[Sets],
        least: float,
        asked: Sequence[Sequence[tuple[int, int, str]]] = (),
    ) -> list[Reading]:
        readings = posterior_layer.read(
            self.model,
            emissions,
            self.tag_set,
            constrained=self.constraints,
            sets=sets,
            temperature=self.temperature,
            least=least,
            asked=asked,
        )
        self._tell_lost_sets(sum(not reading.within_sets for reading in readings))
        return readings

    def _corrected(self, readings: list[Reading]) -> list[Reading]:
        score_map = self.score_map
        if score_map != ScoreMap():
            for reading in readings:
                reading.entities[:] = [
                    entity._replace(probability=score_map(entity.probability))
                    for entity in reading.entities
                ]
        return readings

    def _tell_lost_sets(self, count: int) -> None:
        if count and not self._told_sets:
            self._told_sets = True
            warnings.warn(
                f"[{self.name}] {count} of the docs have no legal tag path that keeps to what is "
                "on the doc and to its allowed labels: they are predicted freely, and entities "
                "that overlap those on the doc are dropped. (Said once.)",
                stacklevel=4,
            )

    def _checked(self, name: str, value: Any) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name == "temperature":
            if not number or not 0 < value < float("inf"):
                raise BertCrfError(f"[{self.name}] temperature is {value!r}: it must be above 0.")
        elif not number or not 0 <= value <= 1:
            raise BertCrfError(f"[{self.name}] {name} is {value!r}: it must be from 0 to 1.")
        return float(value)


def _bounded(stream: Iterable[Doc], batch_size: int) -> Iterator[list[Doc]]:
    """Batches of at most `batch_size` docs and _LOOKAHEAD_TOKENS tokens (or one doc)."""
    batch: list[Doc] = []
    n_tokens = 0
    for doc in stream:
        if batch and (len(batch) >= batch_size or n_tokens + len(doc) > _LOOKAHEAD_TOKENS):
            yield batch
            batch, n_tokens = [], 0
        batch.append(doc)
        n_tokens += len(doc)
    if batch:
        yield batch
