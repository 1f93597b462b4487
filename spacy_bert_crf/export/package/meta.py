"""Completes the meta.json of a trained pipeline before it is handed on."""

from typing import Any, Optional

from packaging.version import Version
from spacy.language import Language

from ... import __version__
from ..._provenance import META
from ...component.meta.encoders import describe_encoders
from ...component.meta.keys import is_encoder
from ...component.pipelines import is_bert_crf
from .about import About

#: What tokenizers need beside spaCy: by their names, and for Chinese by the segmenter.
_TOKENIZERS = {
    "spacy.ja.JapaneseTokenizer": "spacy[ja]",
    "spacy.ko.KoreanTokenizer": "spacy[ko]",
    "spacy.th.ThaiTokenizer": "spacy[th]",
    "spacy.vi.VietnameseTokenizer": "pyvi",
}
_SEGMENTERS = {"jieba": "jieba", "pkuseg": "spacy-pkuseg"}


def complete_meta(
    nlp: Language, about: About, metrics: Optional[dict[str, Any]] = None
) -> dict[str, Any]:
    """The meta.json of a pipeline with all that a reader of the package needs.

    nlp: a trained pipeline.
    about: what its maker says. Where that is nothing, what the meta.json has stays.
    metrics: the content of metrics.json, as `evaluate` writes it. Without it, `performance` stays
        what the training measured on dev.
    RETURNS: the keys of spaCy's meta.json. `sources` has the encoders too, marked by `part`. The
        key `spacy_bert_crf` has the encoders' sizes and the texts of the model card.
    """
    meta = dict(nlp.meta)
    meta["name"] = (about.name or meta["name"]).removeprefix(f"{meta['lang']}_")
    for key in ("version", "description", "author", "email", "url", "license"):
        meta[key] = getattr(about, key) or meta.get(key, "")
    encoders, meta["sources"] = describe_encoders(nlp)
    if metrics and "ents_f" in metrics:
        meta["performance"] = _performance(metrics)
    meta["requirements"] = requirements(nlp)
    own = meta.get(META) or {}
    card = {**(own.get("card") or {}), **{k: v for k, v in _card(nlp, about).items() if v}}
    meta[META] = {**own, "encoders": encoders, "card": card}
    return meta


def _card(nlp: Language, about: About) -> dict[str, Any]:
    """What the maker says for the model card."""
    example = None
    if about.example:
        found = [[ent.text, ent.label_] for ent in nlp(about.example).ents]
        example = {"text": about.example, "entities": found}
    return {
        "purpose": about.purpose,
        "labels": {label: text for label, text in about.labels.items() if text},
        "scored_on": about.scored_on,
        "limits": about.limits,
        "example": example,
        "base_model": about.base_model,
        "datasets": about.datasets,
        "emissions": about.emissions,
    }


def requirements(nlp: Language) -> list[str]:
    """What the package of a pipeline needs from pip, beside spaCy.

    spaCy adds packages of other components. A pipeline loads with all later versions of this
    package up to the next major one.
    """
    found = []
    if any(is_bert_crf(nlp, name) for name in nlp.component_names):
        version = Version(__version__)
        found.append(f"spacy-bert-crf>={version.base_version},<{version.major + 1}")
    tokenizer = nlp.config["nlp"]["tokenizer"]
    needed = _TOKENIZERS.get(tokenizer.get("@tokenizers", ""))
    if needed is None:
        needed = _SEGMENTERS.get(tokenizer.get("segmenter", ""))
    return [*found, *([needed] if needed else [])]


def gaps(meta: dict[str, Any]) -> list[str]:
    """What a reader of a meta.json would miss, a line for each."""
    named = {
        "description": "what the pipeline does",
        "author": "who made it",
        "license": "under which licence it may be used",
    }
    lines = [f"{key} is empty: {what}" for key, what in named.items() if not meta.get(key)]
    if all(is_encoder(source) for source in meta["sources"]):
        lines.append("no source of the training texts is known (the setting paths.sources)")
    lines += [
        f"the licence of a source is not known: {source['name']}"
        for source in meta["sources"]
        if not source.get("license")
    ]
    return lines


def _performance(metrics: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {key: metrics[key] for key in ("ents_p", "ents_r", "ents_f")}
    out["ents_per_type"] = {
        label: {key: row[key] for key in ("p", "r", "f")}
        for label, row in (metrics.get("ents_per_type") or {}).items()
    }
    return out
