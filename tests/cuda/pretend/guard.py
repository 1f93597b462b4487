"""Builds and loads the library that lets torch for the CPU take tensors of `cuda:0`."""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

SOURCE = Path(__file__).with_name("guard.cpp")
#: Where the built library is kept: a folder that git ignores.
CACHE = Path(__file__).resolve().parents[3] / ".pytest_cache" / "pretend-cuda"


def reason_not_to_run() -> Optional[str]:
    """Why the pretend device can't be had on this machine; None where it can."""
    if sys.platform != "linux":
        return "the pretend CUDA device is written for Linux"
    if shutil.which("g++") is None:
        return "the pretend CUDA device needs g++"
    return None


def build() -> Path:
    """The library for this torch; it is built if it is not there. RETURNS: its path.

    Raises RuntimeError with the compiler's message if it can't be built.
    """
    if reason := reason_not_to_run():
        raise RuntimeError(reason)
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.submodule_search_locations
    torch = Path(spec.submodule_search_locations[0])
    version = importlib.metadata.version("torch")
    digest = hashlib.sha256(f"{torch} {version} {sys.version}".encode() + SOURCE.read_bytes())
    library = CACHE / f"guard-{digest.hexdigest()[:16]}.so"
    if library.is_file():
        return library
    CACHE.mkdir(parents=True, exist_ok=True)
    made = CACHE / f"{library.stem}-{os.getpid()}.so"  # another process may build it, too
    command = ["g++", "-O1", "-std=c++20", "-shared", "-fPIC", f"-I{torch}/include", str(SOURCE)]
    command += ["-o", str(made), f"-L{torch}/lib", "-lc10", "-ltorch_cpu"]
    command += [f"-Wl,-rpath,{torch}/lib"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{SOURCE} can't be built:\n{' '.join(command)}\n{done.stderr}")
    os.replace(made, library)
    return library


def load() -> None:
    """Load the library. Torch asks for it once, when it is imported, so it comes before torch."""
    ctypes.CDLL(str(build()), mode=ctypes.RTLD_GLOBAL)
