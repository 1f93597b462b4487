"""Keeps torch settings of the host program from reaching the code of this package.

A program may have set another default dtype or device, switched gradients off, or run everything
under autocast or inference mode. Weights, probabilities and trainings must not depend on that.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch

from ._memory import explained_memory

C = TypeVar("C", bound=type)

#: Guards the two below: the default dtype belongs to the process, not to a thread.
_lock = threading.Lock()
_inside = 0
_dtype_of_host = torch.float32


@contextmanager
def plain_torch() -> Iterator[None]:
    """Within, torch is as a new process has it: gradients on, no inference mode, no autocast.

    New tensors are on the CPU, also where a model is on a GPU: a pipeline may be on another device
    than thinc's current one. The default dtype stays, because it belongs to all threads:
    `float32_default` changes it. Each setting is touched only where the host program changed it.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def float32_default() -> Iterator[None]:
    """Within, the default dtype is float32, in all threads. For building models of transformers.

    They choose dtypes by the default. The last thread to leave gives the host's default back.
    """
    global _inside, _dtype_of_host
    with _lock:
        if not _inside:
            _dtype_of_host = torch.get_default_dtype()
        _inside += 1
        if torch.get_default_dtype() != torch.float32:
            torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and torch.get_default_dtype() != _dtype_of_host:
                torch.set_default_dtype(_dtype_of_host)


#: Methods of a component that run torch.
_METHODS: tuple[str, ...] = (
    "predict",
    "_begin",
    "_decode",
    "read",
    "nbest",
    "add_label",
    "initialize",
    "adopt",
    "update",
    "rehearse",
    "remember",
    "get_loss",
    "finish_update",
    "from_bytes",
    "from_disk",
)


def in_plain_torch(cls: C) -> C:
    """Class decorator: the methods of _METHODS run under `plain_torch`, and explain full memory."""
    for name in _METHODS:
        if hasattr(cls, name):
            setattr(cls, name, _wrapped(getattr(cls, name)))
    return cls


def _wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        with plain_torch(), explained_memory():
            return method(*args, **kwargs)

    return run
