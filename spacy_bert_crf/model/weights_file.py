"""An encoder's weights in a safetensors file of their own, which loading maps and does not copy.

A checksum of the file is kept with what the shim saves. It is computed at each loading, so it has
to be fast: a CRC-32 of the header and, instead of the weights, of the sums of their blocks, which
takes a fifth of a CRC's time. Any block that changes has another sum, but for one in 2^64.
"""

import sys
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Optional

import numpy as np
import safetensors
import safetensors.torch
from torch import Tensor

from .._files import atomic_file
from ..errors import BertCrfError

NAME = "encoder.safetensors"

#: Words of 8 bytes whose sum stands for them in the checksum.
_BLOCK = 1024

#: The file that is being written or read beside a component's `model`, in this thread.
_beside: ContextVar[Optional[Path]] = ContextVar("_beside", default=None)


class WeightsFileError(BertCrfError):
    """A weights file that is missing, damaged, or not the one that belongs to its `model`."""


@contextmanager
def weights_beside(folder: Path) -> Iterator[None]:
    """Within it, encoders are saved to bytes and loaded from bytes with their weights in a file in
    this folder. In other threads nothing changes."""
    token = _beside.set(folder / NAME)
    try:
        yield
    finally:
        _beside.reset(token)


def beside() -> Optional[Path]:
    """The weights file of the folder that is being written or read; None if there is none."""
    return _beside.get()


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> int:
    """Write the file by rename, so that who has the former one mapped keeps it.

    RETURNS: its checksum. Raises BertCrfError if it can't be written.
    """
    data = safetensors.torch.save(dict(weights), metadata={"format": "pt"})
    length = int.from_bytes(data[:8], "little")
    # Spaces after the header are allowed; with them the first tensor starts a cache line.
    spaces = -(8 + length) % 64
    head = (length + spaces).to_bytes(8, "little") + data[8 : 8 + length] + b" " * spaces
    body = memoryview(data)[8 + length :]
    with atomic_file(path) as tmp, tmp.open("wb") as file:
        file.write(head)
        file.write(body)
    return _checksum(head, body)


class PendingWeights:
    """Weights of a file whose checksum is computed by a thread while the rest is loaded.

    tensors: by name. They are mapped, private to the process (changes are not written back), and
        not to be used before `check` has returned.
    Raises WeightsFileError if the file can't be read.
    """

    def __init__(self, path: Path, is_crc: bool = False) -> None:
        """is_crc: the checksum is a CRC-32 of the whole file, as the first version had it."""
        try:
            if sys.platform == "win32":  # a mapped file could not be replaced there
                self.tensors = safetensors.torch.load(path.read_bytes())
            else:
                self.tensors = safetensors.torch.load_file(path)
        except FileNotFoundError as err:
            raise WeightsFileError("it is missing, and `model` beside it needs it") from err
        except (OSError, safetensors.SafetensorError) as err:
            raise WeightsFileError(str(err)) from err
        pool = ThreadPoolExecutor(1)
        self._found: Future[int] = pool.submit(_checksum_of, path, is_crc)
        pool.shutdown(wait=False)

    def check(self, checksum: int) -> None:
        """Wait for the checksum. Raises WeightsFileError if it is another one."""
        try:
            found = self._found.result()
        except (OSError, ValueError) as err:
            raise WeightsFileError(str(err)) from err
        if found != checksum:
            raise WeightsFileError(
                "its bytes are not those that were saved with `model` beside it (checksum)"
            )


def _checksum_of(path: Path, is_crc: bool) -> int:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        if is_crc:
            return zlib.crc32(data)
        begin = 8 + int.from_bytes(data[:8], "little")
        with memoryview(data) as view, view[begin:] as body:
            return _checksum(data[:begin], body)


def _checksum(head: bytes, body: memoryview) -> int:
    """See the module. head: the file up to its weights. body: the rest."""
    words: Any = np.frombuffer(body, "<u8", len(body) // 8)
    blocks = words[: len(words) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    sums = blocks.sum(1, dtype=np.uint64).astype("<u8")
    return zlib.crc32(bytes(body[blocks.nbytes :]), zlib.crc32(sums.tobytes(), zlib.crc32(head)))
