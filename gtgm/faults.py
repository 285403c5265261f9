"""What a machine runs out of, or refuses, in words that say what to do.

Libraries report a full disk, the end of memory or a killed worker in many ways, most of them from
deep inside. Here they become one error each.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from gtgm.errors import GTGMError

AGAIN = "start the same command again, which continues where it can"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WHY_FULL = {
    errno.EDQUOT: "your quota of the disk is used up",
    errno.EFBIG: "the disk is full, or the file larger than `ulimit -f` or the disk's format allow",
}
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how Rust, of safetensors, names errno
_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "Unable to allocate")
_SHARED_MEMORY = ("</torch_", "/dev/shm", "Bus error")
_WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? [\d, ]+\)")


class StorageError(GTGMError):
    """A file cannot be written: the disk is full, read-only, or belongs to somebody else."""


class ResourceError(GTGMError):
    """Memory has ended, or a process that was needed is gone."""


def storage_error(
    error: BaseException, path: Path, temporary: Path | None = None
) -> StorageError | None:
    """The error of a file that could not be written; None if ``error`` is about something else.

    Args:
        error: that a library or the system raised.
        path: that was to be written.
        temporary: what stood for it meanwhile.
    """
    if isinstance(error, OSError):
        named = {path, temporary, *path.parents}
        if error.errno == errno.ENOMEM or (error.filename and Path(error.filename) not in named):
            return None
        number, text = error.errno, error.strerror or str(error)
    else:
        text = str(error)
        rust = _OS_ERROR.search(text)
        if not rust:
            return None
        number = int(rust[1])
    where = next(p for p in (path.parent, *path.parent.parents) if p.exists())
    free = shutil.disk_usage(where).free
    if number in FULL:
        return StorageError(
            f"cannot be written: {_WHY_FULL.get(number, 'the disk is full')} "
            f"({free / 1e9:.2f} GB free)",
            where=path,
            expected="room for the file; nothing that was there before is lost",
            fix="free some space, or name a folder on a larger disk (of runs: GTGM_RUNS or "
            f"--runs); then {AGAIN}",
        )
    if number in _FORBIDDEN:
        why = "the folder is read-only" if number == errno.EROFS else "you may not write there"
        return StorageError(
            f"cannot be written: {why}",
            where=path,
            expected="a folder that you may write in",
            fix="change its permissions, or name another one (of runs: GTGM_RUNS or --runs)",
        )
    return StorageError(
        f"cannot be written ({text.splitlines()[0]})",
        where=path,
        expected="a folder that can be written in; nothing that was there before is lost",
        fix=f"see if disk and folder are there and in order; then {AGAIN}",
    )


@contextlib.contextmanager
def explained(where: str | Path | None = None) -> Iterator[None]:
    """Raise a :class:`ResourceError` in place of a library's error about memory or workers.

    Args:
        where: the run or file that is worked on.

    Raises:
        ResourceError: memory ended, or a worker process is gone.
        StorageError: a full or forbidden disk, met outside of :func:`gtgm.paths.atomic`.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        explanation = _explanation(error, where)
        if explanation is None:
            raise
        raise explanation from error


def _explanation(error: Exception, where: str | Path | None) -> GTGMError | None:
    text = str(error)
    first = (text.strip().splitlines() or [type(error).__name__])[0].split(". ")[0]
    lost = _WORKER.search(text)
    if lost:
        return ResourceError(
            f"a worker process is gone ({lost[0]})",
            where=where,
            expected="as many workers as memory holds",
            fix=f"set fewer workers; {AGAIN}. The system's log says if memory was short",
        )
    if any(sign in text for sign in _SHARED_MEMORY):
        return ResourceError(
            f"shared memory has ended ({first})",
            where=where,
            expected="room in /dev/shm for what workers hand over",
            fix=f"set workers=0, or give the container more shared memory; {AGAIN}",
        )
    no_memory = isinstance(error, OSError) and error.errno == errno.ENOMEM
    if no_memory or isinstance(error, MemoryError) or any(sign in text for sign in _MEMORY):
        device = "the GPU's memory" if "CUDA" in text or "HIP" in text else "memory"
        return ResourceError(
            f"{device} has ended ({first})",
            where=where,
            expected="a batch, and volumes, that fit",
            fix="set chunk=1 (fine-tuning on a GPU: --memory 8), a smaller batch or patch, or "
            f"volumes=disk; other programs may use the memory too. Then {AGAIN}",
        )
    # What may not be read is also forbidden, so that this alone says nothing about writing.
    refused = (*FULL, errno.EROFS)
    if isinstance(error, OSError) and error.errno in refused and error.filename:
        return storage_error(error, Path(error.filename))
    return None
