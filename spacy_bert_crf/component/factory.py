"""The factory `bert_crf`: its default config, and its signature made from the settings."""

import inspect
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any, Optional

from spacy.language import Language
from thinc.api import Config, Model

from .pipe import BertCrf
from .settings import Settings

_MODEL = """
[model]
@architectures = "spacy_bert_crf.BertCrf.v1"

[model.tok2vec]
@architectures = "spacy_bert_crf.Encoder.v1"
name = ""
tokenizer_config = {"use_fast": true}
transformer_config = {}
grad_factor = 1.0
mixed_precision = "auto"
grad_scaler_config = {}
max_length = 0
overlap = 128
context = "auto"
batch_pieces = 0
allow_download = false
adversarial = 0.0
frozen_layers = 0
get_spans = null
pooling = null

[scorer]
@scorers = "spacy.ner_scorer.v1"
"""


def default_config() -> dict[str, Any]:
    """All settings with their defaults, the scorer and the model."""
    return {**asdict(Settings()), **Config().from_str(_MODEL)}


def make_bert_crf(
    nlp: Language, name: str, model: Model, scorer: Optional[Callable[..., Any]], **settings: Any
) -> BertCrf:
    """Create the component; see Settings."""
    return BertCrf(nlp.vocab, model, name, scorer=scorer, **settings)


def _signature() -> inspect.Signature:
    """The signature of the factory with each setting as an argument of its type.

    spaCy reads it to check a config and to fill it.
    """
    own = list(inspect.signature(make_bert_crf).parameters.values())[:-1]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [*own, *(inspect.Parameter(f.name, keyword, annotation=f.type) for f in fields(Settings))]
    )


make_bert_crf.__signature__ = _signature()  # type: ignore[attr-defined]
Language.factory(
    "bert_crf",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config=default_config(),
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
    func=make_bert_crf,
)
