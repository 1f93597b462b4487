"""A copy of a CRF on the host, for batches that a CPU decodes sooner than a GPU is told to."""

import copy
import threading
from weakref import WeakKeyDictionary

import torch

from .linear_chain import LinearChainCRF

_Stamp = tuple[tuple[int, int], ...]

_copies: "WeakKeyDictionary[LinearChainCRF, tuple[_Stamp, LinearChainCRF]]" = WeakKeyDictionary()
_lock = threading.Lock()


def crf_on(crf: LinearChainCRF, device: torch.device) -> LinearChainCRF:
    """The CRF itself where it is on this device, else a copy on the host.

    The copy is kept until the scores or the constraints change. Safe from several threads.

    crf: the CRF.
    device: the device of the emissions: that of the CRF, or the CPU.
    """
    if crf.transitions.device.type == device.type:
        return crf
    tensors = [*crf.parameters(), *crf.buffers()]
    stamp = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
    with _lock:
        kept = _copies.get(crf)
        if kept is None or kept[0] != stamp:
            with torch.inference_mode(False), torch.no_grad():
                kept = _copies[crf] = (stamp, copy.deepcopy(crf).to("cpu"))
        return kept[1]
