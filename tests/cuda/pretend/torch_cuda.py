"""What torch says of the GPU: `torch.cuda` of a machine with one."""

import contextlib
import functools
import importlib.util
import sys
import threading
import types
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils.checkpoint
from torch.utils._python_dispatch import _disable_current_modes

from . import transfers
from .arrays import Capsule, ndarray
from .tensors import DEVICE, SAVING, PretendMode, PretendTensor, to_device

_GIB = 2**30


@dataclass
class Card:
    """What `torch.cuda.get_device_properties` tells, of the fields that are used."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    warp_size: int = 32


A100 = Card("Pretend A100", 8, 0, 80 * _GIB, 108)
#: A card without bfloat16.
T4 = Card("Pretend T4", 7, 5, 15 * _GIB, 40)
_card = A100


def use_card(card: Card) -> None:
    """Be another card from now on."""
    global _card
    _card = card


def _has_bf16(including_emulation: bool = True) -> bool:
    return _card.major >= 8


def patch_torch(card: Card) -> None:
    """Let torch for the CPU say that it has a GPU, and catch all operations from now on."""
    use_card(card)
    _patch_device()
    _patch_memory()
    _patch_random()
    _patch_tensors()
    _patch_attention()
    _patch_checkpoint()
    _patch_files()
    _patch_graphs()
    _patch_threads()
    PretendMode().__enter__()


def _patch_device() -> None:
    cuda: Any = torch.cuda
    cuda._lazy_init = lambda: None
    cuda._exchange_device = cuda._maybe_exchange_device = lambda number: 0
    cuda.is_available = cuda.is_initialized = lambda: True
    cuda.device_count = lambda: 1
    cuda.current_device = lambda: 0
    cuda.set_device = _set_device
    cuda.get_device_capability = lambda device=None: (_card.major, _card.minor)
    cuda.get_device_properties = lambda device=None: _card
    cuda.get_device_name = lambda device=None: _card.name
    cuda.is_bf16_supported = _has_bf16
    cuda.synchronize = transfers.synchronize
    cuda.Event, cuda.Stream = transfers.Event, transfers.Stream
    stream = transfers.Stream()
    cuda.current_stream = cuda.default_stream = lambda device=None: stream
    cuda.stream = lambda stream: contextlib.nullcontext()
    cuda.set_stream = lambda stream: None
    cuda.amp.common.amp_definitely_not_available = lambda: False


def _set_device(device: Any) -> None:
    number = device if isinstance(device, int) else torch.device(device).index or 0
    if number > 0:
        raise RuntimeError("CUDA error: invalid device ordinal")


def _patch_memory() -> None:
    """Memory is not counted: all of it is free, none is used."""
    cuda: Any = torch.cuda
    cuda.mem_get_info = lambda device=None: (_card.total_memory, _card.total_memory)
    for name in ("memory_allocated", "max_memory_allocated", "memory_reserved"):
        setattr(cuda, name, lambda device=None: 0)
    cuda.reset_peak_memory_stats = lambda device=None: None
    cuda.empty_cache = lambda: None


def _patch_random() -> None:
    """A generator's state that can be read and set. Random numbers are the CPU's."""
    cuda: Any = torch.cuda
    states = [torch.zeros(16, dtype=torch.uint8)]

    def set_all(new: Any) -> None:
        for number, state in enumerate(new):
            cuda.set_rng_state(state, number)

    def set_one(new: torch.Tensor, device: Any = "cuda") -> None:
        number = device if isinstance(device, int) else torch.device(device).index or 0
        if number >= len(states):
            raise IndexError("tuple index out of range")  # of torch.cuda.default_generators
        states[number] = new.clone()

    cuda.manual_seed = cuda.manual_seed_all = lambda seed: None
    cuda.get_rng_state = lambda device="cuda": states[0].clone()
    cuda.get_rng_state_all = lambda: [state.clone() for state in states]
    cuda.set_rng_state, cuda.set_rng_state_all = set_one, set_all


def _patch_tensors() -> None:
    """Ways to a tensor that do not pass the mode."""
    # Module.to would put the metadata into the parameter, without the numbers.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    plain_tensor, plain_from_dlpack = torch.tensor, torch.utils.dlpack.from_dlpack

    def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
        # `with torch.device("meta")` does not reach the function below. transformers 5 asks so.
        if device is None and torch.empty(0).device.type == "meta":
            device = "meta"
        if device is None or torch.device(device).type != "cuda":
            return plain_tensor(data, device=device, **kwargs)
        grad = kwargs.pop("requires_grad", False)
        return to_device(plain_tensor(data, **kwargs), "torch.tensor").requires_grad_(grad)

    def from_dlpack(source: Any, **kwargs: Any) -> torch.Tensor:
        if isinstance(source, ndarray):
            source = source.toDlpack()
        if isinstance(source, Capsule):
            return source.tensor
        return plain_from_dlpack(source, **kwargs)

    def to_dlpack(tensor: Any) -> Any:
        return Capsule(tensor) if isinstance(tensor, PretendTensor) else plain_to_dlpack(tensor)

    plain_to_dlpack = torch.utils.dlpack.to_dlpack
    torch.tensor = tensor
    torch.utils.dlpack.from_dlpack, torch.utils.dlpack.to_dlpack = from_dlpack, to_dlpack


def _patch_attention() -> None:
    """Attention without padding, in a module of torch that takes seconds to import."""
    from .attention import varlen_attn

    name = "torch.nn.attention.varlen"
    if importlib.util.find_spec(name) is not None:  # an older torch has none
        module: Any = types.ModuleType(name, "The pretend device's stand-in.")
        module.varlen_attn = varlen_attn
        sys.modules[name] = torch.nn.attention.varlen = module


def _patch_files() -> None:
    """torch.save writes tensors of the CPU, and torch.load puts them on a device by request."""
    plain_save, plain_load = torch.save, torch.load

    def save(*args: Any, **kwargs: Any) -> Any:
        SAVING.append(True)
        try:
            return plain_save(*args, **kwargs)
        finally:
            SAVING.pop()

    def load(*args: Any, map_location: Any = None, **kwargs: Any) -> Any:
        loaded = plain_load(*args, map_location="cpu", **kwargs)
        if isinstance(map_location, (str, torch.device)) and torch.device(map_location) == DEVICE:
            return torch.utils._pytree.tree_map_only(torch.Tensor, lambda x: x.to(DEVICE), loaded)
        return loaded

    torch.save, torch.load = save, load


def _patch_graphs() -> None:
    """Graphs are recorded and run without the mode, which can't take a tracer's values.

    Their tensors are the CPU's; one of the device is refused, as by a graph on the CPU.
    """

    def without_mode(function: Any) -> Any:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with _disable_current_modes():
                return function(*args, **kwargs)

        return run

    graphs: Any = torch.jit
    for name in ("trace", "freeze", "script", "save", "load"):
        setattr(graphs, name, without_mode(getattr(graphs, name)))
    graphs.RecursiveScriptModule.__call__ = without_mode(graphs.RecursiveScriptModule.__call__)
    torch.onnx.export = without_mode(torch.onnx.export)


def _patch_checkpoint() -> None:
    """A backward pass runs without the functions of tensor classes, which a forward pass has."""
    plain = torch.utils.checkpoint.checkpoint

    def checkpoint(function: Any, *args: Any, **kwargs: Any) -> Any:
        def run(*inputs: Any) -> Any:
            with torch._C._EnableTorchFunction():
                return function(*inputs)

        return plain(run, *args, **kwargs)

    torch.utils.checkpoint.checkpoint = checkpoint  # type: ignore[assignment]


def _patch_threads() -> None:
    """A mode is in force for the thread that entered it only: each new thread enters it, too."""
    plain_run = threading.Thread.run

    def run(self: threading.Thread) -> None:
        with PretendMode():
            plain_run(self)

    threading.Thread.run = run  # type: ignore[method-assign]
