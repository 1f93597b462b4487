"""What a report shows, collected from a pipeline and annotated docs."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from spacy.language import Language
from spacy.tokens import Doc

from ..._provenance import versions
from ...component.pipelines import entity_labels, find_component
from ..evaluate import Evaluation, aligned_spans, predict, read_history
from .entities import Row
from .intervals import Intervals, bootstrap
from .page import render
from .rows import make_rows


@dataclass(frozen=True)
class Report:
    """How well a pipeline does on annotated docs, with every sentence.

    title: title of the page.
    evaluation: scores, calibration and confusion.
    intervals: 95 % intervals of the scores by label, and of all labels under "".
    rows: the sentences, the worst first.
    history: epochs, best epoch, seconds and seed of the training; None if they are not known.
    unknown_labels: counts of gold entities by label, of labels that the pipeline does not have.
    versions: of the packages that were used.
    """

    title: str
    evaluation: Evaluation
    intervals: dict[str, Intervals]
    rows: list[Row]
    history: Optional[dict[str, Any]]
    unknown_labels: dict[str, int]
    versions: dict[str, str]

    def html(self) -> str:
        """One HTML page that needs no network. The same report gives the same page."""
        return render(self)


def make_report(
    nlp: Language,
    docs: list[Doc],
    *,
    component: str = "",
    history: Optional[Path] = None,
    title: str = "",
    progress: bool = False,
) -> Report:
    """Compare a pipeline's entities with annotated docs, for a page to look at.

    Docs without any entity annotation are left out, because their gold is not known.

    nlp: a trained pipeline.
    docs: annotated docs. The pipeline reads only their texts.
    component: name of the bert_crf component, if there are several. Its probabilities of gold
        entities are shown.
    history: the training's history.json, for the learning curve.
    title: title of the page; by default the name of the pipeline.
    progress: show progress bars on stderr, if that is a terminal.
    RETURNS: the report. `Report.html` makes the page.
    Warns of labels that the pipeline does not have.
    Raises BertCrfError if no doc is annotated, the pipeline has none of their labels, there is no
    such component, or the history can't be read.
    """
    pipe = find_component(nlp, component)
    epochs = None if history is None else read_history(history)
    found = predict(nlp, docs, progress=progress)
    pairs = [(ours, gold) for ours, gold, _ in aligned_spans(found.docs, found.gold)]
    known = entity_labels(nlp)
    counts = Counter(ent.label_ for doc in found.gold for ent in doc.ents)
    unknown = {} if known is None else {n: counts[n] for n in sorted(counts) if n not in known}
    return Report(
        title or f"{nlp.meta['lang']}_{nlp.meta['name']}",
        found.evaluation(confusion=True),
        bootstrap(pairs),
        make_rows(nlp, pipe, found, progress=progress),
        epochs,
        unknown,
        versions(),
    )
