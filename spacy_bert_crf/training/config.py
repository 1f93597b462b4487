"""Fill in a training config for an encoder, a corpus and its labels."""

from pathlib import Path
from typing import Any, Optional

from spacy.util import load_config
from thinc.api import Config

from ..encoder.checkpoint_files import read_json
from ..errors import BertCrfError
from ..model.parameter_groups import suggested_encoder_lr


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
    encoder_lr: float = 0.0,
    lang: str = "zh",
    settings: Optional[dict[str, Any]] = None,
) -> tuple[Config, dict[str, Any]]:
    """Fill in a training config.

    template: a config such as configs/bert_crf.cfg.
    encoder: folder of a converted encoder.
    train: DocBin of the training corpus.
    dev: DocBin of the dev corpus.
    labels: JSON file of the labels.
    seed: seed of all random numbers.
    max_epochs: epochs of the training; 0 for no limit.
    max_steps: updates of the training; 0 for no limit.
    encoder_lr: learning rate of the encoder; 0 to derive it from the encoder's width.
    lang: language of the pipeline.
    settings: further settings as {"section.name": value}. They take precedence.
    RETURNS: the config, and the settings that were filled in.
    Raises BertCrfError if the encoder's config.json can't be used, or if a setting does not fit.
    """
    width = read_json(encoder / "config.json")["hidden_size"]
    overrides = {
        "nlp.lang": lang,
        "paths.train": train,
        "paths.dev": dev,
        "paths.labels": labels,
        "system.seed": seed,
        "components.bert_crf.model.tok2vec.name": encoder.as_posix(),
        "training.max_epochs": max_epochs,
        "training.max_steps": max_steps,
        "training.optimizer.encoder_lr": encoder_lr or suggested_encoder_lr(width),
        **(settings or {}),
    }
    try:
        return load_config(template, overrides=overrides), overrides
    except ValueError as err:
        raise BertCrfError(f"the settings do not fit {template}: {err}") from err
