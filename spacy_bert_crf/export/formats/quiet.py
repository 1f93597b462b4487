"""Silences warnings of libraries about choices that are intended here."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Within this context there are no warnings, and no log messages below an error.

    torch.jit and torch.ao are deprecated, but have no successor that other tools read. Tracing
    warns that transformers' Python code branches on shapes. onnxruntime's quantiser advises
    preprocessing that changes nothing here.
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
