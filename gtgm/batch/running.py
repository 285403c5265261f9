"""Processes that have not ended yet."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil


def still_running(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those of the processes that run after so many seconds at most.

    One that has ended counts as such also while nobody has asked for its exit code, as in a
    container whose first process never does.
    """
    end, left = time.monotonic() + seconds, list(processes)
    while True:
        left = [p for p in psutil.wait_procs(left, timeout=0)[1] if not _is_zombie(p)]
        if not left or time.monotonic() >= end:
            return left
        time.sleep(0.05)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
