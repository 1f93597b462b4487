"""Where the Triton kernels can be used."""

import functools
import importlib.util
import warnings
from contextlib import AbstractContextManager

import torch
from torch import Tensor

#: Largest number of tags of the kernels. Their tables of tag pairs must fit into registers.
MAX_TAGS = 128


def has_kernels(device: torch.device) -> bool:
    """Whether the kernels run on a device. Tests may replace this function.

    At the first call for a CUDA device, the kernels are compiled and run once. Where this fails,
    a warning says why, and the computation is done by torch.
    """
    return device.type == "cuda" and _works(torch.device("cuda", device.index or 0))


def use_kernels(emissions: Tensor) -> bool:
    """Whether the kernels compute this batch.

    emissions: [B, T, K]
    """
    fits = emissions.shape[2] <= MAX_TAGS and emissions.numel() > 0
    return fits and has_kernels(emissions.device)


def padded(n_tags: int) -> int:
    """The number of tags that a kernel computes: a power of two."""
    return max(8, 1 << (n_tags - 1).bit_length())


def warps(n_tags: int) -> int:
    """Number of warps of a program. A thread holds 8 tag pairs, or 32 of the largest tables.

    With more, the registers do not suffice for exp() in float64. 1024 threads are the limit of a
    program, which is 16 warps on AMD.
    """
    return max(1, min(16, padded(n_tags) ** 2 // 256))


def on_device_of(tensor: Tensor) -> AbstractContextManager[None]:
    """Within the block, kernels are launched on the device of a tensor."""
    return torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call, no-any-return]


@functools.cache
def _works(device: torch.device) -> bool:
    """Whether a small batch goes through all kernels. Triton needs a C compiler, for example."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        _try(device)
    except Exception as err:  # Whatever is wrong with an installation, torch can compute it.
        warnings.warn(
            f"the Triton kernels of the CRF can't be used on {device}, so torch computes it, which "
            f"takes longer: {type(err).__name__}: {err}",
            stacklevel=2,
        )
        return False
    return True


def _try(device: torch.device) -> None:
    from ..forward_backward import Weights
    from .scan import KernelScan
    from .viterbi import viterbi

    with torch.inference_mode():
        emissions = torch.zeros((1, 2, 2), device=device)
        start, transitions = emissions[0, 0], emissions[0]
        mask = torch.ones((1, 2), dtype=torch.bool, device=device)
        allowed = torch.ones_like(emissions, dtype=torch.bool)
        scan = KernelScan(emissions, Weights(start, start, transitions), mask, allowed, True)
        scan.input_gradients(scan.log_z)
        viterbi(emissions, start, start, transitions, mask)
