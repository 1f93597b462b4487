"""What a benchmark ran on."""

import os
import platform
from pathlib import Path
from typing import Any

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


def gpu_name(gpu_id: int) -> str:
    """The GPU of this number, in words; empty for -1, the CPU."""
    if gpu_id < 0:
        return ""
    import torch

    return str(torch.cuda.get_device_name(gpu_id))


def cpu_flags() -> set[str]:
    """Instruction sets of the processor; empty where /proc/cpuinfo doesn't say."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return set()
    for line in path.read_text(encoding="utf8").splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def machine() -> str:
    """Processor, cores and memory, in words."""
    name = platform.machine()
    memory = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
        name = models[0] if models else name
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        memory = f", {size:.0f} GiB memory"
    return f"{name}, {os.cpu_count()} cores{memory}, {platform.system()}"
