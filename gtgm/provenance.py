"""Where a result comes from: versions, commit, hardware, time and memory."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import threading
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

import gtgm
from gtgm import paths

PACKAGES = ("torch", "monai", "transformers", "numpy")
_CODE = ("gtgm", "notebooks", "workflow")


@cache
def provenance() -> dict[str, Any]:
    """``versions``, ``commit`` and ``hardware`` of this process, as a result holds them.

    The commit ends in ``-dirty`` if code, notebooks or workflow differ from it, and is ``None``
    outside a git checkout.
    """
    versions = {"python": platform.python_version(), "gtgm": gtgm.__version__}
    versions |= {name: metadata.version(name) for name in PACKAGES}
    return {"versions": versions, "commit": commit(paths.ROOT), "hardware": _hardware()}


def commit(checkout: Path) -> str | None:
    """Commit of a checkout, with ``-dirty`` if its code was changed; ``None`` if it is none."""
    top = _git(checkout, "rev-parse", "--show-toplevel")
    head = _git(checkout, "rev-parse", "HEAD")
    if not head or Path(top or "").resolve() != checkout.resolve():
        return None
    changed = _git(checkout, "status", "--porcelain", "--", *_CODE)
    return f"{head}-dirty" if changed else head


class MemoryPeak:
    """Highest resident memory of this process and its children, sampled in a thread.

    Memory that parent and child share is counted in both.
    """

    def __init__(self, start: float, every: float = 0.1) -> None:
        self._start, self._every = start, every
        self._end: float | None = None
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def wall_seconds(self) -> float:
        """Seconds since the start, until the end if that has come."""
        return (self._end if self._end is not None else time.perf_counter()) - self._start

    @property
    def peak_memory_gb(self) -> float:
        """Highest sample so far, in 10⁹ bytes."""
        return self._peak / 1e9

    def __enter__(self) -> MemoryPeak:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        self._end = time.perf_counter()
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(self._every):
            self._look()

    def _look(self) -> None:
        me = psutil.Process()
        total = me.memory_info().rss
        for child in me.children(recursive=True):
            with contextlib.suppress(psutil.Error):  # a child may end at any moment
                total += child.memory_info().rss
        self._peak = max(self._peak, total)


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine_name(hardware: dict[str, Any]) -> str:
    """A result's ``hardware`` in words."""
    parts = [hardware.get("cpu"), f"{hardware.get('cores')} cores", f"{hardware.get('ram_gb')} GB"]
    return ", ".join(str(p) for p in [*parts, hardware.get("gpu")] if p)


def _hardware() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "ram_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": ", ".join(gpus) or None,
    }


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether torch can be expected to use a GPU here, asked without importing it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or metadata.version("torch").endswith("+cpu"):
        return False
    devices = Path("/dev")  # nvidia0 of CUDA, dxg of any GPU below Windows, kfd of AMD
    windows = (devices / "dxg").exists() and shutil.which("nvidia-smi") is not None
    return windows or any(devices.glob("nvidia[0-9]*")) or (devices / "kfd").exists()


def cpu_name() -> str:
    """The processor as the system calls it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
