"""The model card of a pipeline, a page in Markdown."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Optional

from ..._provenance import META
from ...component.meta.keys import is_encoder, labels_of, package_name

#: Versions that the card lists, of those that the training recorded.
_VERSIONS = ("python", "spacy-bert-crf", "spacy", "torch", "transformers")
_OURS = "spacy-bert-crf"
#: Pairs of labels that the card lists, of those that are taken for each other.
_PAIRS = 5


@dataclass(frozen=True)
class Place:
    """Where the reader of a card has the pipeline. Without any of it, the card is that of a wheel.

    folder: folder of the pipeline, as commands and code name it.
    repo: its name on a model hub, and `download`, the line that imports `snapshot_download`.
    wheel: name of the wheel beside the card.
    export: folder beside the card with `best_model.pt`.
    picture: file beside the card with the reliability diagram.
    """

    folder: str = ""
    repo: str = ""
    download: str = ""
    wheel: str = ""
    export: str = ""
    picture: str = ""


def model_card(
    meta: dict[str, Any], metrics: Optional[dict[str, Any]] = None, place: Optional[Place] = None
) -> str:
    """What a pipeline is for, what it was trained on, how good it is, and how to use it.

    meta: a meta.json, as `complete_meta` returns it.
    metrics: the content of metrics.json, as `evaluate` writes it. It adds the numbers of texts and
        entities, intervals, the scores on dev, calibration, errors and the time of the training.
    place: where the reader has the pipeline; by default in an installed wheel.
    RETURNS: Markdown, with a line break at its end.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": _cell, "percent": _percent, "source": _source}
    environment.filters["bounds"] = _bounds
    metrics = metrics or {}
    text = files(__package__).joinpath("card.md").read_text(encoding="utf8")
    own = meta.get(META) or {}
    card = own.get("card") or {}
    example = card.get("example")
    values = {
        "meta": meta,
        "package": package_name(meta),
        "labels": labels_of(meta),
        "facts": _facts(meta),
        "card": {"purpose": "", "labels": {}, "limits": [], "emissions": {}, **card},
        "text": json.dumps(example["text"] if example else "…", ensure_ascii=False),
        "found": [tuple(pair) for pair in example["entities"]] if example else None,
        "encoders": [source for source in meta["sources"] if is_encoder(source)],
        "texts": [source for source in meta["sources"] if not is_encoder(source)],
        "components": [one["component"] for one in own.get("encoders") or []],
        "scores": _scores(meta, metrics),
        "metrics": metrics,
        "bins": [b for b in (metrics.get("reliability") or {}).get("bins", ()) if b["count"]],
        "confused": _confused(metrics.get("confusion")),
        "spent": _spent(metrics.get("seconds")),
        "place": place or Place(),
        "needs": [json.dumps(line) for line in meta["requirements"]],
        "served": [
            json.dumps(line.replace(_OURS, f"{_OURS}[serve]", 1)) for line in meta["requirements"]
        ],
        "seed": own.get("seed"),
        "versions": {k: v for k, v in (own.get("versions") or {}).items() if k in _VERSIONS},
    }
    return environment.from_string(text).render(values).rstrip() + "\n"


def _facts(meta: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of the first table that have a value: name and value."""
    own = meta.get(META) or {}
    rows = [
        ("Version", meta["version"]),
        ("Language", meta["lang"]),
        ("Components", ", ".join(f"`{name}`" for name in meta["pipeline"])),
    ]
    for one in own.get("encoders") or []:
        size = f"{one['model_type']}, {one['layers']} layers of width {one['width']}"
        rows.append(("Encoder", f"{size}, {one['parameters'] / 1e6:.1f} million parameters"))
        rows.append(("Tag scheme", one["scheme"]))
        if one["quantize"]:
            rows.append(("Prediction", f"in {one['quantize']} on the CPU"))
    if own.get("bytes"):
        rows.append(("Size", f"{own['bytes'] / 1e6:.0f} MB on disk"))
    author = meta["author"]
    if author and meta["email"]:
        author = f"{author} ({meta['email']})"
    rows += [("Licence", meta["license"]), ("Author", author), ("Home", meta["url"])]
    return [(name, str(value)) for name, value in rows if value]


def _scores(meta: dict[str, Any], metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables of scores: title and rows, the labels first and all of them last."""
    if not metrics.get("ents_per_type"):
        found = meta.get("performance") or {}
        return [_table("The dev texts of the training", found)] if "ents_f" in found else []
    named = metrics.get("data") or "the evaluated texts"
    described = ((meta.get(META) or {}).get("card") or {}).get("scored_on")
    tables = [_table(described or f"On {named}", metrics)]
    if dev := metrics.get("dev"):
        tables.append(_table("On dev, by which the epoch was chosen", dev))
    return tables


def _table(title: str, found: dict[str, Any]) -> dict[str, Any]:
    per_type = found.get("ents_per_type") or {}
    intervals = found.get("intervals") or {}

    def interval(label: str) -> Any:
        return (intervals.get(label) or {}).get("f")

    rows = [
        (label, *(row[key] for key in "prf"), interval(label), row.get("gold"))
        for label, row in per_type.items()
    ]
    known = [row[-1] for row in rows if row[-1] is not None]
    total = sum(known) if known else None
    rows.append(("all", *(found[f"ents_{key}"] for key in "prf"), interval(""), total))
    size = f"{found['docs']:,} texts, {found['characters']:,} characters" if "docs" in found else ""
    return {
        "title": title,
        "size": size,
        "rows": rows,
        "has_counts": bool(known),
        "has_intervals": bool(intervals),
    }


def _confused(found: Optional[dict[str, Any]]) -> Optional[dict[str, Any]]:
    """The rows of the table of errors, and the pairs of labels that are taken for each other."""
    if not found:
        return None
    borders = found["other_borders_same_label"]
    rows = [
        ("right", found["exact"]),
        ("right borders, another label", found["same_span_other_label"]),
        *((f"right label, borders {kind}", count) for kind, count in borders.items()),
        ("other borders, another label", found["other_borders_other_label"]),
        ("missed", found["missed"]),
        ("found where there is none", found["spurious"]),
    ]
    pairs = [
        (gold, ours, count)
        for gold, row in found["same_span_by_label"].items()
        for ours, count in row.items()
        if gold != ours
    ]
    pairs.sort(key=lambda pair: (-pair[-1], pair))
    return {"rows": rows, "pairs": pairs[:_PAIRS]}


def _spent(seconds: Optional[float]) -> str:
    """A time in words, to the minute where it is long; empty where it is not known."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{minutes} minutes" if minutes < 120 else f"{hours} hours and {rest} minutes"


def _bounds(interval: Any) -> str:
    return f"{_percent(interval[0])} to {_percent(interval[1])}" if interval else ""


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _cell(text: Any) -> str:
    """A text in a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _source(source: dict[str, str]) -> str:
    """A source as a line: its name, who made it, and its licence."""
    name = f"[{source['name']}]({source['url']})" if source.get("url") else source["name"]
    more: Sequence[str] = [
        *([f"by {source['author']}"] if source.get("author") else []),
        f"licence: {source['license']}" if source.get("license") else "licence not known",
    ]
    return f"{name} ({'; '.join(more)})"
