"""Training configs: made for a language, or filled in from a template."""

from pathlib import Path
from typing import Any, Optional

from spacy.util import get_lang_class, load_config, load_model_from_config
from thinc.api import Config

from ..encoder.checkpoint_files import read_json
from ..errors import BertCrfError, first_line

#: What differs from the defaults of spaCy and of the component. Each language fills in the rest.
_TEMPLATE = """
[paths]
train = null
dev = null
labels = null
sources = null

[system]
gpu_allocator = "pytorch"
seed = 0

[nlp]
lang = "en"
pipeline = ["bert_crf"]
batch_size = 512

[components]

[components.bert_crf]
factory = "bert_crf"

[components.bert_crf.model]
@architectures = "spacy_bert_crf.BertCrf.v1"

[components.bert_crf.model.tok2vec]
@architectures = "spacy_bert_crf.Encoder.v1"
name = ""

[training]
dropout = 0.1
patience = 0
max_steps = 0

[training.batcher]
@batchers = "spacy_bert_crf.batch_by_length.v1"
size = 16
buffer = 1024
max_padded = 0

[training.optimizer]
@optimizers = "spacy_bert_crf.AdamW.v1"
encoder_lr = 0.0
head_lr = 0.001
crf_lr = 0.01
weight_decay = 0.01
grad_clip = 1.0
warmup = 0.1
decay = "linear"
total_steps = 0
averaging = 0.98
layer_decay = 0.85
beta1 = 0.9
beta2 = 0.999
eps = 1e-08

[training.logger]
@loggers = "spacy_bert_crf.ProgressLogger.v1"
"""
_LABELS = {
    "@readers": "spacy.read_labels.v1",
    "path": "${paths.labels}",
    "require": False,
}
#: Epochs and batch size for corpora of up to so many sentences.
_BY_SENTENCES = ((100, 30, 4), (250, 20, 8), (1000, 10, 8), (2500, 10, 16), (5000, 5, 16))
_LARGE = (3, 16)
_UNKNOWN = (10, 16)


def make_config(
    *,
    lang: str,
    encoder: str = "",
    scheme: str = "BIOES",
    train: str = "",
    dev: str = "",
    labels: str = "",
    sentences: int = 0,
    settings: Optional[dict[str, Any]] = None,
) -> Config:
    """Make a complete training config for a language.

    The tokenizer is that of the language; for Chinese, characters. The learning rate of the encoder
    follows its width. Epochs and batch size follow the size of the corpus (`schedule`).

    lang: code of the language, such as "en".
    encoder: folder of a Hugging Face encoder; "" to set it later.
    scheme: tag scheme, such as "BIOES".
    train: DocBin of the training corpus; "" to set it later.
    dev: DocBin of the dev corpus; "" to set it later.
    labels: JSON file of the labels; "" for those of the training corpus.
    sentences: number of training texts; 0 if not known.
    settings: further settings as {"section.name": value}. They take precedence.
    RETURNS: the config, not interpolated.
    Raises BertCrfError for an unknown language or one that lacks its tokenizer's library, and for
        settings that do not fit.
    """
    epochs, size = schedule(sentences)
    config = Config().from_str(_TEMPLATE, interpolate=False)
    config["paths"] |= {"train": train or None, "dev": dev or None, "labels": labels or None}
    config["nlp"] |= {"lang": lang, "tokenizer": tokenizer_of(lang)}
    config["components"]["bert_crf"]["scheme"] = scheme
    config["components"]["bert_crf"]["model"]["tok2vec"]["name"] = encoder
    config["training"]["max_epochs"] = epochs
    config["training"]["batcher"]["size"] = size
    if labels:
        config["initialize"] = {"components": {"bert_crf": {"labels": dict(_LABELS)}}}
    config = _filled(config, lang)
    if settings:
        try:
            config = Config().from_str(config.to_str(), overrides=settings, interpolate=False)
        except ValueError as err:
            raise BertCrfError(f"the settings do not fit: {err}") from err
        config = _filled(config, lang)
    return config


