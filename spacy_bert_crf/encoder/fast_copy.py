"""A copy of an encoder that predicts faster than the encoder itself. It is made when first used.

On a CPU it has fused layers, or 8-bit integers; that of a BERT is a CpuBert. On CUDA it is a
CudaBert.
"""

import threading
from collections.abc import Callable
from typing import Any, Optional

import torch

from ..errors import BertCrfError
from .cpu.bert import CpuBert, has_fused_layers
from .cpu.fused import packed_encoder, weights_stamp
from .cpu.int8 import int8_encoder
from .cuda.bert import CudaBert, can_run
from .hf import LoadedEncoder
from .passes import special_ids

#: Only one thread makes the copy of an encoder.
_making = threading.Lock()


class FastCopy:
    """Holds the fast copy of one encoder, and makes it anew when the weights have changed."""

    def __init__(self) -> None:
        # The stamp of the weights with the dtype, and the copy made from them.
        self._made: Optional[tuple[tuple[int, str], Any]] = None

    @property
    def is_made(self) -> bool:
        """Whether there is a copy now."""
        return self._made is not None

    def clear(self) -> None:
        """Forget the copy: its memory is free, and the next prediction makes a new one."""
        self._made = None

    def get(self, encoder: LoadedEncoder, dtype: Optional[torch.dtype], int8_length: int) -> Any:
        """The copy for these weights. Safe from several threads.

        encoder: the encoder and its tokenizer.
        dtype: dtype of the products, None for float32.
        int8_length: largest number of input ids of a window for a copy in 8-bit integers; 0 for
            none of these.
        RETURNS: a CpuBert or a CudaBert, otherwise a module that is called as the encoder is. It
            is the encoder itself where there is nothing faster.
        Raises BertCrfError where 8-bit integers can't be used.
        """
        made, stamp = self._made, (weights_stamp(encoder.model), f"{dtype} {int8_length}")
        if made is None or made[0] != stamp:
            with _making:
                made = self._made
                if made is None or made[0] != stamp:
                    # Tensors made in inference mode could not be used outside of it.
                    with torch.inference_mode(False), torch.no_grad():
                        made = self._made = (stamp, _make(encoder, dtype, int8_length))
        return made[1]

    def __getstate__(self) -> dict[str, Any]:
        # Packed weights can be neither copied nor pickled; they are made again.
        return {"_made": None}


def _make(encoder: LoadedEncoder, dtype: Optional[torch.dtype], int8_length: int) -> Any:
    model, device = encoder.model, next(encoder.model.parameters()).device
    if int8_length:
        if device.type != "cpu":
            raise BertCrfError(
                f'quantize = "int8" runs on the CPU, and the encoder is on {device}: leave '
                "quantize empty, or load the pipeline on the CPU."
            )
        before, after, _ = special_ids(encoder.tokenizer)
        return _unpadded(int8_encoder(model, before, after, int8_length))
    makers: dict[str, Callable[[], Any]] = {
        "cuda": lambda: CudaBert(model, dtype or torch.float32) if can_run(model) else model,
        "cpu": lambda: _unpadded(packed_encoder(model)) if dtype is None else model,
    }
    return makers.get(device.type, lambda: model)()


def _unpadded(copied: Any) -> Any:
    """A copy that needs no padding, where there is one for its kind."""
    return CpuBert(copied) if has_fused_layers(copied) else copied
