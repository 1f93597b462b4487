"""A stand-in for CuPy, whose arrays refuse what CuPy refuses: being read without being asked to.

Only what thinc, spaCy and this project use. Numbers lie in a numpy array.
"""

import operator
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from .log import LOG

#: Functions that take a numpy array of floats: they copy it to the device or only look at it.
_TAKE_NUMPY = {
    *("array", "asarray", "ascontiguousarray", "frombuffer", "split", "array_split", "copyto"),
    "save",
}
_TO_DEVICE = {"array", "asarray"}


class ndarray:
    """CuPy's array. `numbers` is the numpy array behind it."""

    __array_priority__ = 100
    __hash__ = object.__hash__

    def __init__(self, array: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(array, tuple):
            array = np.empty(array, kwargs.get("dtype", np.float64))
        self.numbers = array

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array explicitly."
        )

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        LOG.cupy[func.__name__] += 1
        return _call(func, args, kwargs)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        LOG.cupy[ufunc.__name__] += 1
        return _call(getattr(ufunc, method), args, kwargs)

    def _read(self, how: str) -> Any:
        from .transfers import wait

        wait(f"cupy {how}")
        LOG.copy_out(self.numbers.nbytes)
        return self.numbers

    def get(self, *args: Any, **kwargs: Any) -> np.ndarray:
        return np.array(self._read("get"))

    def tolist(self) -> Any:
        return self._read("tolist").tolist()

    def item(self) -> Any:
        return self._read("item").item()

    def __float__(self) -> float:
        return float(self._read("float"))

    def __int__(self) -> int:
        return int(self._read("int"))

    def __bool__(self) -> bool:
        return bool(self._read("bool"))

    def __index__(self) -> int:
        return operator.index(self._read("index"))

    def toDlpack(self) -> "Capsule":
        import torch

        from .tensors import PretendTensor

        return Capsule(PretendTensor(torch.from_numpy(self.numbers)))

    def __dlpack__(self, **kwargs: Any) -> "Capsule":
        return self.toDlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)  # CUDA, the first device

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Any:
        return (_wrap(x) for x in self.numbers)

    def __getitem__(self, key: Any) -> Any:
        return _wrap(self.numbers[_unwrap(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        LOG.cupy["setitem"] += 1
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("a numpy array can't be put into a cupy one")
        self.numbers[_unwrap(key)] = _unwrap(value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "numbers":
            raise AttributeError(name)
        value = getattr(self.numbers, name)
        if not callable(value):
            return _wrap(value) if isinstance(value, np.ndarray) else value

        def method(*args: Any, **kwargs: Any) -> Any:
            LOG.cupy[name] += 1
            return _call(value, args, kwargs)

        return method

    def __deepcopy__(self, memo: Any) -> "ndarray":
        return ndarray(self.numbers.copy())

    def __repr__(self) -> str:
        return f"cupy{self.numbers!r}"


class Capsule:
    """What DLPack hands over between CuPy and torch: a tensor of the device."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


def _operator(name: str) -> Callable:
    def method(self: ndarray, *others: Any) -> Any:
        for other in others:
            if isinstance(other, np.ndarray) and other.ndim:
                raise TypeError(f"Unsupported type {type(other)}")
        LOG.cupy[name] += 1
        result = getattr(self.numbers, name)(*_unwrap(others))
        return self if result is self.numbers else _wrap(result)

    return method


for _name in (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"),
    *("eq", "ne", "lt", "le", "gt", "ge", "neg", "pos", "abs", "invert"),
):
    for _prefix in ("", "r", "i"):
        if hasattr(np.ndarray, f"__{_prefix}{_name}__"):
            setattr(ndarray, f"__{_prefix}{_name}__", _operator(f"__{_prefix}{_name}__"))


def _unwrap(x: Any) -> Any:
    if isinstance(x, ndarray):
        return x.numbers
    if isinstance(x, (list, tuple)):
        return type(x)(_unwrap(y) for y in x)
    if isinstance(x, dict):
        return {k: _unwrap(v) for k, v in x.items()}
    return x


def _wrap(x: Any) -> Any:
    if isinstance(x, (np.ndarray, np.generic)):
        return ndarray(np.asarray(x))
    if isinstance(x, (list, tuple)):
        return type(x)(_wrap(y) for y in x)
    return x


def _call(func: Any, args: Any, kwargs: Any) -> Any:
    return _wrap(func(*_unwrap(args), **_unwrap(kwargs)))


def call_on_numbers(func: Any, what: str, args: Any, kwargs: Any) -> Any:
    """Call a function of numpy arrays for CuPy's. what: its name in messages and counts.

    Raises ValueError, as thinc does, if it is given a numpy array of floats.
    """
    for x in (*args, *kwargs.values()):
        for y in x if isinstance(x, (list, tuple)) else [x]:
            if isinstance(y, np.ndarray) and y.ndim and y.dtype.kind == "f":
                raise ValueError(f"{what}: Encountered a numpy array when processing with cupy.")
    LOG.cupy[what] += 1
    return _call(func, args, kwargs)


def _concatenate(arrays: Any, axis: int = 0, **kwargs: Any) -> ndarray:
    arrays = list(arrays)
    if not all(isinstance(array, ndarray) for array in arrays):
        raise TypeError("Only cupy arrays can be concatenated")
    if len(arrays) > 8:  # one kernel; pointers, sizes and strides of the arrays are copied to it
        LOG.cupy["concatenate"] += 1
        for _ in range(3):
            LOG.copy_in(8 * len(arrays))
    else:
        LOG.cupy["concatenate"] += len(arrays)
    return ndarray(np.concatenate([a.numbers for a in arrays], axis))


class _Module(types.ModuleType):
    """numpy's functions under CuPy's name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(np, name)
        if isinstance(value, type) or not callable(value):
            return value

        def function(*args: Any, **kwargs: Any) -> Any:
            LOG.cupy[name] += 1
            arrays = [a for a in args if isinstance(a, np.ndarray) and a.ndim]
            if name not in _TAKE_NUMPY and any(a.dtype.kind == "f" for a in arrays):
                raise TypeError(f"cupy.{name}: Unsupported type {type(arrays[0])}")
            if name in _TO_DEVICE and arrays:
                LOG.copy_in(arrays[0].nbytes)
            return _call(value, args, kwargs)

        return function


class _Device:
    def __init__(self, number: int = 0) -> None:
        self.id = number

    def __enter__(self) -> "_Device":
        return self

    def __exit__(self, *args: Any) -> None:
        pass

    def use(self) -> None:
        pass

    def synchronize(self) -> None:
        from .transfers import wait

        wait("cupy synchronize")


class _MemoryPool:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def malloc(self, size: int) -> None:
        pass

    def free_all_blocks(self) -> None:
        pass


def make_cupy() -> None:
    """Put the stand-in into sys.modules, under the names that thinc imports."""
    cupy: Any = _Module("cupy")
    sys.modules["cupy"] = cupy
    sys.modules["cupyx"] = types.ModuleType("cupyx")
    kernel = types.SimpleNamespace(get_function=lambda name: None)
    cupy.__dict__.update(
        __version__="14.1.1",
        __path__=[],
        ndarray=ndarray,
        concatenate=_concatenate,
        get_array_module=lambda *a: cupy if any(isinstance(x, ndarray) for x in a) else np,
        from_dlpack=lambda capsule: ndarray(capsule.tensor.inner.detach().numpy()),
        get_default_memory_pool=_MemoryPool,
    )
    for name in ("RawModule", "RawKernel", "ReductionKernel", "ElementwiseKernel"):
        setattr(cupy, name, lambda *args, **kwargs: kernel)
    stream = type("Stream", (), {"__init__": lambda self, *args, **kwargs: None})
    error = type("CUDARuntimeError", (RuntimeError,), {})
    contents: dict[str, dict[str, Any]] = {
        "cublas": {},
        "cuda": {
            "Device": _Device,
            "MemoryPool": _MemoryPool,
            "set_allocator": lambda allocator: None,
            "Stream": stream,
        },
        "cuda.runtime": {"getDeviceCount": lambda: 1, "CUDARuntimeError": error},
        "cuda.device": {"Device": _Device, "get_device_id": lambda: 0},
        "cuda.stream": {"Stream": stream},
        "cuda.memory": {"UnownedMemory": object, "MemoryPointer": object},
        "random": {"seed": lambda seed: None},
    }
    for name, content in contents.items():
        module = types.ModuleType(f"cupy.{name}")
        module.__dict__.update(content, __path__=[])
        sys.modules[f"cupy.{name}"] = module
        parent, _, own = f"cupy.{name}".rpartition(".")
        setattr(sys.modules[parent], own, module)
