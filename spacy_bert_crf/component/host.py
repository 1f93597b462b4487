"""Lets methods of a component run apart from the torch settings of the host program."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from thinc.util import get_torch_default_device

from .._host import plain_torch

C = TypeVar("C", bound=type)


#: Methods of a component that run torch.
_METHODS: tuple[str, ...] = (
    "predict",
    "read",
    "nbest",
    "add_label",
    "initialize",
    "adopt",
    "update",
    "get_loss",
    "finish_update",
    "from_bytes",
    "from_disk",
)


def in_plain_torch(cls: C) -> C:
    """Let the methods of _METHODS run under `plain_torch`, on the device of the thinc ops."""
    for name in _METHODS:
        setattr(cls, name, _wrapped(vars(cls)[name]))
    return cls


def _wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        with plain_torch(get_torch_default_device()):
            return method(*args, **kwargs)

    return run
