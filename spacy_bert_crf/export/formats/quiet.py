"""Keeps libraries from remarking on what is meant to be so."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no log below an error.

    torch.jit and torch.ao are deprecated without a successor that other tools read;
    transformers' Python branches on shapes, which tracing warns of; onnxruntime's quantiser
    advises a preprocessing that changes nothing here.
    """
    loggers = [logging.getLogger(), logging.getLogger("transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
