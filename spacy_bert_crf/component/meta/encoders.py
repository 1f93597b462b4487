"""The encoders of a pipeline, as its meta.json describes them."""

from collections.abc import Iterator
from typing import Any

from spacy.language import Language

from ...errors import BertCrfError
from ..pipelines import find_component, find_encoder, is_bert_crf
from .keys import ENCODER, PART, text_sources

#: What says where an encoder comes from, in the config.json of its checkpoint.
_SOURCE = ("origin", "license")


def describe_encoders(nlp: Language) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Sizes of the encoder of each bert_crf, and the sources of the pipeline. A shared one is once.

    nlp: a pipeline with weights.
    RETURNS: a dict for each encoder, and the sources of the training texts and of the encoders.
    """
    found = list(_encoders(nlp))
    origins = []
    for one in found:
        if one["origin"]:
            known = {"license": one["license"]} if one["license"] else {}
            origins.append({"name": one["origin"], **known, PART: ENCODER})
    sizes = [{k: v for k, v in one.items() if k not in _SOURCE} for one in found]
    return sizes, [*text_sources(nlp.meta), *origins]


def _encoders(nlp: Language) -> Iterator[dict[str, Any]]:
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
