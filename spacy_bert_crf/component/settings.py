"""The settings of the component: their names, defaults and checks, in one place.

To add a setting, add a field to `Settings` with its line in the docstring. The factory's signature
and its default config are made from the fields, and the component has each field as an attribute.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import srsly

from ..annotation.schemes import TagSet
from ..errors import BertCrfError, first_line
from ..model.weights_file import NAME as WEIGHTS_FILE
from ..model.weights_file import WeightsFileError
from .score_map import SCORE_MAP

C = TypeVar("C", bound=type)

#: Settings that belong to the trained weights. They are kept in the component's `cfg`.
KEPT = ("threshold", "temperature")
#: Key of the cfg that holds the configured values of these settings at the time of saving.
_CONFIGURED = "given"


@dataclass(eq=False)
class Settings:
    """The settings of a `bert_crf` component.

    scheme: tag scheme, one of BIO, BIOES, BMES, BILUO.
    constraints: decoding leaves out transitions that the scheme forbids.
    constrain_training: the likelihood leaves them out as well.
    whole_words: no entity begins or ends inside a word of Latin letters or digits, such as CEO or
        COVID-19, where a token is one character. It has no effect without `constraints`. The
        likelihood keeps to it under `constrain_training`, except in docs whose gold does not.
    transitions_from_counts: the scores of a new CRF are the log frequencies of tags that follow
        one another in the training examples. Otherwise they are random.
    annotated_share: the share of entities that is annotated, in docs annotated in part. An entity
        among their unknown tokens then has a weight of one minus this. 0 gives it full weight.
    self_distillation: where a text does not cover labels that a former model of the component
        knows, the weight of learning from that model, from 0 to 1. The rest is the weight of
        gold. It has no effect before the component learns more; see `remember`.
    former_share: where a former model stood in, evaluated and saved weights of the own encoder go
        back to its weights by this share of the way, from 0 to 1. The optimizer must average.
    overwrite: predicted entities replace those that are on the doc. Otherwise those stay.
    quantize: "int8" predicts with the own encoder's linear layers in 8-bit integers, on a CPU.
        Training and saving stay in float32. "" predicts in float32.
    constrain_to_ents: where entities stay on the doc, decoding keeps to them exactly, as in spaCy's
        `ner`. Otherwise the doc is decoded freely, and entities that overlap them are dropped.
    scores: write probabilities to the Doc. Those of entities go to `doc.spans[name]`, under
        attrs["scores"]. Those of the doc go to `doc._.<name>_log_probability` and
        `doc._.<name>_entropy`.
    score_extension: with scores, `span._.<this>` is the probability of an entity. "" for none.
        An extension of another kind that has the name already stays as it is.
    candidates: smallest probability of further entities, which are written to
        `doc.spans["<name>_candidates"]`. 0 for none.
    threshold: smallest probability of entities in `doc.ents`. 0 for all. Kept in `cfg`.
    temperature: emissions and transitions are divided by it before probabilities are computed.
        The best entities do not depend on it. Kept in `cfg`.

    Raises BertCrfError for a value out of range, when the setting is made and when it is changed.
    """

    scheme: str = "BIOES"
    constraints: bool = True
    constrain_training: bool = False
    whole_words: bool = True
    transitions_from_counts: bool = True
    annotated_share: float = 0.0
    self_distillation: float = 0.5
    former_share: float = 0.15
    overwrite: bool = False
    quantize: str = ""
    constrain_to_ents: bool = True
    scores: bool = False
    score_extension: str = "score"
    candidates: float = 0.0
    threshold: float = 0.0
    temperature: float = 1.0

    def __setattr__(self, name: str, value: Any) -> None:
        check = _CHECKS.get(name)
        object.__setattr__(self, name, value if check is None else check(name, value))


def _scheme(name: str, value: Any) -> str:
    return TagSet((), value).scheme  # raises for an unknown one


def _number(fits: Callable[[float], bool], needed: str) -> Callable[[str, Any], float]:
    """A check that gives the value of a setting as a float.

    fits: whether a number is in the range of the setting.
    needed: the range in words, for the message.
    """

    def check(name: str, value: Any) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not fits(value):
            raise BertCrfError(f"{name} is {value!r}: it must be {needed}.")
        return float(value)

    return check


_probability = _number(lambda value: 0 <= value <= 1, "from 0 to 1")
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "scheme": _scheme,
    "annotated_share": _number(lambda value: 0 <= value < 1, "0 or more, and below 1"),
    "self_distillation": _probability,
    "former_share": _probability,
    "candidates": _probability,
    "threshold": _probability,
    "temperature": _number(lambda value: 0 < value < math.inf, "above 0"),
}


def encoder_config() -> dict[str, Any]:
    """The config of an encoder, `spacy_bert_crf.Encoder.v1`, with the default of each setting."""
    return {
        "@architectures": "spacy_bert_crf.Encoder.v1",
        "name": "",
        "tokenizer_config": {"use_fast": True},
        "transformer_config": {},
        "grad_factor": 1.0,
        "mixed_precision": "auto",
        "grad_scaler_config": {},
        "max_length": 0,
        "overlap": 128,
        "context": "auto",
        "batch_pieces": 0,
        "allow_download": False,
        "adversarial": 0.0,
        "frozen_layers": 0,
        "get_spans": None,
        "pooling": None,
    }


def has_settings(cls: C) -> C:
    """Give a component an attribute for each setting, read and changed in its `settings`.

    What the class defines itself stays as it is.
    """
    for field in fields(Settings):
        if field.name not in vars(cls):
            setattr(cls, field.name, _attribute(field.name))
    return cls


def _attribute(name: str) -> property:
    kept = name in KEPT

    def read(pipe: Any) -> Any:
        if not kept:
            return getattr(pipe.settings, name)
        with named(pipe.name):
            return _CHECKS[name](name, pipe.cfg.get(name, getattr(Settings, name)))

    def change(pipe: Any, value: Any) -> None:
        with named(pipe.name):
            if kept:
                pipe.cfg[name] = _CHECKS[name](name, value)
            else:
                setattr(pipe.settings, name, value)
        if name == "temperature" and pipe.cfg.pop(SCORE_MAP, None) is not None:
            warnings.warn(
                f"[{pipe.name}] the correction that calibrate fitted with another temperature is "
                "left out. Calibrate again.",
                stacklevel=2,
            )
        pipe.register_extensions()

    return property(read, change, doc=f"The setting {name}; see Settings. May be changed.")


@contextmanager
def named(component: str) -> Iterator[None]:
    """Put the name of the component before the message of an error about its settings."""
    try:
        yield
    except BertCrfError as err:
        raise BertCrfError(f"[{component}] {err}") from err


def merge_kept(cfg: dict[str, Any], settings: Settings) -> None:
    """Settle the kept settings of a cfg that was loaded beside a config.

    The cfg holds the values in force when it was saved, and the configured values of that time. A
    configured value that differs now was changed at load, and takes precedence.

    cfg: the component's cfg, which is changed.
    settings: the configured settings.
    """
    before = cfg.get(_CONFIGURED, {})
    for name in KEPT:
        configured = getattr(settings, name)
        if name not in cfg or before.get(name, getattr(Settings, name)) != configured:
            changed = name == "temperature" and cfg.get(name) != configured
            if changed and cfg.pop(SCORE_MAP, None) is not None:
                warnings.warn(
                    f"the config sets temperature = {configured:g}: the correction that calibrate "
                    "fitted with another one is left out. Calibrate again.",
                    stacklevel=4,
                )
            cfg[name] = configured
    cfg[_CONFIGURED] = {name: getattr(settings, name) for name in KEPT}


@contextmanager
def damaged_component(component: str, folder: Path) -> Iterator[None]:
    """Name the file of a component's folder that an error in loading it is about.

    Raises BertCrfError for any error: what a damaged file raises depends on where it is damaged.
    """
    try:
        yield
    except Exception as err:
        file = folder / ("cfg" if _is_damaged_cfg(folder / "cfg") else "model")
        if isinstance(err, WeightsFileError):
            file = folder / WEIGHTS_FILE
        reason = first_line(err).rstrip(".")
        raise BertCrfError(
            f"[{component}] {file} is damaged: {reason}. Use another copy of the pipeline."
        ) from err


def _is_damaged_cfg(path: Path) -> bool:
    """Whether the file can't be the `cfg` of a component, whose labels are a list if it has any."""
    try:
        labels = srsly.read_json(path).get("labels", [])
    except Exception:
        return True
    return not isinstance(labels, list) or not all(isinstance(label, str) for label in labels)
