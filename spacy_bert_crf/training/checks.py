"""Checks before the first epoch: of the tokenizer, the output, the optimizer and the dev corpus."""

import logging
import random
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import srsly
from spacy.language import DEFAULT_CONFIG, Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config, Model
from torch import Tensor, nn

from .._devices import default_device
from .._files import remove_folder
from ..annotation.coverage.table import coverage_table
from ..component.meta.describe import describe
from ..component.pipelines import check_labels, is_bert_crf
from ..errors import BertCrfError, first_line
from ..model.optimizer import GroupedAdamW
from .config import tokenizer_of
from .corpora import corpus_name
from .loggers import check_logger
from .state import FOLDER

logger = logging.getLogger("spacy_bert_crf.training")

#: Languages written without spaces, which spaCy's general tokenizer does not divide.
_WITHOUT_SPACES = ("zh", "ja", "th")
#: Settings of spaCy's own loop that `train` does not use, and what it does instead.
_UNUSED = {"eval_frequency": "the pipeline is evaluated at the end of every epoch"}


@contextmanager
def same_random() -> Iterator[None]:
    """Restore Python's random state at the end of the block."""
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)


def check_start(config: Config, output: Path, resume: bool, overwrite: bool) -> None:
    """Check all that can be checked before a corpus or an encoder is read.

    config: the training config.
    output, resume, overwrite: as for `train`.
    Raises BertCrfError for a tokenizer, a logger or an output that can't be used.
    """
    check_tokenizer(config.get("nlp", {}))
    check_logger(config.get("training", {}).get("logger"))
    check_output(output, resume, overwrite)
    read_sources(config)


def read_sources(config: Config) -> list[dict[str, str]]:
    """Origin and licence of the training texts, from the JSON file that `paths.sources` names.

    The file holds a list of objects with `name`, and with `url`, `author` and `license` where they
    are known. These are the `sources` of spaCy's meta.json.

    config: the training config.
    RETURNS: the list; empty where no file is named.
    Raises BertCrfError for a file that can't be read.
    """
    path = config.interpolate().get("paths", {}).get("sources")
    if not path:
        return []
    try:
        sources = srsly.read_json(path)
    except (OSError, ValueError) as err:
        raise BertCrfError(
            f"can't read {path}, the setting paths.sources ({first_line(err)}). Name a JSON file, "
            "or set it to null."
        ) from err
    for source in sources if isinstance(sources, list) else [None]:
        if (
            not isinstance(source, dict)
            or not source.get("name")
            or not all(isinstance(value, str) for value in source.values())
        ):
            raise BertCrfError(
                f'{path}: {source!r} is no source. Write a list of {{"name": …, "license": …}}.'
            )
    return list(sources)


def record_description(nlp: Language, config: Config) -> None:
    """Write name, description, encoders and sources to the meta.json of a pipeline in training.

    nlp: the pipeline, initialised.
    config: its training config.
    """
    describe(nlp, read_sources(config))


def check_tokenizer(settings: dict[str, Any]) -> None:
    """Check that the tokenizer of a config suits its language.

    settings: the section [nlp].
    Raises BertCrfError for the tokenizer of another language, which names both.
    """
    lang = settings.get("lang")
    name = (settings.get("tokenizer") or {}).get("@tokenizers", "")
    own = re.fullmatch(r"spacy\.([a-z]+)\.\w+", name)
    other = own is not None and own[1] != lang and lang != "xx"
    general = name == "spacy.Tokenizer.v1" and lang in _WITHOUT_SPACES
    if not isinstance(lang, str) or not (other or general):
        return
    section = "".join(f'  {key} = "{value}"\n' for key, value in tokenizer_of(lang).items())
    whose = f"is that of the language {own[1]!r}" if own else "divides text at spaces"
    raise BertCrfError(
        f"[nlp] lang = {lang!r}, but its tokenizer {name} {whose}. Set lang to the language of the "
        f"corpus, or set the tokenizer:\n  [nlp.tokenizer]\n{section}"
        f"`spacy bert-crf init-config --lang {lang}` makes a config that fits."
    )


def check_output(output: Path, resume: bool, overwrite: bool) -> None:
    """Check that a new training does not replace an interrupted one unasked.

    output: folder of the training.
    resume: whether the training goes on from the state there.
    overwrite: remove the state there.
    Raises BertCrfError if a state is there, and neither is set.
    """
    state = output / FOLDER
    if resume or not state.is_dir():
        return
    if not overwrite:
        raise BertCrfError(
            f"{output} holds an interrupted training: go on with --resume, or start anew with "
            "--overwrite."
        )
    remove_folder(state)


