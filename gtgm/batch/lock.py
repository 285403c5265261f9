"""Locks of units: one execution of a unit at a time, and who is at work."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from gtgm.batch.running import still_running
from gtgm.lock import PATIENCE, take

#: Environment variable that a unit's processes inherit, with the path of the unit's lock.
MARK = "GTGM_EXECUTION"


@contextlib.contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Be the only execution that holds this lock.

    A killed batch may leave an execution at work: it is waited for, its lock goes with it. Or it
    may leave just the kernel, whose files would mix with ours: that is ended.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        if not take(file.fileno(), PATIENCE):
            print(f"waiting   {path.name}: an earlier batch still executes it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        os.utime(file.fileno())
        mark = str(path.resolve())
        _end_leftovers(mark)
        with environment({MARK: mark}):
            yield


def held_since(path: str | Path) -> float | None:
    """Time at which the lock was taken, in seconds since the epoch; None if nobody holds it."""
    try:
        with Path(path).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return os.stat(file.fileno()).st_mtime
    except FileNotFoundError:
        pass
    return None


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started meanwhile."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)


def _end_leftovers(mark: str) -> None:
    """End the processes that carry the mark of this unit: children of an execution that is gone."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                process.kill()
                left.append(process)
    still_running(left, 30)
