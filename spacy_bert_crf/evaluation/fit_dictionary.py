"""How much a soft name of each label should count: fitted to the likelihood of annotated docs."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from spacy.language import Language
from spacy.tokens import Doc
from thinc.types import Floats2d

from ..component.decoding.allowed import Allowed, GoldTags
from ..component.decoding.dictionary import DICTIONARY, SOFT, Bonus, Dictionary, Match
from ..component.pipelines import change_cfg, find_component
from ..errors import BertCrfError
from .gold_docs import gold_docs

if TYPE_CHECKING:
    from ..component.pipe import BertCrf

#: The bonus lies between these, in nats. A normal prior of this width keeps it near 0. It is never
#: negative: a name that the dictionary has is no evidence against its entity.
_BOUNDS = (0.0, 12.0)
_WIDTH = 5.0
#: How often each label's bonus is fitted while the others are held.
_ROUNDS = 2


@dataclass(frozen=True)
class FittedDictionary:
    """A dictionary with fitted bonuses.

    dictionary: the dictionary.
    found: number of soft names in the docs, by label.
    before: mean negative log-likelihood of the docs with soft names, without a bonus, in nats.
    after: the same with the fitted bonuses.
    """

    dictionary: Dictionary
    found: dict[str, int]
    before: float
    after: float

    def table(self) -> str:
        """The result as text."""
        lines = ["label  bonus (nats)  names in the docs"]
        for label, count in sorted(self.found.items()):
            lines.append(f"{label:<5}  {self.dictionary.bonus_of(label):>12.2f}  {count:>17,}")
        loss = f"negative log-likelihood of a doc with names: {self.before:.4f} to {self.after:.4f}"
        return "\n".join([*lines, loss])


def fit_dictionary(
    nlp: Language,
    docs: list[Doc],
    dictionary: Dictionary,
    *,
    component: str = "",
    progress: bool = False,
) -> FittedDictionary:
    """Fit the bonus of each label of soft names. The pipeline is not changed.

    The docs must not be those that the pipeline was trained on, nor those that the names are from:
    a name that is always right would get too large a bonus. A label without names in the docs keeps
    its bonus.

    nlp: a trained pipeline.
    docs: annotated docs.
    dictionary: the names.
    component: name of the bert_crf component, if there are several.
    progress: show a progress bar on stderr, if that is a terminal.
    Raises BertCrfError if there is no such component, no doc is annotated, or no soft name is in
        the docs.
    """
    pipe = find_component(nlp, component)
    task = _Task(pipe, [], [], [])
    for batch in gold_docs(nlp, pipe.name, docs, progress):
        own = [item.doc for item in batch]
        words = pipe.chains.words(own)
        golds = pipe.chains.gold([item.gold for item in batch], words)
        for doc, rows, gold, each in zip(own, pipe.model.predict(own), golds, words, strict=True):
            matches = dictionary.find(doc, each)
            if any(mode == SOFT for match in matches for _, mode in match.names):
                task.rows.append(rows.copy())
                task.golds.append(gold)
                task.matches.append(matches)
    if not task.rows:
        raise BertCrfError(
            "no soft name of the dictionary is in the docs, so that no bonus can be fitted: give "
            "docs that have some."
        )
    found = Counter(
        label
        for each in task.matches
        for match in each
        for label, mode in match.names
        if mode == SOFT
    )
    bonus = {**dictionary.bonus, **dict.fromkeys(found, 0.0)}
    before = task.loss(replace(dictionary, bonus=bonus))
    for _ in range(_ROUNDS):
        for label in sorted(found):
            bonus[label] = _best(task, dictionary, bonus, label)
    fitted = replace(dictionary, bonus=bonus)
    return FittedDictionary(fitted, dict(found), before, task.loss(fitted))


def store_dictionary(
    dictionary: Dictionary, component: str, pipeline: Path, output: Optional[Path] = None
) -> None:
    """Store a dictionary in a pipeline's folder, or in a copy of it.

    dictionary: the dictionary.
    component: name of the component.
    pipeline: folder of the pipeline.
    output: folder of the copy; None to change the pipeline itself.
    Raises BertCrfError if the folder can't be written.
    """
    change_cfg(pipeline, component, {DICTIONARY: dictionary.to_cfg()}, output)


@dataclass
class _Task:
    """Docs with soft names: emissions, the tags that gold allows, and the names."""

    pipe: "BertCrf"
    rows: list[Floats2d]
    golds: list[GoldTags]
    matches: list[list[Match]]

    def loss(self, dictionary: Dictionary) -> float:
        """Mean negative log-likelihood of the docs, in nats."""
        chains, temperature = self.pipe.chains, self.pipe.temperature
        lengths = [len(rows) for rows in self.rows]
        bonus = Bonus.of(dictionary, self.matches, lengths, chains.tags)
        words = [gold.whole is not None for gold in self.golds]
        every = Allowed([gold.whole for gold in self.golds], words, bonus)
        right = Allowed([gold.both for gold in self.golds], words, bonus)
        log_z = chains.log_partitions(self.rows, temperature, every)
        return float((log_z - chains.log_partitions(self.rows, temperature, right)).mean())


def _best(task: _Task, dictionary: Dictionary, bonus: dict[str, float], label: str) -> float:
    """The bonus of a label that the docs and the prior make most likely."""
    from scipy.optimize import minimize_scalar

    def objective(nats: float) -> float:
        tried = replace(dictionary, bonus={**bonus, label: nats})
        return len(task.rows) * task.loss(tried) + nats**2 / (2 * _WIDTH**2)

    found = minimize_scalar(objective, bounds=_BOUNDS, method="bounded", options={"xatol": 0.01})
    return round(float(found.x), 2)
