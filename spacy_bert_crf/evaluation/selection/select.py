"""Choose the texts that are to be annotated next."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

from spacy.language import Language
from wasabi.tables import table

from ...component.pipelines import find_component
from ...errors import BertCrfError
from .diversity import choose
from .pool import AnyText, digest, read_pool
from .predicted import Predicted, predict
from .uncertainty import BY, ENTROPY, PER, Figures, check_choice

#: How many texts are chosen without a number and a budget of characters.
DEFAULT_NUMBER = 200
#: How many of the most unsure texts the choice is made from, unless more are needed.
DEFAULT_POOL = 5_000


@dataclass(frozen=True)
class Selected:
    """A text to annotate.

    index: its place in the input, from 0.
    name: its name in the input; its number, from 1, where it has none.
    text: the text.
    score: its score, by which it was chosen.
    figures: how unsure the pipeline is of it.
    predicted: what the pipeline finds in it.
    """

    index: int
    name: str
    text: str
    score: float
    figures: Figures
    predicted: Predicted


@dataclass(frozen=True)
class Selection:
    """The result of `select_texts`.

    chosen: the texts, in the order of the choice.
    texts: number of texts in the input.
    characters: number of characters in the input.
    left_out: number of texts that could not be chosen, by reason.
    pool: number of texts that the choice was made from.
    by, per: as requested.
    model: name and version of the pipeline.
    """

    chosen: list[Selected]
    texts: int
    characters: int
    left_out: dict[str, int] = field(default_factory=dict)
    pool: int = 0
    by: str = ENTROPY
    per: str = "token"
    model: str = ""

    @property
    def chosen_characters(self) -> int:
        """Number of characters of the texts that were chosen."""
        return sum(len(each.text) for each in self.chosen)

    def table(self) -> str:
        """The counts as a plain table."""
        scores = [each.score for each in self.chosen]
        rows = [
            ("texts", f"{self.texts:,}"),
            *((f"  {reason}", f"{n:,}") for reason, n in sorted(self.left_out.items())),
            ("chosen from", f"{self.pool:,}"),
            ("chosen", f"{len(self.chosen):,}"),
            ("  characters", f"{self.chosen_characters:,}"),
            ("  entities", f"{sum(len(each.predicted.entities) for each in self.chosen):,}"),
            ("  uncertain", f"{sum(len(each.predicted.uncertain) for each in self.chosen):,}"),
            (f"{self.by} per {self.per}", f"{min(scores):.3g} to {max(scores):.3g}"),
        ]
        return table(rows, aligns=("l", "r")).strip("\n")


def select_texts(
    nlp: Language,
    texts: Iterable[AnyText],
    *,
    number: Optional[int] = None,
    characters: Optional[int] = None,
    by: str = ENTROPY,
    per: str = "token",
    diversity: float = 1.0,
    near: float = 0.8,
    pool: int = DEFAULT_POOL,
    exclude: Iterable[str] = (),
    uncertain: float = 0.8,
    component: str = "",
    progress: bool = False,
) -> Selection:
    """Choose the texts of which a pipeline is least sure, and that differ from one another.

    Each text is scored by one pass of the encoder. The scores are exact, from the posterior of the
    CRF; see `uncertainty.Figures.score`. Then texts are chosen from those with the highest scores,
    one by one; see `diversity.choose`. Those chosen are read once more, for what the pipeline
    finds in them. Equal texts are chosen once. The result is the same for the same input.

    nlp: a trained pipeline.
    texts: texts, or pairs of a name and a text. They are read once, and not kept.
    number: number of texts; None for as many as `characters` allows, or 200 without that.
    characters: largest number of characters of the texts that are chosen; None for any.
    by: the score: `entropy` of the distribution over tag paths; `best-path`, one minus the
        probability of the best path; `errors`, expected number of wrong entities; `token-errors`,
        expected number of tokens with a wrong label.
    per: the score counts per `token`, per `root` of the number of tokens, or per `text`.
    diversity: how much likeness to texts chosen before counts; 0 for not at all.
    near: texts with this cosine similarity to a chosen one are not chosen.
    pool: number of texts with the highest scores among which the choice is made. At least
        `number` are kept.
    exclude: texts that are not chosen, for example those that are annotated already.
    uncertain: less probable entities are marked as uncertain; see `predicted.predict`.
    component: name of the bert_crf component, if there are several.
    progress: show a progress bar on stderr, if that is a terminal.
    RETURNS: the texts with what the pipeline finds in them, the best one first.
    Raises BertCrfError for a setting out of range, if no text can be chosen, or if there is no
    such component.
    """
    check_choice("by", by, BY)
    check_choice("per", per, tuple(PER))
    _check_ranges(number, characters, diversity, near, pool, uncertain)
    if number is None and characters is None:
        number = DEFAULT_NUMBER
    pipe = find_component(nlp, component)
    excluded = frozenset(map(digest, exclude))
    size = max(pool, number or 0)
    found = read_pool(
        nlp, pipe, texts, by=by, per=per, size=size, excluded=excluded, progress=progress
    )
    candidates = found.candidates
    chosen = choose(
        [each.text for each in candidates],
        [each.score for each in candidates],
        number=number,
        characters=characters,
        diversity=diversity,
        near=near,
    )
    if not chosen:
        raise BertCrfError(_nothing(found.texts, dict(found.left_out), characters))
    best = [candidates[i] for i in chosen]
    predictions = predict(nlp, pipe, [each.text for each in best], uncertain)
    selected = [
        Selected(each.index, each.name, each.text, each.score, each.figures, predicted)
        for each, predicted in zip(best, predictions, strict=True)
    ]
    meta = nlp.meta
    return Selection(
        selected,
        found.texts,
        found.characters,
        dict(found.left_out),
        len(candidates),
        by,
        per,
        f"{meta['lang']}_{meta['name']} {meta['version']}",
    )


def _check_ranges(
    number: Optional[int],
    characters: Optional[int],
    diversity: float,
    near: float,
    pool: int,
    uncertain: float,
) -> None:
    for name, value in (("number", number), ("characters", characters), ("pool", pool)):
        if value is not None and value < 1:
            raise BertCrfError(f"--{name} must be at least 1, not {value}.")
    if not 0 <= diversity < float("inf"):
        raise BertCrfError(f"--diversity must be 0 or more, not {diversity:g}.")
    if not 0 < near <= 1:
        raise BertCrfError(f"--near must be above 0 and at most 1, not {near:g}.")
    if not 0.5 <= uncertain <= 1:
        raise BertCrfError(f"--uncertain must be from 0.5 to 1, not {uncertain:g}.")


def _nothing(texts: int, left_out: dict[str, int], characters: Optional[int]) -> str:
    if not texts:
        return "there is no text to choose from: name other files."
    if sum(left_out.values()) < texts:
        return f"no text fits into {characters:,} characters: allow more with --characters."
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(left_out.items()))
    return f"no text is left of {texts:,} ({reasons}): name other files."
