"""A temperature for a trained pipeline, fitted on annotated docs, and what it is worth.

What it is worth is measured on docs that had no part in it: every second doc with the temperature
that was fitted on the others, and the other way round.
"""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import srsly
from thinc.types import Floats2d

from .._files import atomic_folder, write_text
from ..annotation.allowed import allowed_tags
from ..annotation.docbin import read_docs
from ..annotation.gold import Gold
from ..component import reading
from ..component.pipe import BertCrf
from ..component.pipelines import find_component, load_pipeline
from ..component.score_map import SCORE_MAP, ScoreMap
from ..errors import BertCrfError
from .gold_docs import gold_docs
from .reliability import Reliability, best_temperature, reliability


@dataclass(frozen=True)
class Calibration:
    """temperature: fitted on all docs. old: what the pipeline had. halves: fitted on the even docs,
    and on the odd ones. before: of all entities that are found, with the old temperature. after:
    those of either half with the temperature of the other one. each: after, for the odd docs and
    for the even ones. score_map: fitted on all docs after the temperature. told: as after, with
    the score_map of the other half too."""

    temperature: float
    old: float
    halves: tuple[float, float]
    before: Reliability
    after: Reliability
    each: tuple[Reliability, Reliability]
    score_map: ScoreMap
    told: Reliability


@dataclass
class Half:
    """Emissions [tokens, K] and gold of some docs."""

    emissions: list[Floats2d]
    golds: list[Gold]

    def __add__(self, other: "Half") -> "Half":
        return Half(self.emissions + other.emissions, self.golds + other.golds)


def calibrate(
    pipeline: Path, data: Path, *, component: str = "", output: Optional[Path] = None
) -> Calibration:
    """Fit a pipeline's temperature and store it in the pipeline, or in a copy of it.

    component: which bert_crf, if there are several. output: folder of the copy.
    Raises BertCrfError for a pipeline or data that can't be read, or data that do not suffice;
        nothing is changed then.
    """
    is_pipeline = output is not None and (output / "meta.json").is_file()
    if output is not None and output.exists() and not is_pipeline:
        raise BertCrfError(f"{output} exists and is no pipeline folder: name a new one.")
    nlp = load_pipeline(pipeline)
    pipe = find_component(nlp, component)
    halves = (Half([], []), Half([], []))
    for batch in gold_docs(nlp, pipe.name, read_docs(data, nlp)):
        emissions = pipe.model.predict([item.doc for item in batch])
        for item, rows in zip(batch, emissions, strict=True):
            half = halves[item.number % 2]
            half.emissions.append(np.array(rows) if isinstance(rows, np.ndarray) else rows)
            half.golds.append(item.gold)
    even, odd = halves
    every = even + odd
    if not odd.golds or not any(gold.spans for gold in even.golds):
        raise BertCrfError(
            f"{data} has too few annotated docs to fit a temperature on every second one and to "
            "measure it on the others."
        )

    def fitted(docs: Half) -> float:
        return round(best_temperature(lambda t: path_loss(pipe, docs, t)), 4)

    of_even, of_odd, temperature = fitted(even), fitted(odd), fitted(every)
    crossed = outcomes(pipe, odd, of_even), outcomes(pipe, even, of_odd)
    maps = [
        ScoreMap.fitted(outcomes(pipe, docs, t))
        for docs, t in ((even, of_even), (odd, of_odd), (every, temperature))
    ]
    told = [(m(p), right) for m, pairs in zip(maps, crossed, strict=False) for p, right in pairs]
    found = Calibration(
        temperature,
        pipe.temperature,
        (of_even, of_odd),
        reliability(outcomes(pipe, every, pipe.temperature)),
        reliability(crossed[0] + crossed[1]),
        (reliability(crossed[0]), reliability(crossed[1])),
        maps[2],
        reliability(told),
    )
    if output is None or output.resolve() == pipeline.resolve():
        _store(pipeline / pipe.name / "cfg", found)
    else:
        with atomic_folder(output) as folder:
            shutil.copytree(pipeline, folder, dirs_exist_ok=True)
            _store(folder / pipe.name / "cfg", found)
    return found


def path_loss(pipe: BertCrf, half: Half, temperature: float) -> float:
    """Negative log-likelihood of the gold, a doc, at a temperature.

    Of whole tag paths, as in training. Where all is known it is convex in 1/temperature, so that
    it has one minimum.
    """
    sets = [allowed_tags(gold, pipe.tag_set) for gold in half.golds]
    every = reading.log_partitions(pipe.crf, half.emissions, temperature)
    gold = reading.log_partitions(pipe.crf, half.emissions, temperature, sets)
    return float((every - gold).mean())


def outcomes(pipe: BertCrf, half: Half, temperature: float) -> list[tuple[float, bool]]:
    """Probability of each entity that is found, and whether it is right. Entities where the gold
    is not known are left out."""
    readings = reading.read(
        pipe.crf,
        half.emissions,
        pipe.tag_set,
        constrained=pipe.constraints,
        temperature=temperature,
    )
    return [
        (entity.probability, tuple(entity.span) in gold.spans)
        for each, gold in zip(readings, half.golds, strict=True)
        for entity in each.entities
        if gold.known[entity.start : entity.end].all()
    ]


def report(found: Calibration) -> str:
    """What `calibrate` found, as text."""
    (of_even, of_odd), (on_odd, on_even) = found.halves, found.each
    points = "\n".join(
        f"  {told:.3f} to {right:.3f}"
        for told, right in zip(found.score_map.told, found.score_map.right, strict=True)
    )
    return (
        f"temperature {found.old:g}, on all docs:\n{found.before.table()}\n\n"
        f"every second doc with the temperature fitted on the others ({of_even:g} and {of_odd:g}):"
        f"\n{found.after.table()}\n"
        f"(of one half {on_odd.ece:.4f}, of the other {on_even.ece:.4f})\n\n"
        "the same, then corrected as fitted on the other half:\n"
        f"{found.told.table()}\n\n"
        f"fitted on all docs: temperature {found.temperature:g}, then a correction of\n{points}"
    )


def _store(path: Path, found: Calibration) -> None:
    cfg: dict[str, Any] = srsly.read_json(path)
    score_map = dataclasses.asdict(found.score_map)
    cfg |= {"temperature": found.temperature, SCORE_MAP: score_map}
    write_text(path, srsly.json_dumps(cfg, indent=2) + "\n")