def check_quantize(nlp: Language) -> None:
    """Check that no component predicts in 8-bit integers on a GPU, which would end the first epoch.

    nlp: the pipeline, initialised.
    Raises BertCrfError naming the component.
    """
    device = default_device()
    for name, pipe in nlp.pipeline:
        if is_bert_crf(nlp, name) and pipe.quantize and device.type != "cpu":
            raise BertCrfError(
                f"[components.{name}] quantize = {pipe.quantize!r} runs on the CPU, and this "
                f'training is on {device}: set quantize = "", or train with --gpu-id -1.'
            )


def choose_rates(nlp: Language, optimizer: Any, frozen: list[str]) -> None:
    """Let the optimizer choose the learning rates of all encoders that learn.

    nlp: the pipeline, initialised.
    optimizer: nothing is done for one that is no GroupedAdamW.
    frozen: components that do not learn.
    """
    if isinstance(optimizer, GroupedAdamW):
        optimizer.meet(_parameters(nlp, frozen))


def _parameters(nlp: Language, frozen: list[str]) -> Iterator[tuple[tuple[int, str], Tensor]]:
    for name, pipe in nlp.pipeline:
        model = getattr(pipe, "model", None)
        if name in frozen or not isinstance(model, Model):
            continue
        for layer in model.walk():
            if layer.attrs.get("grad_factor") == 0:
                continue
            for shim in layer.shims:
                module = getattr(shim, "_model", None)
                if isinstance(module, nn.Module):
                    for key, value in module.named_parameters():
                        yield (shim.id, key), value


def warn_unused(settings: dict[str, Any]) -> None:
    """Warn of each setting in [training] that was changed and has no effect on `train`.

    settings: the section [training]. spaCy writes its defaults to every config, so a setting that
        has its default is not warned about.
    """
    for name, instead in _UNUSED.items():
        if settings.get(name) != DEFAULT_CONFIG["training"][name]:
            warnings.warn(
                f"[training] {name} = {settings.get(name)!r} has no effect: {instead}.",
                stacklevel=2,
            )


def warn_section(config: Config, is_used: bool) -> None:
    """Warn of a section [distillation] that has no effect on a training without a teacher."""
    if "distillation" in config and not is_used:
        warnings.warn(
            "the section [distillation] has no effect on `train`: run `spacy bert-crf distill`.",
            stacklevel=3,
        )


def can_keep_state(optimizer: Any) -> bool:
    """Whether the state of an optimizer can be saved. Warns if it can't."""
    if isinstance(optimizer, GroupedAdamW):
        return True
    warnings.warn(
        f"the state of a {type(optimizer).__name__} can't be saved, so an interrupted training "
        "can't go on: use the optimizer spacy_bert_crf.AdamW.v1.",
        stacklevel=3,
    )
    return False


def check_corpora(nlp: Language, train: list[Example], dev: list[Example]) -> None:
    """Check the dev corpus as `check_dev` does, and show what corpora cover if some do in part.

    nlp: the pipeline in training.
    train: the training examples; none where they are streamed.
    dev: the examples of the dev corpus.
    """
    check_dev(nlp, [example.reference for example in dev])
    named = [("train", train), ("dev", dev)]
    rows = [(corpus_name(each, part), each.reference) for part, some in named for each in some]
    if table := coverage_table(rows):
        logger.info("entities by label (-: not annotated there)\n%s", table)


def check_dev(nlp: Language, docs: list[Doc]) -> None:
    """Check that the dev corpus can be scored.

    nlp: the pipeline in training.
    docs: the annotated docs of the dev corpus.
    Warns of labels that the pipeline does not have.
    Raises BertCrfError if nothing can be scored: no docs, no annotation, or no known label.
    """
    if not docs:
        raise BertCrfError("the dev corpus has no examples: check [corpora.dev] and its path.")
    if not any(is_bert_crf(nlp, name) for name in nlp.pipe_names):
        return
    if not any(doc.has_annotation("ENT_IOB") for doc in docs):
        raise BertCrfError(
            "no doc of the dev corpus has entity annotation, so that no epoch can be scored "
            "(doc.ents must be set, to [] where there is none)."
        )
    check_labels(nlp, docs, "the dev corpus")
