"""The HTML page of a report: the template with its style, script, figures and sentences."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..figures import confusion_picture, learning_picture, reliability_picture
from ..scores import Count
from .entities import KINDS, RIGHT, SPURIOUS, UNKNOWN, Entity, Row
from .intervals import COVERAGE, N_RESAMPLES

if TYPE_CHECKING:
    from .make import Report

_HERE = Path(__file__).parent
#: A sentence's entity names its kind by its place in this list.
_ALL_KINDS = [RIGHT, UNKNOWN, *KINDS]
#: Hues of the labels, in degrees, in the order of their places. Later labels take them again.
_HUES = (215, 28, 145, 285, 340, 180, 52, 100, 255, 8, 160, 310)


def render(report: "Report") -> str:
    """The page of a report. It holds all it needs, and asks no network for anything."""
    labels = _labels(report)
    places = {label: i for i, label in enumerate(labels)}
    hues = [_HUES[i % len(_HUES)] for i in range(len(labels))]
    kinds = _kinds(report.rows)
    found = report.evaluation
    env = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `tojson` also escapes what would end a script: no text of a corpus can leave its element.
    env.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return env.get_template("page.html").render(
        report=report,
        found=found,
        style=Markup((_HERE / "page.css").read_text(encoding="utf8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf8")),
        hues=hues,
        scores=_scores(report),
        kinds=kinds,
        n_errors=sum(kinds.values()),
        n_wrong=sum(row.surprise > 0 for row in report.rows),
        n_resamples=N_RESAMPLES,
        coverage=round(100 * COVERAGE),
        confusion=None
        if found.confusion is None
        else Markup(confusion_picture(found.confusion, "Gold and predicted labels")),
        reliability=None
        if found.reliability is None
        else Markup(reliability_picture(found.reliability, "Entities by probability")),
        learning=_learning(report.history),
        data={
            "labels": labels,
            "hues": hues,
            "kinds": _ALL_KINDS,
            "rows": [_packed(row, places) for row in report.rows],
        },
    )


def _labels(report: "Report") -> list[str]:
    """All labels, the most frequent in the gold first."""
    counts = report.evaluation.scores.per_type
    others = {e.label for row in report.rows for e in (*row.gold, *row.predicted)} - set(counts)
    return [*sorted(counts, key=lambda label: (-counts[label].gold, label)), *sorted(others)]


def _scores(report: "Report") -> list[dict[str, Any]]:
    """Rows of the table of scores: each label, and all entities last."""
    found = report.evaluation.scores
    counts: list[tuple[str, Optional[int], Count]] = [
        (label, i, found.per_type[label])
        for i, label in enumerate(_labels(report))
        if label in found.per_type
    ]
    counts.append(("all entities", None, found.entities))
    most = max((count.gold for _, place, count in counts if place is not None), default=0)
    most = max([most, 1, *(count.predicted for _, place, count in counts if place is not None)])
    return [
        {
            "label": label,
            "place": place,
            "count": count,
            "of": report.intervals[label if place is not None else ""],
            "gold_share": count.gold / max(1, found.entities.gold),
            "gold_bar": count.gold / most,
            "predicted_bar": count.predicted / most,
        }
        for label, place, count in counts
    ]


def _kinds(rows: list[Row]) -> dict[str, int]:
    """Number of errors of each kind. A pair of a gold and a predicted entity is one error."""
    counts = dict.fromkeys(KINDS, 0)
    for row in rows:
        for entity in row.gold:
            if entity.kind in counts:
                counts[entity.kind] += 1
        counts[SPURIOUS] += sum(e.kind == SPURIOUS for e in row.predicted)
    return counts


def _learning(history: Optional[dict[str, Any]]) -> Optional[Markup]:
    if history is None or not history["epochs"]:
        return None
    drawn = learning_picture(history["epochs"], history["best_epoch"], "Scores by epoch")
    return Markup(drawn)


def _packed(row: Row, places: dict[str, int]) -> list[Any]:
    """A row as the script reads it. Offsets are in UTF-16 units, as those of its texts are."""
    wide = any(ord(char) > 0xFFFF for char in row.text)

    def offset(at: int) -> int:
        return at + sum(ord(char) > 0xFFFF for char in row.text[:at]) if wide else at

    def pack(e: Entity) -> list[Any]:
        p = None if e.probability is None else round(e.probability, 4)
        return [offset(e.start), offset(e.end), places[e.label], _ALL_KINDS.index(e.kind), p]

    entities = ([pack(e) for e in each] for each in (row.gold, row.predicted))
    return [row.number, row.text, *entities]
