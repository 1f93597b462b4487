"""A pretend CUDA device: tests of the project's CUDA paths on a machine without a GPU.

`install()` makes this process believe that it has one GPU. Call it before torch, thinc, spaCy and
transformers are imported. A tensor of the device reports `cuda:0`; its numbers lie on the CPU.

What it shows:

- No operation mixes devices. Nothing reads an array of the device implicitly.
- Results are those of the CPU.
- How often the host waits for the device, with file and line of each wait.
- How many kernels are launched, and how many copies go each way. A launch is an operation that
  computes; views and allocations are not counted. Real CUDA may need several kernels for it.
- What a copy with `non_blocking=True` promises. The host gets the numbers after a wait only, and
  a pinned buffer that is overwritten before its copy has ended is an error.

What it can't show: speed, memory, streams, races on the device, alignment, kernels that do not
exist for a dtype, several GPUs, rounding of real kernels, and Triton kernels. `import triton`
fails on the pretend device, so code for them takes its fallback.

Modules:

- `guard.cpp`, `guard`: a small library that lets torch for the CPU take tensors of `cuda:0`.
- `log`: what is counted.
- `tensors`: the tensor class.
- `operations`: how each operation runs, and what it counts.
- `attention`: the fused attention kernels.
- `transfers`: copies that do not block, events and streams.
- `arrays`, `thinc_ops`: a stand-in for CuPy, and thinc's operations on it.
- `torch_cuda`: what `torch.cuda` says of the GPU.
- `site/sitecustomize.py`: installs the device in each Python process with that folder on its path.
- `environment`: the environment of such processes.
"""

from typing import Any


def install(bf16: bool = True) -> None:
    """Make this process believe that it has a GPU.

    bf16: whether the GPU computes in bfloat16. Without it, it is one for float16 (a T4).
    Raises RuntimeError if torch or thinc is imported already, or if the guard can't be built.
    """
    import sys

    early = [name for name in ("torch", "thinc", "spacy", "cupy") if name in sys.modules]
    if early:
        raise RuntimeError(f"install() comes before the import of {', '.join(early)}")
    from .guard import load

    load()
    sys.modules["triton"] = None  # type: ignore[assignment]
    from .arrays import make_cupy

    make_cupy()
    from .torch_cuda import A100, T4, patch_torch

    patch_torch(A100 if bf16 else T4)
    from .thinc_ops import patch_thinc

    patch_thinc()


def __getattr__(name: str) -> Any:
    """LOG, counted and PretendTensor, which come with torch."""
    if name in ("LOG", "counted"):
        from . import log

        return getattr(log, name)
    if name == "PretendTensor":
        from .tensors import PretendTensor

        return PretendTensor
    raise AttributeError(name)
