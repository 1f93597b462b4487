"""A copy of a CRF on the host, for batches that a CPU decodes sooner than a GPU is told to."""

import copy
import threading
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import nn

#: The class of a CRF. It is not imported, since nothing but its tensors is used.
Crf = TypeVar("Crf", bound=nn.Module)

_copies: "WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]]" = WeakKeyDictionary()
_lock = threading.Lock()


def crf_on(crf: Crf, device: torch.device) -> Crf:
    """The CRF itself where it is on this device, else a copy on the host.

    The copy is kept until the scores or the constraints change. Safe from several threads.

    crf: the CRF.
    device: the device of the emissions: that of the CRF, or the CPU.
    """
    tensors = [*crf.parameters(), *crf.buffers()]
    if tensors[0].device.type == device.type:
        return crf
    stamp = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
    with _lock:
        kept = _copies.get(crf)
        if kept is None or kept[0] != stamp:
            with torch.inference_mode(False), torch.no_grad():
                kept = _copies[crf] = (stamp, copy.deepcopy(crf).to("cpu"))
        return cast(Crf, kept[1])
