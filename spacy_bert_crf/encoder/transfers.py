"""Arrays of the host on a device, and tensors of a device on the host, by one copy each.

A copy from ordinary memory makes the host wait on CUDA. Many small copies cost a launch each.
"""

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Each array begins at a multiple of this number of bytes. No dtype needs more.
ALIGNMENT = 16


def to_device(arrays: Sequence[NDArray[Any]], device: torch.device) -> list[Tensor]:
    """The arrays as tensors on a device, with their shapes and dtypes.

    On CUDA there is one copy for all, from pinned memory, and the host does not wait. The tensors
    are views of one buffer there. On the CPU they share the memory of the arrays.

    arrays: arrays of dtypes that torch has.
    device: the device of the tensors.
    """
    if device.type != "cuda":
        return [torch.from_numpy(array).to(device) for array in arrays]
    # The allocator of pinned memory keeps the buffer until the copy is done.
    packed = pack(arrays, pinned=True)
    return unpack(packed.to(device, non_blocking=True), arrays)


class OnItsWay:
    """A tensor of a device on its way to the host. The host may do other things meanwhile.

    tensor: the tensor. One that is on the host already is used as it is.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: Optional[torch.cuda.Event] = None
        self._tensor = tensor.detach()
        if tensor.device.type == "cuda":
            shape, dtype = tensor.shape, tensor.dtype
            self._tensor = torch.empty(shape, dtype=dtype, device="cpu", pin_memory=True)
            self._tensor.copy_(tensor.detach(), non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(tensor.device))

    def wait(self) -> Tensor:
        """The tensor on the host, after the copy is done. Later calls do not wait."""
        if self._event is not None:
            if not self._event.query():  # type: ignore[no-untyped-call]
                self._event.synchronize()
            self._event = None
        return self._tensor


def pack(arrays: Sequence[NDArray[Any]], pinned: bool = False) -> Tensor:
    """The bytes of arrays, one after the other. uint8 [bytes]

    arrays: arrays of any shapes and dtypes.
    pinned: whether to use pinned memory. It needs CUDA.
    """
    begins, size = _layout(arrays)
    buffer = torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=pinned)
    flat = buffer.numpy()
    for array, begin in zip(arrays, begins, strict=True):
        place = flat[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
        np.copyto(place, array)
    return buffer


def unpack(buffer: Tensor, arrays: Sequence[NDArray[Any]]) -> list[Tensor]:
    """The arrays of `pack` as views of its buffer, which may be on another device by now.

    buffer: uint8 [bytes]
    arrays: the arguments of `pack`. Only their shapes and dtypes are used.
    """
    begins, _ = _layout(arrays)
    return [
        buffer[begin : begin + array.nbytes].view(_torch_dtype(array.dtype)).view(array.shape)
        for array, begin in zip(arrays, begins, strict=True)
    ]


def _layout(arrays: Sequence[NDArray[Any]]) -> tuple[list[int], int]:
    """First byte of each array in the buffer, and the size of the buffer."""
    begins, end = [], 0
    for array in arrays:
        begins.append(end)
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    return begins, end


def _torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype=dtype)).dtype
