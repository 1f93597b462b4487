"""The student: a component with a smaller encoder made of its teacher's, and the teacher's head."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from spacy.language import Language
from spacy.util import get_lang_class, registry, resolve_dot_names
from thinc.api import Config

from ...component.pipelines import find_component, is_bert_crf, load_pipeline
from ...component.settings import Settings
from ...encoder.hf import LoadedEncoder
from ...encoder.smaller.inner_channels import (
    check_inner_width,
    inner_width_of,
    with_inner_width,
)
from ...encoder.smaller.layers import EVEN, chosen_layers, count_layers, with_layers
from ...errors import BertCrfError
from ...model import layers as model_layers
from .settings import Distillation

if TYPE_CHECKING:
    from ...component.pipe import BertCrf

#: Name of the callback that makes the student of a blank component.
STUDENT = "spacy_bert_crf.student.v1"
_ENCODER = "spacy_bert_crf.Encoder.v1"
#: A teacher that is loaded already, and its folder.
_HELD: ContextVar[Optional[tuple[Path, Language, "BertCrf"]]] = ContextVar("_HELD", default=None)
#: So many of a training corpus's first texts are read, and so many of these are used.
_FIRST_TEXTS, _TEXTS = 4096, 256
logger = logging.getLogger("spacy_bert_crf.training")


@registry.callbacks(STUDENT)
def create_student(
    teacher: str,
    layers: int,
    then: Optional[Callable[[Language], Any]] = None,
    which_layers: str = EVEN,
    inner_width: int = 0,
) -> Callable[[Language], None]:
    """Create a callback for `[initialize.before_init]` that makes the student.

    The student has the teacher's embeddings, some of its layers, classifier, CRF and labels.

    teacher: folder of the teacher's pipeline.
    layers: number of the student's encoder layers.
    then: a callback to call afterwards.
    which_layers: "even" or "first"; see `chosen_layers`.
    inner_width: number of inner channels of its feed-forward networks, chosen by texts of the
        training corpus; see `with_inner_width`. 0 for all.
    """

    def before_init(nlp: Language) -> None:
        its, source = load_teacher(Path(teacher))
        loaded = encoder_of(source)
        chosen = chosen_layers(layers, n_layers := count_layers(loaded), which_layers)
        head = model_layers.head_of(source.model).module
        state = {key: value.detach().cpu().clone() for key, value in head.state_dict().items()}
        encoder = with_layers(loaded, chosen)
        if inner_width:
            encoder = with_inner_width(encoder, inner_width, training_texts(nlp, its))
        student_of(nlp).adopt(encoder, list(source.labels), state)
        logger.info(
            "the student has the layers %s of the teacher's %d%s: %s parameters instead of %s",
            ", ".join(str(i + 1) for i in chosen), n_layers,
            f", with {inner_width:,} of {inner_width_of(loaded):,} inner channels"
            if inner_width else "",
            f"{encoder.model.num_parameters():,}", f"{loaded.model.num_parameters():,}",
        )  # fmt: skip
        if then is not None:
            then(nlp)

    return before_init


def training_texts(nlp: Language, reader: Language) -> list[str]:
    """Some texts of a pipeline's training corpus.

    nlp: a pipeline that is to be trained by its config.
    reader: a pipeline with the same tokenizer, initialised. That of `nlp` may not be yet.
    RETURNS: up to _TEXTS, evenly taken from its first ones.
    """
    config = nlp.config.interpolate()
    (corpus,) = resolve_dot_names(config, [config["training"]["train_corpus"]])
    texts = [example.reference.text for example in islice(corpus(reader), _FIRST_TEXTS)]
    return texts[:: max(1, math.ceil(len(texts) / _TEXTS))]


def load_teacher(path: Path) -> tuple[Language, "BertCrf"]:
    """A trained pipeline and its component.

    path: folder of the pipeline.
    Raises BertCrfError if it can't be loaded, or has no component with an encoder of this package.
    """
    held = _HELD.get()
    if held is not None and held[0] == path:
        return held[1], held[2]
    nlp = load_pipeline(path)
    try:
        pipe = find_component(nlp)
        encoder_of(pipe)
    except BertCrfError as err:
        raise BertCrfError(f"{path} can't teach: {err}") from err
    return nlp, pipe


@contextmanager
def holding(path: Path, nlp: Language, pipe: "BertCrf") -> Iterator[None]:
    """Within it, `load_teacher` returns this teacher instead of loading it once more.

    path: folder of the teacher's pipeline.
    nlp: the pipeline.
    pipe: its component.
    """
    token = _HELD.set((path, nlp, pipe))
    try:
        yield
    finally:
        _HELD.reset(token)


def encoder_of(pipe: "BertCrf") -> LoadedEncoder:
    """The encoder of a component. Raises BertCrfError if it is not one of this package."""
    encoder = model_layers.encoder_of(pipe.model)
    if encoder is None:
        raise BertCrfError(
            f"its component {pipe.name!r} shares the encoder of another library, or has one. Train "
            f"it with an encoder of its own ({_ENCODER}), or of a component bert_crf_encoder."
        )
    return encoder.loaded


def student_of(nlp: Language) -> "BertCrf":
    """The component of a pipeline that is to learn. Raises BertCrfError if there is not just one.

    nlp: the pipeline, which may have no weights yet.
    """
    found = [pipe for name, pipe in nlp.pipeline if is_bert_crf(nlp, name)]
    if len(found) != 1:
        raise BertCrfError(f"the pipeline has {len(found)} bert_crf components: it must have one.")
    return found[0]


def check_config(
    config: Config, path: Path, nlp: Language, teacher: "BertCrf", settings: Distillation
) -> str:
    """Check that the student of a config can learn from a teacher.

    config: the student's training config.
    path: folder of the teacher's pipeline.
    nlp: the teacher's pipeline.
    teacher: its component.
    settings: those of the distillation.
    RETURNS: the name of the student's component.
    Raises BertCrfError that names what differs, in the teacher and in the config.
    """
    config = config.interpolate()
    name = _student_name(config)
    section = config["components"][name]
    encoder = (section.get("model") or {}).get("tok2vec") or {}
    if encoder.get("@architectures", _ENCODER) != _ENCODER:
        raise BertCrfError(
            f"[components.{name}.model.tok2vec] is a {encoder['@architectures']}: a student has an "
            f"encoder of its own, {_ENCODER}."
        )
    if name in (config["training"].get("frozen_components") or []):
        raise BertCrfError(f"{name!r} is a frozen component: take it off frozen_components.")
    try:
        loaded = encoder_of(teacher)
        chosen_layers(settings.layers, count_layers(loaded))
        check_inner_width(loaded, settings.inner_width)
    except BertCrfError as err:
        raise BertCrfError(f"the student can't be made of {path}: {err}") from err
    its = nlp.config["nlp"]
    _same(path, "[nlp] lang", its["lang"], config["nlp"]["lang"], "--nlp.lang")
    own = config["nlp"].get("tokenizer") or _tokenizer(config["nlp"]["lang"])
    _same(path, "[nlp.tokenizer]", dict(its["tokenizer"]), dict(own), "")
    scheme = section.get("scheme", Settings.scheme)
    key = f"--components.{name}.scheme"
    _same(path, "tag scheme", teacher.settings.scheme, scheme, key)
    labels = (config.get("initialize", {}).get("components", {}).get(name) or {}).get("labels")
    if isinstance(labels, dict):
        labels = registry.resolve({"labels": labels})["labels"]
    if labels is not None:
        _same(path, "labels", list(teacher.labels), list(labels), "")
    return name


def check_labels(student: "BertCrf", teacher: "BertCrf") -> None:
    """Check that a student that was initialised has no label that its teacher lacks.

    Raises BertCrfError naming the labels.
    """
    if new := sorted(set(student.labels) - set(teacher.labels)):
        raise BertCrfError(
            f"the training corpus has the label {', '.join(new)}, which the teacher does not have. "
            f"It has {', '.join(teacher.labels)}. Take it out of the corpus, or learn from gold "
            "only, with a teacher weight of 0."
        )


def _student_name(config: Config) -> str:
    names = [
        name
        for name in config["nlp"].get("pipeline", [])
        if config["components"].get(name, {}).get("factory") == "bert_crf"
    ]
    if len(names) != 1:
        raise BertCrfError(
            f"the config has {len(names)} components of the factory bert_crf: it must have one, "
            "which is not sourced. `spacy bert-crf init-config` makes one that fits."
        )
    return names[0]


def _tokenizer(lang: str) -> dict[str, Any]:
    try:
        return dict(get_lang_class(lang).default_config["nlp"]["tokenizer"])
    except (ImportError, KeyError):
        return {"@tokenizers": "spacy.Tokenizer.v1"}


def _same(path: Path, what: str, its: Any, own: Any, option: str) -> None:
    """Raise BertCrfError unless teacher and student have the same of something."""
    if its == own:
        return
    how = f", for example by the option {option} {its}" if option else ""
    raise BertCrfError(
        f"teacher and student must have the same {what}: {path} has {its!r}, the config has "
        f"{own!r}. Change the config{how}."
    )
