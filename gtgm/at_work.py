"""One process at a time in the folder of a run, and the work of a run done once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gtgm.device import process_state
from gtgm.errors import SettingsError
from gtgm.faults import explained
from gtgm.lock import held
from gtgm.loop import remove_checkpoint

RESULT = "result.json"


def once(folder: str | Path, work: Callable[[], object], together: bool = False) -> None:
    """Do the work of a run, unless its result is there; if it is being done, wait for it.

    A checkpoint in the folder is kept until the result is there: what comes behind the training
    may fail, too. What a library says about memory or workers is put in words.

    Args:
        folder: of the run. One with ``result.json``, which is not read, is finished.
        work: makes the run; leaves ``result.json``, last.
        together: all processes of ``accelerate launch`` do it, and the main one holds the folder.

    Raises:
        StorageError: the folder cannot be made or written in.
        ResourceError: memory ended, or a worker is gone.
        SettingsError: several processes, of which ``accelerate launch`` is one, want the folder.
    """
    folder, state = Path(folder), process_state()
    done, several = folder / RESULT, together and state.num_processes > 1
    if done.exists() and not several:
        return
    with explained(folder):
        if not state.is_main_process:
            _join(done, work, together)
            return
        with held(folder, wait=not several) as alone:
            if not alone:  # the other processes would wait, and give up
                raise SettingsError(
                    "another process works there", where=folder, fix="wait until it has finished"
                )
            _join(done, work, together)
            remove_checkpoint(folder)


def _join(done: Path, work: Callable[[], object], together: bool) -> None:
    if together:  # all of them look now that the main one holds the folder
        process_state().wait_for_everyone()
    if not done.exists():
        work()
