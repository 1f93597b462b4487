"""The layout of checkpoints as bert-base-chinese was published: first ids, and file format."""

import io
import pickle
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

#: The first ids of bert-base-chinese.
FIRST_PIECES = ["[PAD]", *(f"[unused{i}]" for i in range(1, 100)), "[UNK]", "[CLS]", "[SEP]"]
FIRST_PIECES += ["[MASK]"]


def legacy_bytes(tensors: "dict[str, Tensor]") -> bytes:
    """Return float32 tensors in the file format of torch before 1.6.

    Same tensors give the same bytes. torch.save can write this format too, but it names each
    storage by its address in memory.
    """
    import torch
    from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

    keys: dict[int, str] = {}
    storages: list[Tensor] = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if not isinstance(obj, torch.storage.TypedStorage):
                return None
            address = obj._untyped_storage.data_ptr()
            if address not in keys:
                keys[address] = str(len(keys))
                storages.append(torch.tensor([]).set_(obj._untyped_storage))
            count = obj._untyped_storage.nbytes() // 4
            return ("storage", torch.FloatStorage, keys[address], "cpu", count, None)

    type_sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": PROTOCOL_VERSION, "little_endian": sys.byteorder == "little"}
    out = io.BytesIO()
    for header in (MAGIC_NUMBER, PROTOCOL_VERSION, {**system, "type_sizes": type_sizes}):
        pickle.dump(header, out, protocol=2)
    Pickler(out, protocol=2).dump(tensors)
    pickle.dump(list(keys.values()), out, protocol=2)
    for storage in storages:
        out.write(struct.pack("=q", storage.numel()))
        out.write(storage.numpy().tobytes())
    return out.getvalue()
