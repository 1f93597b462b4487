"""Completes the meta.json of a trained pipeline before it is handed on."""

from collections.abc import Iterator
from typing import Any, Optional

from packaging.version import Version
from spacy.language import Language

from ... import __version__
from ..._provenance import META
from ...component.pipelines import find_component, find_encoder, is_bert_crf
from ...errors import BertCrfError
from .about import About
from .keys import ENCODER, PART, is_encoder

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
    about: what its maker says.
    metrics: the content of metrics.json, as `evaluate` writes it. Without it, `performance` stays
        what the training measured on dev.
    RETURNS: the keys of spaCy's meta.json. `sources` has the encoders too, marked by `part`. The
        key `spacy_bert_crf` has the encoders' sizes and the texts of the model card.
    """
    meta = dict(nlp.meta)
    meta["name"] = (about.name or meta["name"]).removeprefix(f"{meta['lang']}_")
    for key in ("version", "description", "author", "email", "url", "license"):
        meta[key] = getattr(about, key) or meta.get(key, "")
    encoders = list(_encoders(nlp))
    named = [s if isinstance(s, dict) else {"name": s} for s in meta.get("sources") or []]
    meta["sources"] = [*(s for s in named if not is_encoder(s)), *_sources(encoders)]
    if metrics and "ents_f" in metrics:
        meta["performance"] = _performance(metrics)
    meta["requirements"] = requirements(nlp)
    entities = [[ent.text, ent.label_] for ent in nlp(about.example).ents] if about.example else []
    meta[META] = {
        **(meta.get(META) or {}),
        "encoders": [{k: v for k, v in one.items() if k not in _SOURCE} for one in encoders],
        "card": {
            "purpose": about.purpose,
            "labels": {label: text for label, text in about.labels.items() if text},
            "scored_on": about.scored_on,
            "limits": about.limits,
            "example": {"text": about.example, "entities": entities} if about.example else None,
        },
    }
    return meta


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


#: What says where an encoder comes from, in the config.json of its checkpoint.
_SOURCE = ("origin", "license")


def _encoders(nlp: Language) -> Iterator[dict[str, Any]]:
    """Sizes and origin of the encoder of each bert_crf; a shared one comes once."""
    seen = set()
    for name in nlp.component_names:
        if not is_bert_crf(nlp, name):
            continue
        try:
            pipe = find_component(nlp, name)
            model = find_encoder(nlp, pipe).model
        except BertCrfError:  # no Hugging Face encoder, or a component that is disabled
            continue
        if id(model) in seen:
            continue
        seen.add(id(model))
        config = model.config
        yield {
            "component": name,
            "model_type": config.model_type,
            "layers": getattr(config, "num_hidden_layers", None),
            "width": getattr(config, "hidden_size", None),
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "quantize": pipe.quantize,
            "scheme": pipe.scheme,
            **{key: getattr(config, key, None) or "" for key in _SOURCE},
        }


def _sources(encoders: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    for one in encoders:
        if one["origin"]:
            known = {"license": one["license"]} if one["license"] else {}
            yield {"name": one["origin"], **known, PART: ENCODER}


def _performance(metrics: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {key: metrics[key] for key in ("ents_p", "ents_r", "ents_f")}
    out["ents_per_type"] = {
        label: {key: row[key] for key in ("p", "r", "f")}
        for label, row in (metrics.get("ents_per_type") or {}).items()
    }
    return out
