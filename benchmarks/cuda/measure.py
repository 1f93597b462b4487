"""Times, waits and kernels of something that runs on a GPU, or on the CPU."""

import collections
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def wait() -> None:
    """Wait until the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(run: Callable[[], Any], rounds: int = 5) -> float:
    """Median seconds, after one round to warm up."""
    run()
    seconds = []
    for _ in range(rounds):
        wait()
        began = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def waits(run: Callable[[], Any]) -> dict[str, int]:
    """Where the host waits, as "file:line" and how often, by torch's own warnings.

    Waits for an event are not among them. There is one for each batch in prediction.
    """
    if not torch.cuda.is_available():
        return {}
    run()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = [each for each in seen if "synchroniz" in str(each.message)]
    found = [each for each in found if "prototype feature" not in str(each.message)]
    return dict(collections.Counter(f"{Path(w.filename).name}:{w.lineno}" for w in found))


def kernels(run: Callable[[], Any]) -> dict[str, float]:
    """Launches and copies, and the share of the time in which the GPU works, by the profiler."""
    on_gpu = torch.cuda.is_available()
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    seconds = timed(run, 3)
    with profile(activities=kinds) as seen:
        run()
        wait()
    rows = seen.key_averages()
    calls = {row.key: row.count for row in rows}
    # The rows of operations repeat the time of their kernels.
    busy = sum(row.self_device_time_total for row in rows if str(row.device_type).endswith("CUDA"))
    return {
        "launches": sum(n for key, n in calls.items() if "LaunchKernel" in key),
        "copies": sum(n for key, n in calls.items() if "cudaMemcpyAsync" in key),
        "busy": min(1.0, busy / 1e6 / seconds),
    }


def memory(run: Callable[[], Any]) -> float:
    """Largest memory of the GPU while something runs, in GiB; 0 on the CPU."""
    if not torch.cuda.is_available():
        run()
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    run()
    wait()
    return torch.cuda.max_memory_allocated() / 2**30
