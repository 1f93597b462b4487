"""Trains a smaller student on gold and on what a trained pipeline, its teacher, says of texts."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from spacy.language import Language
from spacy.training import Example
from thinc.api import Config

from ..._devices import use_device
from ...errors import BertCrfError, first_line
from ..checks import check_start
from ..state import hash_of
from .settings import SECTION, Distillation
from .student import STUDENT, check_config, check_labels, holding, load_teacher, student_of
from .teacher import Teacher
from .texts import add_texts, read_texts

#: No batch is likely to have more texts.
_TEXTS_OF_AN_UPDATE = 256
#: A warning that does not hold here: texts without gold train the student.
_NO_GOLD = r".* training texts have no entity annotation and train nothing"
logger = logging.getLogger("spacy_bert_crf.training")


def distill(
    teacher: Path,
    config: Config,
    output: Path,
    *,
    settings: Optional[Mapping[str, Any]] = None,
    use_gpu: int = -1,
    resume: bool = False,
    keep_state: bool = True,
    save_minutes: float = 10.0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a student with fewer layers to have the distribution of its teacher's CRF.

    The student begins with some layers of the teacher's encoder, and with its embeddings,
    classifier and CRF. It learns from gold where there is gold, and from the teacher on all texts.
    The rest is as in `train`. The student does not need the teacher afterwards.

    teacher: folder of a trained pipeline whose component has an encoder of its own.
    config: a training config, not interpolated. Language, tokenizer, tag scheme and labels must be
        the teacher's. The name of its encoder is not used. [distillation] may have settings.
    output: folder for `model-best`, `model-last` and `history.json`.
    settings: settings of `Distillation`, which take precedence over those of the config.
    use_gpu: number of a GPU, -1 for the CPU.
    resume: go on from the state under `output`, if there is one.
    keep_state: save a state at each evaluation and every `save_minutes`.
    save_minutes: minutes between two saved states.
    overwrite: start anew where `output` holds an interrupted training.
    RETURNS: the history, as `train` does.
    Raises BertCrfError for a teacher, config, text file or setting that can't be used, and as
        `train` does.
    """
    from ..loop import train  # the longest chain of imports begins here

    try:
        own = Distillation.of(config.interpolate().get(SECTION, {}), settings or {})
        check_start(config, output, resume, overwrite)
        use_device(use_gpu)
        nlp, pipe = load_teacher(teacher)
        name = check_config(config, teacher, nlp, pipe, own)
        digest = hash_of(teacher / pipe.name)
        changed = student_config(config, own, name, teacher.as_posix(), digest)
    except BertCrfError:
        raise
    except (ValueError, KeyError) as err:  # of a section or a variable that is missing
        raise BertCrfError(f"the config can't be used: {first_line(err)}") from err
    if own.teacher_quantize and use_gpu >= 0:
        raise BertCrfError(
            f"[{SECTION}] teacher_quantize = {own.teacher_quantize!r} runs on the CPU: leave it "
            "out, or train with --gpu-id -1."
        )
    if own.texts:
        read_texts(Path(own.texts))

    def begin(nlp: Language, examples: list[Example]) -> None:
        if not own.teacher_weight:
            return
        student = student_of(nlp)
        check_labels(student, pipe)
        student.teacher = expert = Teacher(pipe, own, student.settings.constrain_training)
        training = nlp.config.interpolate()["training"]
        # A training of few updates takes few of the texts. The teacher reads those as they come,
        # as it does where components before the student may change the docs of each batch.
        is_short = 0 < training["max_steps"] * _TEXTS_OF_AN_UPDATE < len(examples)
        if examples and not is_short and not training["annotating_components"]:
            expert.read(examples)

    with warnings.catch_warnings(), holding(teacher, nlp, pipe):
        if own.teacher_weight:
            warnings.filterwarnings("ignore", message=_NO_GOLD)
        return train(
            changed, output, use_gpu=use_gpu, resume=resume, keep_state=keep_state,
            save_minutes=save_minutes, overwrite=overwrite,
            begin=begin,
        )  # fmt: skip


def student_config(
    config: Config, settings: Distillation, name: str, teacher: str, digest: str
) -> Config:
    """The training config of a student.

    config: the config that was given, which stays as it is.
    settings: the settings of the distillation.
    name: name of the student's component.
    teacher: folder of the teacher's pipeline.
    digest: SHA-256 of the files of its component.
    """
    config = config.copy()
    config[SECTION] = settings.section(teacher, digest)
    encoder = config["components"][name].setdefault("model", {}).setdefault("tok2vec", {})
    if encoder.get("frozen_layers"):  # those of the teacher's training
        encoder["frozen_layers"] = 0
    encoder["name"] = ""
    start: dict[str, Any] = {"@callbacks": STUDENT, "teacher": teacher, "layers": settings.layers}
    start |= {"which_layers": settings.which_layers, "inner_width": settings.inner_width}
    initialize = config.setdefault("initialize", {})
    then = initialize.get("before_init")
    if then and then.get("@callbacks") == STUDENT:  # the config of an earlier distillation
        then = then.get("then")
    initialize["before_init"] = {**start, "then": then} if then else start
    add_texts(config, settings.texts)
    return config
