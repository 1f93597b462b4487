"""The dtype of an encoder's products, and how many wordpieces go through it at once."""

from typing import Any, Literal, Optional, Union

import torch

from .cpu.linear import has_bfloat16_products

#: Values of the setting `mixed_precision`.
MixedPrecision = Union[bool, Literal["auto"]]

#: Largest number of wordpieces of a pass in prediction, padding included. The activations of one
#: layer then fit in a CPU's cache.
_CPU_PASS = 768
#: The same in an update. Activations of all layers are kept there.
_CPU_UPDATE = 512
#: Passes of an update on a CPU whose activations are kept where a whole batch is read at once.
_CPU_KEPT_PASSES = 4
#: Largest number of wordpieces of a pass on a device whose memory is not known.
_OTHER_PASS = 4096
#: Bounds of a pass on CUDA. Fewer would leave the card idle, more gain nothing.
_CUDA_PASS = (1024, 65_536)
#: Bytes that an update keeps for one wordpiece, divided by layers and width, in float32.
_KEPT_BYTES = 54
#: Bytes of a prediction for one wordpiece, divided by the width, in float32.
_PASS_BYTES = 80
#: Share of a card's memory that activations may take.
_SHARE = 0.4


def products_dtype(
    setting: MixedPrecision, device: torch.device, is_train: bool
) -> Optional[torch.dtype]:
    """dtype of the encoder's products, None for float32.

    On CUDA it is bfloat16 where the GPU has it. Without it, True takes float16, and "auto"
    float32. On a CPU with products in bfloat16 (AMX or AVX512-BF16), "auto" uses them in updates,
    and True in predictions too. Predictions in float32 equal those of the exports.

    setting: `mixed_precision` of the encoder.
    device: where the encoder is.
    is_train: whether it is for an update.
    """
    if not setting:
        return None
    if device.type == "cpu":
        wanted = setting is True or is_train
        return torch.bfloat16 if wanted and has_bfloat16_products() else None
    if device.type != "cuda":
        return None
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16 if setting is True else None


def pass_size(
    config: Any, device: torch.device, dtype: Optional[torch.dtype], is_train: bool
) -> int:
    """Largest number of wordpieces of an encoder pass, padding included.

    config: the encoder's config of transformers.
    device: where the encoder is.
    dtype: dtype of the products, None for float32.
    is_train: whether the pass is part of an update, which keeps the activations of all layers.
    """
    if device.type == "cpu":
        if not is_train:
            return _CPU_PASS
        # Activations are half as large in 16 bits.
        return _CPU_UPDATE if dtype is None else 2 * _CPU_UPDATE
    if device.type != "cuda":
        return _OTHER_PASS
    memory = torch.cuda.get_device_properties(device).total_memory
    width = int(config.hidden_size)
    layers = int(getattr(config, "num_hidden_layers", 0)) or 12
    each = width * (layers * _KEPT_BYTES if is_train else _PASS_BYTES)
    lowest, highest = _CUDA_PASS
    return int(min(max(_SHARE * memory / each, lowest), highest))


def kept_pieces(size: int, device: torch.device) -> int:
    """Number of wordpieces whose activations an update of a whole batch keeps.

    On CUDA a pass takes the memory that activations may take. A CPU has more than for one pass.

    size: the `pass_size` of an update.
    device: where the encoder is.
    """
    return size * _CPU_KEPT_PASSES if device.type == "cpu" else size
