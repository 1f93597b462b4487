"""The component's work for docs that each have options of their own, after one encoder pass.

Docs are divided by what is computed for them, after the encoder has read all of them together. So
each doc has the result that it has alone, except for rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Optional

import torch
from spacy.tokens import Doc

from ..component import doc_entities
from ..component.decoding.dictionary import Dictionary, Extended, Name, Names
from ..component.reading import corrected
from ..model import layers
from ..model.crf_batches import Emissions
from .options import Options

if TYPE_CHECKING:
    from ..component.pipe import BertCrf

#: An entity as (start, end, label), in characters.
Entity = tuple[int, int, str]


@dataclass
class Figures:
    """What was computed for a doc beside its entities.

    log_probability: natural logarithm of the probability of the best path; None if not computed.
    entropy: entropy of the distribution over paths, in nats; None if not computed.
    readings: the best readings: entities, and the probability of each reading.
    """

    log_probability: Optional[float] = None
    entropy: Optional[float] = None
    readings: list[tuple[list[Entity], float]] = field(default_factory=list)


class _Work(NamedTuple):
    """What is computed for a doc. Docs with equal work are decoded together.

    probabilities: whether probabilities are computed.
    candidates: smallest probability of candidates; 0 for none.
    nbest: number of readings; 0 for none.
    keep_ents: whether decoding keeps to the entities on the doc.
    overwrite: whether predicted entities replace those on the doc.
    names: names of a dictionary, beside the component's own.
    """

    probabilities: bool
    candidates: float
    nbest: int
    keep_ents: bool
    overwrite: bool
    names: tuple[Name, ...]


def annotate_docs(
    pipe: "BertCrf", docs: Sequence[Doc], options: Sequence[Options], fixed: Sequence[bool]
) -> list[Figures]:
    """Write entities to docs, as the component does, each by its own options.

    Candidates and probabilities of entities go to span groups of the doc.

    pipe: the component.
    docs: docs as they come from the components before it.
    options: the options of each doc.
    fixed: whether entities are given with each doc. They stay, whatever the settings.
    RETURNS: the figures of each doc.
    """
    out = [Figures() for _ in docs]
    works = [_work(pipe, *each) for each in zip(options, fixed, strict=True)]
    # shape: (N tokens, K)
    emissions = layers.predict_emissions(pipe.model, list(docs)).to_crf().wait()
    rows = torch.split(emissions.rows, emissions.lengths)
    for work in dict.fromkeys(works):
        members = [i for i, other in enumerate(works) if other == work]
        part = emissions
        if len(members) < len(docs):
            part = Emissions(
                torch.cat([rows[i] for i in members]), [emissions.lengths[i] for i in members]
            )
        _decode(
            pipe, [docs[i] for i in members], part, work,
            [options[i].threshold for i in members], [out[i] for i in members],
        )  # fmt: skip
    return out


def _work(pipe: "BertCrf", options: Options, is_fixed: bool) -> _Work:
    own = pipe.settings
    candidates = own.candidates if options.candidates is None else options.candidates
    scores = own.scores if options.scores is None else options.scores
    threshold = pipe.threshold if options.threshold is None else options.threshold
    return _Work(
        probabilities=bool(scores or candidates or threshold),
        candidates=candidates,
        nbest=options.nbest,
        keep_ents=is_fixed or (own.constrain_to_ents and not own.overwrite),
        overwrite=own.overwrite and not is_fixed,
        names=options.names,
    )


def _dictionary(pipe: "BertCrf", names: tuple[Name, ...]) -> Optional[Names]:
    """The component's dictionary, with further names in place of its own of the same text."""
    if not names:
        return pipe.dictionary
    return Extended(pipe.dictionary or Dictionary(), Dictionary(names))


def _decode(
    pipe: "BertCrf",
    docs: list[Doc],
    emissions: Emissions,
    work: _Work,
    thresholds: Sequence[Optional[float]],
    out: Sequence[Figures],
) -> None:
    """Write entities to docs, and the other figures to `out`."""
    chains = pipe.chains
    allowed = chains.allowed(docs, pipe.name, work.keep_ents, _dictionary(pipe, work.names))
    if work.nbest:  # before entities are written, since those on the doc belong to a reading
        paths = chains.best_paths(emissions, work.nbest, allowed, pipe.temperature)
        for doc, found, figures in zip(docs, paths, out, strict=True):
            readings = doc_entities.alternatives(doc, found, chains.tags, work.overwrite)
            figures.readings = [
                ([(e.start_char, e.end_char, e.label_) for e in entities], p)
                for entities, p in readings
            ]
    if not work.probabilities:
        tags, _ = chains.decode(emissions, allowed)
        doc_entities.set_tags(docs, tags, chains.tags, work.overwrite)
        return
    settings = replace(
        pipe.settings, scores=True, candidates=work.candidates, overwrite=work.overwrite
    )
    read = chains.read(
        emissions, allowed, temperature=pipe.temperature, min_probability=work.candidates
    )
    for doc, reading, threshold, figures in zip(
        docs, corrected(read, pipe.score_map), thresholds, out, strict=True
    ):
        least = pipe.threshold if threshold is None else threshold
        doc_entities.set_reading(doc, reading, pipe.name, settings, least)
        figures.log_probability, figures.entropy = reading.log_probability, reading.entropy
