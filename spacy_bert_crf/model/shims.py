"""Torch modules as thinc shims: hand parameters to the optimizer, save and load.

They differ from thinc's PyTorchShim in three ways. A module stays in evaluation mode except for
the forward pass of an update, so that threads can share it in prediction. Parameters and gradients
reach the optimizer as tensors. A shim builds its module itself from what was saved.
"""

import copy
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional, cast

import srsly
import torch
from thinc.api import Optimizer
from thinc.shims.shim import Shim
from thinc.util import get_torch_default_device, torch2xp, xp2torch
from torch import Tensor, nn

from ..errors import BertCrfError
from .optimizer import GroupedAdamW

# OpenMP's threads do not survive a fork. A child process that used them would wait for ever.
# nlp.pipe(n_process=...) forks. Several processes are best with one thread each.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class TorchShim(Shim):
    """A torch module inside a thinc layer. Subclasses define its saved form."""

    _model: Optional[nn.Module]

    @property
    def module(self) -> Any:
        """The torch module. Raises BertCrfError before there is one."""
        if self._model is None:
            raise BertCrfError(
                "the component has no weights yet: call nlp.initialize(), or load a trained "
                "pipeline with spacy.load()."
            )
        return self._model

    @property
    def is_built(self) -> bool:
        """Whether there is a module yet."""
        return self._model is not None

    @property
    def device(self) -> torch.device:
        """Where the module's parameters are."""
        return cast(torch.device, next(self.module.parameters()).device)

    def finish_update(self, optimizer: Optimizer) -> None:
        """Hand the parameters that have a gradient to the optimizer, and clear the gradients."""
        if self._model is None:
            return
        for name, param in self._model.named_parameters():
            if param.grad is None:
                continue
            key = (self.id, name)
            if isinstance(optimizer, GroupedAdamW):
                optimizer.collect(key, param.data, param.grad)
            else:
                weights, grad = torch2xp(param.data), torch2xp(param.grad)
                param.data = xp2torch(optimizer(key, weights, grad)[0], device=param.device)
            param.grad = None

    @contextmanager
    def use_params(self, params: dict[tuple[int, str], Any]) -> Iterator[None]:
        """thinc's protocol: run on other parameters (averages), and take the own ones back."""
        held: list[tuple[nn.Parameter, Tensor]] = []
        for name, param in self._model.named_parameters() if self._model is not None else ():
            value = params.get((self.id, name))
            if value is not None and value.shape == param.shape:
                held.append((param, param.data))
                if not isinstance(value, Tensor):
                    value = xp2torch(value, device=param.device)
                param.data = value
        try:
            yield
        finally:
            for param, data in held:
                param.data = data

    def to_device(self, device_type: str, device_id: int) -> None:
        """thinc's protocol: move to "cpu" or to a "gpu" by number."""
        if self._model is not None:
            self._model.to("cpu" if device_type == "cpu" else f"cuda:{device_id}")

    def copy(self) -> "TorchShim":
        """A copy with weights and an identity of its own."""
        new = copy.deepcopy(self)
        with Shim.global_id_lock:
            Shim.global_id += 1
            new.id = Shim.global_id
        return new

    def to_bytes(self) -> bytes:
        saved = None if self._model is None else self._pack()
        if saved is not None:
            saved["crc32"] = _checksum(saved)
        return cast(bytes, srsly.msgpack_dumps(saved))

    def from_bytes(self, data: bytes) -> "TorchShim":
        saved = srsly.msgpack_loads(data)
        if saved is not None:
            # Pipelines of the first version have none.
            if saved.pop("crc32", None) not in (None, _checksum(saved)):
                raise BertCrfError("its bytes are not those that were saved (checksum).")
            self._unpack(saved)
            self.module.to(get_torch_default_device()).eval()
        return self

    def _pack(self) -> dict[str, Any]:
        raise NotImplementedError

    def _unpack(self, saved: dict[str, Any]) -> None:
        raise NotImplementedError


def _checksum(saved: dict[str, Any]) -> int:
    """CRC-32 of what a shim saves: a flipped bit in a weight would show nowhere else."""
    rest = {key: value for key, value in saved.items() if key not in ("weights", "crc32")}
    weights = zlib.crc32(saved.get("weights", b""))
    return zlib.crc32(cast(bytes, srsly.msgpack_dumps(rest)), weights)
