"""Calibration: fit the temperature of a trained pipeline to annotated docs.

The temperature is fitted to the likelihood of gold annotation. Its effect is measured by
cross-fitting on two halves of the docs: each half has the temperature that was fitted on the other
one. Source: Guo et al. (2017), "On Calibration of Modern Neural Networks".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np
import srsly
from spacy.language import Language
from spacy.tokens import Doc
from thinc.types import Floats2d

from ..annotation.gold import BoolArray, Gold
from ..component.decoding.allowed import Allowed
from ..component.pipelines import change_cfg, find_component
from ..component.score_map import SCORE_MAP, ScoreMap
from ..errors import BertCrfError
from .gold_docs import gold_docs
from .reliability import Reliability, best_temperature, reliability

if TYPE_CHECKING:
    from ..component.pipe import BertCrf


@dataclass(frozen=True)
class Calibration:
    """The calibration of a component, and its measured effect.

    component: name of the component.
    temperature: temperature fitted on all docs.
    old: temperature before.
    halves: temperatures fitted on the even docs, and on the odd ones.
    before: reliability on all docs with the old temperature.
    after: reliability on all docs, each half with the temperature of the other one.
    each: as `after`, of the odd docs and of the even ones.
    score_map: correction of the probabilities, fitted on all docs after the temperature.
    corrected: as `after`, with the score_map of the other half too.
    """

    component: str
    temperature: float
    old: float
    halves: tuple[float, float]
    before: Reliability
    after: Reliability
    each: tuple[Reliability, Reliability]
    score_map: ScoreMap
    corrected: Reliability

    def table(self) -> str:
        """As text."""
        (of_even, of_odd), (on_odd, on_even) = self.halves, self.each
        points = "\n".join(
            f"  {predicted:.3f} to {corrected:.3f}"
            for predicted, corrected in zip(
                self.score_map.predicted, self.score_map.corrected, strict=True
            )
        )
        return (
            f"temperature {self.old:g}, on all docs:\n{self.before.table()}\n\n"
            "every second doc with the temperature fitted on the others "
            f"({of_even:g} and {of_odd:g}):\n{self.after.table()}\n"
            f"(of one half {on_odd.ece:.4f}, of the other {on_even.ece:.4f})\n\n"
            "the same, then corrected as fitted on the other half:\n"
            f"{self.corrected.table()}\n\n"
            f"fitted on all docs: temperature {self.temperature:g}, then a correction of\n{points}"
        )


@dataclass
class Half:
    """Half of the docs.

    emissions: of each doc. [tokens, K]
    golds: annotation of each doc.
    words: which tokens of each doc continue a word that stays whole; see `Chains.words`.
    """

    emissions: list[Floats2d]
    golds: list[Gold]
    words: list[Optional[BoolArray]]

    def __add__(self, other: "Half") -> "Half":
        return Half(
            self.emissions + other.emissions, self.golds + other.golds, self.words + other.words
        )


def calibrate(
    nlp: Language, docs: list[Doc], *, component: str = "", progress: bool = False
) -> Calibration:
    """Fit the temperature of a component. The pipeline is not changed; see `store`.

    Source: Guo et al. (2017), "On Calibration of Modern Neural Networks".

    nlp: a trained pipeline.
    docs: annotated docs that it was not trained on.
    component: name of the bert_crf component, if there are several.
    progress: show a progress bar on stderr, if that is a terminal.
    RETURNS: the temperature, a correction of the probabilities, and their measured effect.
    Raises BertCrfError if there are too few annotated docs, or there is no such component.
    """
    pipe = find_component(nlp, component)
    halves = (Half([], [], []), Half([], [], []))
    for batch in gold_docs(nlp, pipe.name, docs, progress):
        emissions = pipe.model.predict([item.doc for item in batch])
        words = pipe.chains.words([item.doc for item in batch])
        for item, rows, own in zip(batch, emissions, words, strict=True):
            half = halves[item.number % 2]
            half.emissions.append(np.array(rows) if isinstance(rows, np.ndarray) else rows)
            half.golds.append(item.gold)
            half.words.append(own)
    even, odd = halves
    every = even + odd
    if not odd.golds or not any(gold.spans for gold in even.golds):
        raise BertCrfError(
            "there are too few annotated docs to fit a temperature on every second one and to "
            "measure it on the others: give more docs."
        )

    def fitted(half: Half) -> float:
        rounded = round(best_temperature(lambda t: path_loss(pipe, half, t)), 4)
        # As spaCy reads it from a file: its reader takes 2.5925 for the next number above.
        return float(srsly.json_loads(srsly.json_dumps(rounded)))

    of_even, of_odd, temperature = fitted(even), fitted(odd), fitted(every)
    crossed = outcomes(pipe, odd, of_even), outcomes(pipe, even, of_odd)
    maps = [
        ScoreMap.fitted(outcomes(pipe, half, t))
        for half, t in ((even, of_even), (odd, of_odd), (every, temperature))
    ]
    corrected = [
        (score_map(p), right)
        for score_map, pairs in zip(maps[:2], crossed, strict=True)
        for p, right in pairs
    ]
    return Calibration(
        pipe.name,
        temperature,
        pipe.temperature,
        (of_even, of_odd),
        reliability(outcomes(pipe, every, pipe.temperature)),
        reliability(crossed[0] + crossed[1]),
        (reliability(crossed[0]), reliability(crossed[1])),
        maps[2],
        reliability(corrected),
    )


def store(found: Calibration, pipeline: Path, output: Optional[Path] = None) -> None:
    """Store a calibration in a pipeline's folder, or in a copy of it.

    found: the result of `calibrate` for this pipeline.
    pipeline: folder of the pipeline.
    output: folder of the copy; None to change the pipeline itself.
    Raises BertCrfError if the folder can't be written.
    """
    changes = {"temperature": found.temperature, SCORE_MAP: found.score_map.to_cfg()}
    change_cfg(pipeline, found.component, changes, output)


def path_loss(pipe: "BertCrf", half: Half, temperature: float) -> float:
    """Mean negative log-likelihood of the gold tag paths of docs, at a temperature.

    It is the loss of the training, among the paths that keep words whole if the gold does. Where
    all tags are known it is convex in 1/temperature, so it has one minimum.

    pipe: the component.
    half: the docs.
    temperature: emissions and transitions are divided by it.
    """
    golds = pipe.chains.gold(half.golds, half.words)
    has_words = [gold.whole is not None for gold in golds]
    every = Allowed([gold.whole for gold in golds], has_words)
    right = Allowed([gold.both for gold in golds], has_words)
    log_z = pipe.chains.log_partitions(half.emissions, temperature, every)
    return float((log_z - pipe.chains.log_partitions(half.emissions, temperature, right)).mean())


def outcomes(pipe: "BertCrf", half: Half, temperature: float) -> list[tuple[float, bool]]:
    """Probability of each predicted entity, and whether the entity is right.

    Entities where the gold is not known, or does not cover their label, are left out.

    pipe: the component.
    half: the docs.
    temperature: emissions and transitions are divided by it.
    """
    readings = pipe.chains.read(
        half.emissions, pipe.chains.only_words(half.words), temperature=temperature
    )
    return [
        (entity.probability, tuple(entity.span) in gold.spans)
        for each, gold in zip(readings, half.golds, strict=True)
        for entity in each.entities
        if gold.decides(*entity.span)
    ]
