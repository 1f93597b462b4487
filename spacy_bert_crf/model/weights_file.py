"""An encoder's weights in a safetensors file of their own, which loading maps and does not copy.

The shim saves a checksum of the file: XXH3 with 64 bits, from the library xxhash. It is computed
and compared at each loading. Pipelines of earlier versions hold another kind of checksum, which is
still compared.
"""

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Optional

import numpy as np
import safetensors
import safetensors.torch
import xxhash
from torch import Tensor

from .._files import atomic_file
from ..errors import BertCrfError

NAME = "encoder.safetensors"

#: Key of the checksum in what a shim saves.
XXH3 = "weights_xxh3"

#: The file that is written or read beside a component's `model`, in this thread.
_beside: ContextVar[Optional[Path]] = ContextVar("_beside", default=None)


class WeightsFileError(BertCrfError):
    """A weights file that is missing, damaged, or does not belong to the `model` beside it."""


@contextmanager
def weights_beside(folder: Path) -> Iterator[None]:
    """Let encoders that are saved to bytes or loaded from bytes keep their weights in `folder`.

    It holds within the `with` block and for this thread only.
    """
    token = _beside.set(folder / NAME)
    try:
        yield
    finally:
        _beside.reset(token)


def beside() -> Optional[Path]:
    """The weights file of the folder that is written or read; None if there is no such folder."""
    return _beside.get()


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> int:
    """Write the file by rename, so that processes that have the former file mapped keep it.

    path: the file.
    weights: tensors by name.
    RETURNS: the checksum of the file, XXH3 with 64 bits.
    Raises BertCrfError if the file can't be written.
    """
    data = safetensors.torch.save(dict(weights), metadata={"format": "pt"})
    length = int.from_bytes(data[:8], "little")
    # Spaces after the header are allowed. They let the first tensor start at a cache line.
    spaces = -(8 + length) % 64
    head = (length + spaces).to_bytes(8, "little") + data[8 : 8 + length] + b" " * spaces
    body = memoryview(data)[8 + length :]
    with atomic_file(path) as tmp, tmp.open("wb") as file:
        file.write(head)
        file.write(body)
    digest = xxhash.xxh3_64(head)
    digest.update(body)
    return digest.intdigest()


class PendingWeights:
    """Weights of a file. A thread computes the checksum while the rest of a pipeline is loaded.

    path: the weights file.
    kind: the kind of checksum, a key of CHECKSUMS.
    tensors: by name. They are mapped and private to the process: changes do not reach the file.
        They must not be used before `check` has returned.
    Raises WeightsFileError if the file can't be read.
    """

    def __init__(self, path: Path, kind: str = XXH3) -> None:
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
        self._found: Future[int] = pool.submit(_checksum, path, CHECKSUMS[kind])
        pool.shutdown(wait=False)

    def check(self, checksum: int) -> None:
        """Wait for the checksum and compare it. Raises WeightsFileError if it differs."""
        try:
            found = self._found.result()
        except (OSError, ValueError) as err:
            raise WeightsFileError(str(err)) from err
        if found != checksum:
            raise WeightsFileError(
                "its bytes are not those that were saved with `model` beside it (checksum)"
            )


def _checksum(path: Path, compute: Callable[[Any], int]) -> int:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        return compute(data)


def _block_sums(data: mmap) -> int:
    """An earlier checksum: CRC-32 of the header, of the sums of 8 KB blocks and of the rest."""
    begin = 8 + int.from_bytes(data[:8], "little")
    words: Any = np.frombuffer(data, "<u8", (len(data) - begin) // 8, begin)
    # shape: [blocks, 1024]
    blocks = words[: len(words) // 1024 * 1024].reshape(-1, 1024)
    sums = blocks.sum(1, dtype=np.uint64).astype("<u8")
    rest = data[begin + blocks.nbytes :]
    return zlib.crc32(rest, zlib.crc32(sums.tobytes(), zlib.crc32(data[:begin])))


#: Kinds of checksums by their key in what a shim saves. Only the first is still written.
CHECKSUMS: dict[str, Callable[[Any], int]] = {
    XXH3: xxhash.xxh3_64_intdigest,
    "weights_checksum": _block_sums,
    "weights_crc32": zlib.crc32,
}
