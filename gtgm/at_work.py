"""One process at a time in the folder of a run."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path

from gtgm import paths
from gtgm.batch.lock import PATIENCE, take
from gtgm.device import process_state
from gtgm.faults import explained, storage_error

RESULT = "result.json"
LOCK = ".lock"


def once(folder: str | Path, work: Callable[[], object], together: bool = False) -> None:
    """Do the work of a run, unless its result is there; if it is being done, wait for it.

    Args:
        folder: of the run; ``work`` leaves ``result.json`` in it, last.
        work: makes the run.
        together: all processes of ``accelerate launch`` do it.

    Raises:
        StorageError, ResourceError: see :func:`at_work`, and what ``work`` raises.
    """
    done = Path(folder) / RESULT
    if done.exists():
        return
    with at_work(folder):
        if together:  # all of them look now that the main one holds the folder
            process_state().wait_for_everyone()
        if not done.exists():
            work()


@contextlib.contextmanager
def at_work(folder: str | Path) -> Iterator[None]:
    """Be the only one that writes in a run's folder; wait for another one that came first.

    What a library says about memory or workers is put in words. Of the processes of
    ``accelerate launch``, the main one holds the folder.

    Raises:
        StorageError: the folder cannot be made or written in.
        ResourceError: memory ended, or a worker is gone.
    """
    with explained(folder):
        if process_state().is_main_process:
            with held(Path(folder)):
                yield
        else:
            yield


@contextlib.contextmanager
def held(folder: Path, name: str = "") -> Iterator[None]:
    """Hold a folder's lock, waiting for it if need be, and delete what killed writers left there.

    Args:
        folder: made if it is absent.
        name: of the file or folder in it that is written; empty for everything.

    Raises:
        StorageError: the folder cannot be made or written in.
    """
    path = paths.make_folder(folder) / (f".{name}{LOCK}" if name else LOCK)
    try:
        file = path.open("a")
    except OSError as error:
        raise storage_error(error, path) from error
    with file:
        if not take(file.fileno(), PATIENCE):
            print(f"waiting   {folder / name}: another process works there", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        paths.sweep(folder, name)
        yield
