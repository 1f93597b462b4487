"""Times, waits of the host, launches and memory on one device. On a CPU there are only times."""

import collections
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

PACKAGES = ("torch", "triton", "spacy", "thinc", "transformers", "numpy")
CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x", "cupy")


@dataclass
class Device:
    """Where everything is measured. gpu: number of the GPU, -1 for the CPU."""

    gpu: int
    #: When the run began, and after how many seconds no new measurement begins.
    seconds: float = 150.0
    began: float = field(default_factory=time.perf_counter)

    @property
    def torch(self) -> torch.device:
        """The device as torch names it."""
        return torch.device("cpu" if self.gpu < 0 else f"cuda:{self.gpu}")

    @property
    def spent(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self.began

    @property
    def is_over(self) -> bool:
        """Whether the time of the run is used up."""
        return self.spent > self.seconds

    def wait(self) -> None:
        """Wait until the device has done all that was launched."""
        if self.gpu >= 0:
            torch.cuda.synchronize(self.torch)

    def times(self, job: Callable[[], Any], repeats: int, most: float = 3.0) -> list[float]:
        """Seconds of each call, after one call to warm up.

        repeats: number of calls. There are fewer, at least one, once `most` seconds are spent.
        """
        job()
        self.wait()
        out: list[float] = []
        while len(out) < repeats and (not out or sum(out) < most):
            began = time.perf_counter()
            job()
            self.wait()
            out.append(time.perf_counter() - began)
        return out

    def median(self, job: Callable[[], Any], repeats: int = 5, most: float = 3.0) -> float:
        """Median of `times`, in seconds."""
        return statistics.median(self.times(job, repeats, most))

    def waits(self, job: Callable[[], Any]) -> dict[str, int]:
        """How often the host waits for the device, by file and line.

        torch warns at each operation that waits (`torch.cuda.set_sync_debug_mode`). Libraries
        that do not use torch, such as CuPy, are not seen.
        """
        if self.gpu < 0:
            return {}
        job()
        self.wait()
        with waits_seen() as found:
            job()
        self.wait()
        return found

    def launches(self, job: Callable[[], Any]) -> dict[str, Any]:
        """Launches, copies, and the share of the time in which the device works.

        Profiling slows the host down, so the share is of the time without a profiler.
        """
        wall = self.median(job, 3)
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.gpu >= 0 else [])]
        with profile(activities=kinds) as seen:
            job()
            self.wait()
        rows = seen.key_averages()
        busy = sum(getattr(row, "self_device_time_total", 0) for row in rows) / 1e6

        def count(*names: str) -> int:
            return sum(row.count for row in rows if any(name in row.key for name in names))

        return {
            "milliseconds": 1e3 * wall,
            "launches": count("LaunchKernel", "cuLaunch", "GraphLaunch"),
            "copies": count("MemcpyAsync", "cudaMemcpy2D"),
            "waits_of_cuda": count("Synchronize") - 1 if self.gpu >= 0 else 0,
            "busy": min(1.0, busy / wall),
        }

    def peak(self, job: Callable[[], Any]) -> float | None:
        """Most memory that torch holds at a time during a call, in GiB; None on a CPU."""
        if self.gpu < 0:
            job()
            return None
        torch.cuda.reset_peak_memory_stats(self.torch)
        job()
        self.wait()
        return torch.cuda.max_memory_allocated(self.torch) / 2**30

    def describe(self) -> dict[str, Any]:
        """Card, memory, driver, and versions of CUDA and of the packages."""
        found: dict[str, Any] = {"versions": versions(), "cuda": torch.version.cuda}
        if self.gpu >= 0:
            card = torch.cuda.get_device_properties(self.torch)
            found |= {
                "card": card.name,
                "memory_gib": round(card.total_memory / 2**30, 1),
                "capability": f"{card.major}.{card.minor}",
                "driver": driver(self.gpu),
            }
        return found


@contextmanager
def waits_seen() -> Iterator[dict[str, int]]:
    """The waits of the host within the block, by file and line. It is filled at the block's end."""
    found: dict[str, int] = {}
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            yield found
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = (
        f"{Path(each.filename).name}:{each.lineno}"
        for each in seen
        if "synchroniz" in str(each.message)
    )
    found |= collections.Counter(places)


def versions() -> dict[str, str]:
    """Versions of the packages that matter here and are installed."""
    found = {}
    for name in (*PACKAGES, *CUPY):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def driver(gpu: int) -> str:
    """Version of the driver, by nvidia-smi; empty where that is missing."""
    command = ["nvidia-smi", f"--id={gpu}", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
