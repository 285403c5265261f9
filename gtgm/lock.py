"""Locks of files, which end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import errno
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from gtgm import paths
from gtgm.faults import storage_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: Seconds between attempts to take a lock: `gtgm status` holds one for an instant.
PATIENCE = (0.1, 0.2, 0.5)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def take(file: int, pauses: tuple[float, ...]) -> bool:
    """Lock an open file; again after each pause if somebody else holds it.

    Where there are no locks, as on some network disks, it warns and counts as taken.
    """
    for pause in (0.0, *pauses):
        time.sleep(pause)
        with contextlib.suppress(BlockingIOError):
            _lock(file, wait=False)
            return True
    return False


@contextlib.contextmanager
def held(folder: Path, name: str = "", wait: bool = True) -> Iterator[bool]:
    """Hold a folder's lock, and delete what killed writers left there.

    Args:
        folder: made if it is absent.
        name: of the file or folder in it that is written; empty for everything.
        wait: for who holds it now; otherwise the block runs without it, and is told so.

    Yields:
        Whether the lock is held.

    Raises:
        StorageError: the folder cannot be made or written in.
    """
    path = paths.make_folder(folder) / (f".{name}.lock" if name else ".lock")
    try:
        file = path.open("a")
    except OSError as error:
        raise storage_error(error, path) from error
    with file:
        got = take(file.fileno(), PATIENCE)
        if not got and wait:
            print(f"waiting   {folder / name}: another process works there", flush=True)
            _lock(file.fileno(), wait=True)
            got = True
        if not got:
            yield False
            return
        try:
            paths.sweep(folder, name)
            yield True
        finally:
            # Not by closing: workers that were forked meanwhile have the file open, too.
            _unlock(file.fileno())


def _lock(file: int, wait: bool) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"this disk has no locks ({error.strerror}): start no second process in the folder",
            stacklevel=3,
        )


def _unlock(file: int) -> None:
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
