"""Loggers of `[training.logger]`: a check before the training, and one for TensorBoard.

They follow spaCy's protocol: set up once, called after each update, finalized once.
"""

import sys
from collections.abc import Callable, Iterator
from typing import IO, Any, Optional

from spacy.language import Language
from spacy.util import registry

from ..errors import BertCrfError, first_line
from .progress import Finalize, LogStep, create_progress_logger


@registry.loggers("spacy_bert_crf.TensorBoardLogger.v1")
def create_tensorboard_logger(
    log_dir: str = "runs", progress: bool = True
) -> Callable[..., tuple[LogStep, Finalize]]:
    """A logger for `[training.logger]` that writes each evaluation for TensorBoard.

    It writes `score`, `loss/COMPONENT` and each number among the scores, such as `scores/ents_f`
    and `scores/ents_per_type/LOC/f`. The step is the number of updates. The config is its text.

    log_dir: folder of the event files. `tensorboard --logdir` shows them.
    progress: show the progress as `spacy_bert_crf.ProgressLogger.v1` does too.
    Raises ImportError without the library tensorboard, the extra [tensorboard].
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as err:
        raise ImportError(
            "the library tensorboard is not installed: pip install tensorboard"
        ) from err

    def setup_logger(
        nlp: Language, stdout: IO[str] = sys.stdout, stderr: IO[str] = sys.stderr
    ) -> tuple[LogStep, Finalize]:
        writer: Any = SummaryWriter(log_dir)  # type: ignore[no-untyped-call]
        writer.add_text("config", f"```\n{nlp.config.to_str()}\n```")
        shown = create_progress_logger()(nlp, stdout, stderr) if progress else None

        def log_step(info: Optional[dict[str, Any]]) -> None:
            if shown:
                shown[0](info)
            if info is None:
                return
            values = {"score": info["score"], "loss": info["losses"]}
            for name, value in _numbers({**values, "scores": info["other_scores"]}):
                writer.add_scalar(name, value, info["step"] + 1)  # spaCy counts from 0
            writer.flush()

        def finalize() -> None:
            writer.close()
            if shown:
                shown[1]()

        return log_step, finalize

    return setup_logger


def check_logger(section: Any) -> None:
    """Check that the logger of a config can be made, before anything is read.

    section: the section [training.logger]; None for the default.
    Raises BertCrfError if its library is missing, or if there is no such logger.
    """
    if not section:
        return
    try:
        registry.resolve({"logger": section})
    except ImportError as err:
        raise BertCrfError(
            f"[training.logger] {section.get('@loggers')} can't be used, because its library is "
            f"missing: {first_line(err)}"
        ) from err
    except ValueError as err:
        raise BertCrfError(f"[training.logger] can't be used: {first_line(err)}") from err


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested dicts, by their names joined with "/"."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{key}", float(value)
