"""Scaling of gradients for updates in float16, where small ones would become 0.

Micikevicius et al. 2018, "Mixed Precision Training". thinc's PyTorchGradScaler does the work.
"""

from collections.abc import Sequence
from typing import Any, Optional

import torch
from thinc.api import PyTorchGradScaler
from torch import Tensor, nn


class GradScaler:
    """The gradient scaler of an encoder. It does nothing before the first update in float16.

    settings: arguments of PyTorchGradScaler.
    scaler: the PyTorchGradScaler of a shim of thinc, to save and restore its state.
    """

    def __init__(
        self, settings: dict[str, Any], scaler: Optional[PyTorchGradScaler] = None
    ) -> None:
        self._settings = dict(settings)
        self._scaler = PyTorchGradScaler(enabled=False) if scaler is None else scaler

    @property
    def is_on(self) -> bool:
        """Whether there was an update in float16."""
        return bool(self._scaler._enabled)

    def scale(self, grad: Tensor, dtype: Optional[torch.dtype]) -> Tensor:
        """The gradient of an output, scaled if the forward pass was in float16.

        grad: the gradient. It is not changed.
        dtype: dtype of mixed precision in the forward pass; None for none.
        """
        # bfloat16 has the range of float32.
        if dtype is torch.float16 and not self.is_on:
            self._start()
        if not self.is_on:
            return grad
        self.to(grad.device)
        scaled: Tensor = self._scaler.scale(grad)
        return scaled

    def unscale(self, params: Sequence[nn.Parameter]) -> None:
        """Unscale the gradients of parameters. If one of them is not finite, all are dropped.

        It comes once before a step, and not in each backward pass, since gradients may be
        accumulated.
        """
        params = [param for param in params if param.grad is not None]
        if self.is_on and self._scaler.unscale([param.grad for param in params]):
            for param in params:
                param.grad = None

    def update(self) -> None:
        """Choose the next scale. It comes after each step."""
        self._scaler.update()

    def to(self, device: torch.device) -> None:
        """Move the scale to a device."""
        self._scaler.to_(device)

    def state(self) -> dict[str, Any]:
        """The scale, and the steps since it last changed; empty before an update in float16."""
        if not self.is_on:
            return {}
        return {
            "scale": float(self._scaler._scale),
            "growth_tracker": int(self._scaler._growth_tracker),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        if state and not self.is_on:
            self._start()
        if state:
            self._scaler._scale.fill_(state["scale"])
            self._scaler._growth_tracker.fill_(state["growth_tracker"])

    def _start(self) -> None:
        self._scaler = PyTorchGradScaler(**{"enabled": True, **self._settings})
