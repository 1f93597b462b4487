"""What a benchmark ran on."""

import os
import platform
from pathlib import Path
from typing import Any

from common import machine

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def describe_machine(threads: int) -> dict[str, Any]:
    """Processor, instruction sets that matter here, cores, threads, load before the start."""
    return {
        "machine": machine(),
        "flags": {flag: flag in cpu_flags() for flag in FLAGS},
        "cores": os.cpu_count(),
        "threads": threads,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
    }


def cpu_flags() -> set[str]:
    """Instruction sets of the processor; empty where /proc/cpuinfo doesn't say."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return set()
    for line in path.read_text(encoding="utf8").splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()
