"""TorchScript with the encoder's linear layers in dynamic int8."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.ao.nn.quantized.dynamic as quantized_layers
from torch import Tensor, nn
from torch.ao.quantization import QConfig, default_dynamic_quant_observer
from torch.ao.quantization.observer import PerChannelMinMaxObserver

from ...encoder.cpu.smoothing import MIN_SNR, left_in_float, need_layers, rounding_ratios
from .format import ROUNDED_SCORES, Format, Options, float_layers_list
from .quiet import quiet
from .torchscript import DECODE, EMISSIONS, open_torchscript, write_pair

if TYPE_CHECKING:
    from ..trained import Trained


class _WholeRange(quantized_layers.Linear):
    """A linear layer in dynamic int8 whose inputs have 8 bits.

    torch's own class rounds inputs to 7 bits, because 8 by 8 bits can overflow on CPUs without
    VNNI. Here the weights have 7 bits for such CPUs, which costs far less accuracy.
    """

    def forward(self, rows: Tensor) -> Tensor:
        packed = self._packed_params._packed_params
        out: Tensor = torch.ops.quantized.linear_dynamic(rows, packed, False)
        return out.to(rows.dtype)


def quantized(encoder: nn.Module, any_cpu: bool, left: Collection[str] = ()) -> Any:
    """The encoder with its linear layers in int8; the rest stays in float32.

    Weights are quantised per output channel. Inputs are quantised per tensor, when they are known.

    encoder: the encoder in float32.
    any_cpu: weights of 7 bits, so that no product overflows on a CPU without VNNI.
    left: names of linear layers that stay in float32.
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


def _write(folder: Path, trained: "Trained", options: Options) -> dict[str, str]:
    emissions = trained.smoothed_model("sdpa")
    ratios = rounding_ratios(emissions.encoder, trained.probes())
    left = [name for name, ratio in ratios.items() if ratio < MIN_SNR]
    need_layers(list(ratios))
    emissions.encoder = quantized(emissions.encoder, options.any_cpu, left)
    write_pair(folder, trained, emissions)
    return {"bits": options.bits, "left": float_layers_list(left_in_float(ratios))}


FORMAT = Format(
    name="torch-int8",
    emissions=EMISSIONS,
    decode=DECODE,
    exact=False,
    tolerance=0,
    lacks=ROUNDED_SCORES,
    write=_write,
    open=open_torchscript,
    reader="torchscript.py",
)
