"""Dynamic int8 of linear layers in torch."""

from collections.abc import Collection
from typing import Any

import torch
import torch.ao.nn.quantized.dynamic as quantized_layers
from torch import Tensor, nn
from torch.ao.quantization import QConfig, default_dynamic_quant_observer
from torch.ao.quantization.observer import PerChannelMinMaxObserver

from .quiet import quiet


class _WholeRange(quantized_layers.Linear):
    """torch's own rounds inputs to 7 bits, since 8 by 8 bits can overflow on CPUs without VNNI.

    Here the inputs have 8, and the weights 7 where that matters: they lose far less by it.
    """

    def forward(self, rows: Tensor) -> Tensor:
        packed = self._packed_params._packed_params
        out: Tensor = torch.ops.quantized.linear_dynamic(rows, packed, False)
        return out.to(rows.dtype)


def quantized(encoder: nn.Module, any_cpu: bool, left: Collection[str] = ()) -> Any:
    """The encoder with linear layers in int8: weights per output channel, inputs per tensor as
    they come; all else stays in float32.

    any_cpu: weights of 7 bits, so that no product overflows on a CPU without VNNI.
    left: names of linear layers that stay in float32 too.
    """
    low, high = (-64, 63) if any_cpu else (-128, 127)
    weights = PerChannelMinMaxObserver.with_args(
        dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=low, quant_max=high
    )
    make_config: Any = QConfig
    config = make_config(activation=default_dynamic_quant_observer, weight=weights)
    quantize: Any = torch.ao.quantization.quantize_dynamic
    chosen = {
        name: config
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and name not in left
    }
    with quiet():
        out = quantize(encoder, chosen)
    for module in out.modules():
        if type(module) is quantized_layers.Linear:
            module.__class__ = _WholeRange
    return out
