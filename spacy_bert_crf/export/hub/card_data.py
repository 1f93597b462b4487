"""The metadata at the top of a model card, as the hub reads it.

Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ..._provenance import META
from ...component.meta.keys import ENCODER, PART, named_sources, package_name, text_sources
from ...errors import BertCrfError, first_line
from .licenses import IDENTIFIERS, identifier, short_name

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

TASK = "token-classification"
#: A name on the hub at the beginning of an origin, and what may follow it.
_BASE = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(@[0-9a-f]{7,40})?(?= \(|,|$)")
_DATASET = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/datasets/([\w.-]+/?[\w.-]*)")
#: Names of splits by the names of files.
_SPLITS = {"test": "test", "dev": "validation", "validation": "validation", "train": "train"}
#: The metrics of the hub by their keys in metrics.json.
_METRICS = {"p": ("precision", "precision"), "r": ("recall", "recall"), "f": ("f1", "F1")}


def card_data(meta: dict[str, Any], metrics: Optional[dict[str, Any]] = None) -> "ModelCardData":
    """The metadata of a pipeline. What is not known is left out.

    meta: a meta.json, as `complete_meta` returns it.
    metrics: the content of metrics.json, as `evaluate` writes it. Without it, the results are those
        on the dev texts of the training.
    RETURNS: the metadata, in the hub's own type.
    """
    from huggingface_hub import ModelCardData

    said = (meta.get(META) or {}).get("card") or {}
    results = list(_results(meta, metrics or {}))
    emissions = dict(said.get("emissions") or {})
    if emissions:
        emissions = {"emissions": emissions.pop("grams"), **emissions}
    return ModelCardData(
        language=["multilingual" if meta["lang"] == "xx" else meta["lang"]],
        **_license(meta.get("license") or ""),
        library_name="spacy",
        tags=["spacy", TASK, "named-entity-recognition", "bert", "crf"],
        pipeline_tag=TASK,
        base_model=said.get("base_model") or _base_model(meta),
        datasets=said.get("datasets") or _datasets(meta) or None,
        metrics=[name for name, _ in _METRICS.values()] if results else None,
        model_name=package_name(meta),
        eval_results=results or None,
        co2_eq_emissions=emissions or None,
    )


def with_data(card: str, data: "ModelCardData") -> str:
    """A card with its metadata at the top, as YAML between two lines of dashes.

    Raises BertCrfError for metadata that huggingface_hub itself does not read again.
    """
    from huggingface_hub.utils import yaml_dump

    values = data.to_dict()
    values.pop("model_name", None)  # it is left where there are no results
    text = f"---\n{yaml_dump(values, sort_keys=False)}---\n\n{card}"
    if check_card(text) != values:
        raise BertCrfError("the card's metadata changes when it is read: check names and licence.")
    return text


def check_card(text: str) -> dict[str, Any]:
    """Check the metadata of a card, as far as this is possible without the hub.

    text: the card, with its metadata.
    RETURNS: the metadata.
    Raises BertCrfError for metadata that huggingface_hub can't read or the hub does not take.
    """
    from huggingface_hub import ModelCard

    try:
        data = ModelCard(text, ignore_metadata_errors=False).data
        values: dict[str, Any] = data.to_dict()
    except Exception as err:  # of the YAML reader, and of huggingface_hub
        raise BertCrfError(f"the card's metadata can't be read: {first_line(err)}.") from err
    values.pop("model_name", None)
    if values.get("license") not in (None, *IDENTIFIERS):
        raise BertCrfError(f"the hub knows no licence {values['license']!r}: use other.")
    return values


def _license(text: str) -> dict[str, str]:
    """Licence and, where the hub does not know it, its name."""
    if not text:
        return {}
    known = identifier(text)
    if known:
        return {"license": known}
    return {"license": "other", "license_name": short_name(text)}


def _base_model(meta: dict[str, Any]) -> Optional[str]:
    """The encoder's name on the hub, if its origin begins with one."""
    for source in named_sources(meta):
        found = _BASE.match(source["name"]) if source.get(PART) == ENCODER else None
        # A single word without a commit may be anything.
        if found and ("/" in found[1] or found[2]):
            return found[1]
    return None


def _datasets(meta: dict[str, Any]) -> list[str]:
    """Names on the hub of the training texts whose address is there."""
    found = (_DATASET.match(source.get("url", "")) for source in text_sources(meta))
    return list(dict.fromkeys(match[1].rstrip("/") for match in found if match))


def _results(meta: dict[str, Any], metrics: dict[str, Any]) -> Iterator["EvalResult"]:
    """The scores of all labels and of each one, on the evaluated texts, then on dev."""
    said = (meta.get(META) or {}).get("card") or {}
    parts: list[tuple[str, dict[str, Any]]] = []
    on_dev = "the dev texts of the training"
    if "ents_f" in metrics:
        name = said.get("scored_on") or metrics.get("data") or "the evaluated texts"
        parts.append((name, metrics))
        if dev := metrics.get("dev"):
            parts.append((dev.get("data") or on_dev, dev))
    elif "ents_f" in (meta.get("performance") or {}):
        parts.append((on_dev, {"data": "dev", **meta["performance"]}))
    for name, found in parts:
        yield from _result(name, found)


def _result(name: str, found: dict[str, Any]) -> Iterator["EvalResult"]:
    from huggingface_hub import EvalResult

    rows: list[tuple[str, dict[str, float]]] = [("", {key: found[f"ents_{key}"] for key in "prf"})]
    rows += list((found.get("ents_per_type") or {}).items())
    for label, row in rows:
        for key, (metric, title) in _METRICS.items():
            yield EvalResult(
                task_type=TASK,
                task_name="Named entity recognition",
                # These texts are no data set of the hub.
                dataset_type=re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "texts",
                dataset_name=name,
                dataset_split=_SPLITS.get(Path(found.get("data") or "").stem),
                metric_type=metric,
                metric_name=f"{title} of {label}" if label else f"entity {title}",
                metric_value=round(float(row[key]), 6),
                metric_args={"label": label} if label else None,
            )