def schedule(sentences: int) -> tuple[int, int]:
    """Epochs and batch size for a corpus.

    A small corpus needs more epochs for as many updates, and smaller batches.

    sentences: number of training texts; 0 if not known.
    RETURNS: the number of epochs, and the number of texts in a batch.
    """
    if not sentences:
        return _UNKNOWN
    for most, epochs, size in _BY_SENTENCES:
        if sentences <= most:
            return epochs, size
    return _LARGE


def tokenizer_of(lang: str) -> dict[str, Any]:
    """The section [nlp.tokenizer] for a language.

    It is the language's own tokenizer. For Chinese it gives each character a token of its own.

    lang: code of the language.
    Raises BertCrfError for a code that spaCy does not know.
    """
    try:
        defaults = get_lang_class(lang).default_config
    except ImportError as err:
        raise BertCrfError(
            f"spaCy knows no language {lang!r}: use a code such as en, de, zh, or xx for any."
        ) from err
    section = dict(defaults["nlp"].get("tokenizer") or {"@tokenizers": "spacy.Tokenizer.v1"})
    if lang == "zh":
        section["segmenter"] = "char"
    return section


def fill_config(
    template: Path,
    *,
    encoder: Path,
    train: str,
    dev: str,
    labels: str,
    seed: int,
    max_epochs: int,
    max_steps: int = 0,
    sentences: int = 0,
    encoder_lr: float = 0.0,
    lang: str = "zh",
    settings: Optional[dict[str, Any]] = None,
) -> tuple[Config, dict[str, Any]]:
    """Fill in a template such as configs/bert_crf.cfg.

    template: the config to fill in. Another language than its own replaces its tokenizer.
    encoder: folder of a converted encoder.
    train: DocBin of the training corpus.
    dev: DocBin of the dev corpus.
    labels: JSON file of the labels.
    seed: seed of all random numbers.
    max_epochs: epochs of the training; 0 for no limit, or as `sentences` says.
    max_steps: updates of the training; 0 for no limit.
    sentences: number of training texts. Epochs and batch size follow it (`schedule`) if neither
        max_epochs nor max_steps is set; 0 leaves them.
    encoder_lr: learning rate of the encoder; 0 for a rate by the encoder's width.
    lang: language of the pipeline.
    settings: further settings as {"section.name": value}. They take precedence.
    RETURNS: the config, and the settings that were filled in.
    Raises BertCrfError if the encoder's config.json can't be read, or if a setting does not fit.
    """
    read_json(encoder / "config.json")
    overrides = {
        "nlp.lang": lang,
        "paths.train": train,
        "paths.dev": dev,
        "paths.labels": labels,
        "system.seed": seed,
        "components.bert_crf.model.tok2vec.name": encoder.as_posix(),
        "training.max_epochs": max_epochs,
        "training.max_steps": max_steps,
        "training.optimizer.encoder_lr": encoder_lr,
    }
    if sentences and not (max_epochs or max_steps):
        epochs, size = schedule(sentences)
        overrides |= {"training.max_epochs": epochs, "training.batcher.size": size}
    overrides |= settings or {}
    try:
        own = load_config(template)["nlp"]["lang"]
        config = load_config(template, overrides=overrides)
    except ValueError as err:
        raise BertCrfError(f"the settings do not fit {template}: {err}") from err
    if config["nlp"]["lang"] != own:
        config["nlp"]["tokenizer"] = tokenizer_of(lang)
        config["initialize"].pop("tokenizer", None)
    return config, overrides


def _filled(config: Config, lang: str) -> Config:
    """The config with all defaults of spaCy, the language and the component."""
    try:
        return load_model_from_config(config, auto_fill=True).config
    except ImportError as err:
        raise BertCrfError(
            f"the tokenizer of spaCy's language {lang!r} needs another library. {first_line(err)}"
        ) from err
    except ValueError as err:
        listed = "; ".join(  # A ConfigValidationError prints the whole section too.
            f"{'.'.join(map(str, each.get('loc', ())))}: {each.get('msg')}"
            for each in getattr(err, "errors", [])
        )
        raise BertCrfError(f"the settings do not fit: {listed or first_line(err)}") from err
