"""The tensor of the pretend device, and the mode that catches every operation."""

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from .log import LOG
from .transfers import wait

DEVICE = torch.device("cuda", 0)
#: Not empty while `torch.save` runs: it writes the numbers as tensors of the CPU.
SAVING: list[bool] = []


def size_in_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class PretendTensor(torch.Tensor):
    """A tensor of cuda:0. `inner` holds its numbers: a tensor of the CPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, requires_grad: bool = False) -> "PretendTensor":
        out = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, layout=inner.layout, device=DEVICE, requires_grad=requires_grad,
        )  # fmt: skip
        out.inner = inner
        return out

    def __init__(self, inner: torch.Tensor, requires_grad: bool = False) -> None:
        pass

    def __repr__(self, *args: Any, **kwargs: Any) -> str:
        return f"PretendTensor({tuple(self.shape)}, {self.dtype})"

    @property
    def data(self) -> torch.Tensor:
        with torch.no_grad():
            return self.detach()

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        if not isinstance(value, PretendTensor):
            raise RuntimeError("a CPU tensor can't be the data of one on cuda:0")
        if value.shape != self.shape:
            raise RuntimeError("the pretend device can't change shapes by .data")
        self.inner = value.inner

    def __deepcopy__(self, memo: dict) -> "PretendTensor":
        if id(self) not in memo:
            inner = self.inner.detach().clone()
            memo[id(self)] = _rebuild(inner, self.requires_grad, _is_parameter(self))
        return memo[id(self)]

    def __reduce_ex__(self, protocol: int) -> Any:
        inner = self.inner.detach().clone()
        if SAVING:
            return inner.__reduce_ex__(protocol)
        return _rebuild, (inner, self.requires_grad, _is_parameter(self))

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            from .attention import scaled_dot_product_attention

            return scaled_dot_product_attention(*args, **kwargs)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            args = (args[0], _on_device(args[1]), *args[2:])
        if func is torch.Tensor.new_tensor:
            return to_device(args[0].inner.new_tensor(*args[1:], **kwargs), "new_tensor")
        if func is torch.Tensor.tolist:
            wait("tolist")
            LOG.copy_out(size_in_bytes(args[0]))
            return args[0].inner.tolist()
        if func in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the "
                "tensor to host memory first."
            )
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from .operations import run

        return run(func, args, kwargs or {})


class PretendMode(TorchDispatchMode):
    """Catches all operations, those that make tensors included."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from .operations import run

        # In inference mode operations arrive whole that autograd takes apart elsewhere.
        if _is_composite(func):
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return run(func, args, kwargs or {})


@functools.cache
def _is_composite(func: Any) -> bool:
    key = "CompositeImplicitAutograd"
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key))


def to_device(numbers: torch.Tensor, what: str) -> PretendTensor:
    """A tensor of the device from numbers that lie in ordinary memory: the host waits for it.

    numbers: tensor of the CPU. what: what is noted as the reason.
    """
    wait(what)
    LOG.copy_in(size_in_bytes(numbers))
    return PretendTensor(numbers)


def _is_parameter(tensor: torch.Tensor) -> bool:
    return bool(getattr(tensor, "_is_param", False))


def _rebuild(inner: torch.Tensor, requires_grad: bool, is_parameter: bool) -> PretendTensor:
    out = PretendTensor(inner, requires_grad)
    if is_parameter:
        out._is_param = True  # type: ignore[attr-defined]
    return out


def _on_device(index: Any) -> Any:
    """An index whose lists and arrays are tensors of the device: copies that the host waits for."""
    if isinstance(index, tuple):
        return tuple(_on_device(part) for part in index)
    if isinstance(index, (list, np.ndarray)):
        with torch._C._DisableTorchDispatch():
            return to_device(torch.as_tensor(index), "index from a list")
    return index
