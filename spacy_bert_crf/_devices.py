"""The device that thinc and torch compute on: choose it, and say what it lacks.

thinc's current operations decide where a component's weights go. They belong to a thread, so a new
thread starts on the CPU.
"""

import functools
import warnings
from importlib import import_module
from typing import Any

import numpy as np
import thinc.compat
import torch
from thinc.api import get_current_ops, require_cpu, require_gpu, set_current_ops, set_gpu_allocator
from thinc.util import get_torch_default_device, xp2torch
from torch import Tensor

from .errors import BertCrfError, first_line


def default_device() -> torch.device:
    """The device of new weights: CUDA where thinc's current operations are CuPy's, else the CPU.

    On Apple's GPU (MPS) thinc computes with numpy, and only torch uses the GPU. This package was
    never run there, so its weights stay on the CPU, with a warning.
    Raises BertCrfError if thinc is on a GPU that torch can't use. The message says what to install.
    """
    try:
        device = get_torch_default_device()
    except (AssertionError, RuntimeError) as err:  # as torch's builds for the CPU raise
        reason = missing(0) or f"{first_line(err)}."
        raise BertCrfError(f"thinc is on a GPU that torch can't use: {reason}") from err
    if device.type != "mps":
        return device
    _warn_mps()
    return torch.device("cpu")


def use_device(gpu_id: int) -> None:
    """Put thinc and torch on a GPU, or on the CPU for -1.

    gpu_id: number of the GPU, from 0.
    Raises BertCrfError if there is no such GPU, or if torch or CuPy can't use it. The message says
    what to install. thinc's operations stay as they were then.
    """
    if gpu_id < 0:
        require_cpu()
        return
    reason, before = missing(gpu_id), get_current_ops()
    if not reason:
        try:
            require_gpu(gpu_id)
            torch.zeros(1, device=default_device())
            return
        except Exception as err:  # of CuPy, CUDA's driver or torch
            set_current_ops(before)
            reason = f"{first_line(err).rstrip('.')}."
    raise BertCrfError(f"gpu_id {gpu_id} can't be used: {reason} Use -1 for the CPU.")


def use_allocator(name: str) -> None:
    """Let CuPy take its memory from the pool of torch, on the GPU in use.

    name: "pytorch" or "tensorflow", the setting `gpu_allocator` of a training config.
    Raises BertCrfError for another name, or if that library is missing.
    """
    try:
        set_gpu_allocator(name)
    except (ValueError, ImportError, AssertionError) as err:
        raise BertCrfError(f"gpu_allocator = {name!r} can't be used: {first_line(err)}") from err


def missing(gpu_id: int) -> str:
    """What this machine lacks to use a GPU, as sentences; empty if nothing is known to be missing.

    gpu_id: number of the GPU, from 0.
    """
    if not torch.cuda.is_available():
        if torch.backends.mps.is_available():
            return "Apple's GPU (MPS) is not supported."
        if torch.version.cuda or torch.version.hip:
            kind = f"CUDA {torch.version.cuda}" if torch.version.cuda else "ROCm"
            return (
                f"torch {torch.__version__} is built for {kind}, but finds no GPU. See whether "
                "nvidia-smi lists it, and whether CUDA_VISIBLE_DEVICES hides it."
            )
        return (
            f"torch {torch.__version__} is a build for the CPU. Install a build of torch for CUDA "
            f"(pytorch.org has the command), then CuPy: {cupy_command()}."
        )
    count = torch.cuda.device_count()
    if gpu_id >= count:
        return f"the numbers of the {count} GPUs are 0 to {count - 1}." if count > 1 else (
            "there is one GPU, with the number 0."
        )  # fmt: skip
    try:
        import_module("cupy")
    except ModuleNotFoundError as err:
        if err.name == "cupy":
            return f"CuPy is not installed: {cupy_command()}."
        return f"CuPy can't be imported ({first_line(err)}): {cupy_command()}."
    except Exception as err:  # it is built for other libraries
        return f"CuPy can't be imported ({first_line(err)}): {cupy_command()}."
    if not thinc.compat.has_cupy_gpu:
        return (
            "CuPy finds no GPU, although torch does. It must be the CuPy for torch's CUDA: "
            f"{cupy_command()}."
        )
    return ""


def cupy_command() -> str:
    """The command that installs the CuPy for the CUDA version of torch.

    spaCy's extras (such as spacy[cuda12x]) hold CuPy below 13, which needs numpy below 1.29.
    """
    if torch.version.hip:
        return "install the CuPy for your ROCm version"
    major = (torch.version.cuda or "12").split(".")[0]
    return f'pip install "cupy-cuda{major}x[ctk]>=14"'


def as_tensor(array: Any) -> Tensor:
    """An array of numpy or CuPy as a tensor on the array's own device.

    It shares the array's memory, except for a numpy array that can't be written.
    """
    if not isinstance(array, np.ndarray):
        return xp2torch(array, device=torch.device("cuda", array.__dlpack_device__()[1]))
    return torch.from_numpy(array if array.flags.writeable else array.copy())


@functools.cache
def _warn_mps() -> None:
    warnings.warn(
        "spacy-bert-crf does not support Apple's GPU (MPS): its weights stay on the CPU.",
        stacklevel=3,
    )
