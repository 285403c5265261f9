"""Time and memory of a piece of work, in a process of its own."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

Found = TypeVar("Found")


def in_own_process(work: Callable[..., Found], *arguments: Any) -> Found:
    """``work(*arguments)`` in a fresh process that ends afterwards, so that its peak is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(work, *arguments).result()


def alone(work: Callable[..., Found], *arguments: Any) -> Found:
    """``work(*arguments)`` so that its peak memory is its own: in a fresh process, or with a GPU
    here, where torch starts its count anew."""
    if not torch.cuda.is_available():
        return in_own_process(work, *arguments)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return work(*arguments)


def timed(step: Callable[[], Any], repeats: int, warm_up: int = 1) -> dict[str, Any]:
    """Median seconds of a step after some that do not count, and the peak memory in GB.

    The peak is that of the process, or on a GPU of torch's allocations there.
    """
    seconds = []
    for number in range(warm_up + repeats):
        begin = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= warm_up:
            seconds.append(time.perf_counter() - begin)
    return {"seconds": statistics.median(seconds), "all_seconds": seconds, "peak_gb": peak() / 1e9}


def forget_peak() -> None:
    """Start the peak of this process anew, where Linux allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Highest memory so far in bytes: of this process, or of torch on its GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resident_peak()


def resident_peak() -> int:
    """Highest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage counts what the parent held before the start
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
