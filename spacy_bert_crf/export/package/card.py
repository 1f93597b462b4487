"""The model card of a pipeline, a page in Markdown."""

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Optional

from ..._provenance import META
from .keys import is_encoder, package_name

#: Versions that the card lists, of those that the training recorded.
_VERSIONS = ("python", "spacy-bert-crf", "spacy", "torch", "transformers")


def model_card(meta: dict[str, Any], metrics: Optional[dict[str, Any]] = None) -> str:
    """What a pipeline is for, what it was trained on, how good it is, and how to use it.

    meta: a meta.json, as `complete_meta` returns it.
    metrics: the content of metrics.json, as `evaluate` writes it. It adds the numbers of texts and
        entities, the scores on dev, and the calibration.
    RETURNS: Markdown, with a line break at its end.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": _cell, "percent": _percent, "source": _source}
    text = files(__package__).joinpath("card.md").read_text(encoding="utf8")
    own = meta.get(META) or {}
    card = own.get("card") or {}
    example = card.get("example")
    values = {
        "meta": meta,
        "package": package_name(meta),
        "labels": list(dict.fromkeys(label for of in meta["labels"].values() for label in of)),
        "facts": _facts(meta),
        "card": {"purpose": "", "labels": {}, "scored_on": "", "limits": [], **card},
        "text": json.dumps(example["text"] if example else "…", ensure_ascii=False),
        "found": [tuple(pair) for pair in example["entities"]] if example else None,
        "encoders": [source for source in meta["sources"] if is_encoder(source)],
        "texts": [source for source in meta["sources"] if not is_encoder(source)],
        "components": [one["component"] for one in own.get("encoders") or []],
        "scores": _scores(meta, metrics or {}),
        "metrics": metrics or {},
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
    rows = [
        (label, *(row[key] for key in "prf"), row.get("gold")) for label, row in per_type.items()
    ]
    known = [row[-1] for row in rows if row[-1] is not None]
    total = sum(known) if known else None
    rows.append(("all", *(found[f"ents_{key}"] for key in "prf"), total))
    size = f"{found['docs']:,} texts, {found['characters']:,} characters" if "docs" in found else ""
    return {"title": title, "size": size, "rows": rows, "has_counts": bool(known)}


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
