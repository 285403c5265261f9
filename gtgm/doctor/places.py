"""Folders: where runs are written and where data lies."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

from gtgm import paths
from gtgm.doctor.line import Line, note, ok, problem
from gtgm.errors import GTGMError

#: Free space that `make reproduce` needs, GB.
FREE_GB = 5


def working_folder(folder: Path) -> Iterator[Line]:
    """Free space, and whether a file can be written and locked there."""
    elsewhere = "free some, or name a folder elsewhere with --runs or $GTGM_RUNS"
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < FREE_GB:
        yield problem(f"{folder}: {free:.1f} GB free, {FREE_GB} GB are needed", elsewhere)
    else:
        yield ok(f"{folder}: {free:.1f} GB free")
    elsewhere = "name a folder on a disk of this machine with --runs or $GTGM_RUNS"
    try:
        locked = _write_and_lock(folder)
    except (OSError, GTGMError) as error:
        what = getattr(error, "what", f"cannot be written ({error})")
        yield problem(f"{folder}: {what}", elsewhere)
        return
    if locked:
        yield ok("a file was written there, locked and deleted")
    else:
        yield problem(f"{folder} is on a file system without locks", elsewhere)


def _write_and_lock(folder: Path) -> bool:
    """Write, lock and delete a file; whether it could be locked. Leaves no new folder."""
    from gtgm.lock import take

    absolute = folder.absolute()
    made = [place for place in (absolute, *absolute.parents) if not place.exists()]
    file = absolute / f".doctor-{os.getpid()}"
    try:
        paths.write_text(file, f"{absolute}, written by gtgm doctor\n")
        with file.open("a") as opened, warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # which says that there are no locks
            try:
                return take(opened.fileno(), ())
            except (OSError, UserWarning):
                return False
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
        with contextlib.suppress(OSError):
            for place in made:
                place.rmdir()


def data_folders(data: str | Path | None) -> Iterator[Line]:
    """Each folder of ``data`` and $GTGM_DATA, with the datasets that are found in it."""
    from gtgm.datasets import registry

    folders = paths.data_dirs(data)
    if not folders:
        yield ok("no data folder is named (--data, $GTGM_DATA): phantoms are used")
    try:
        names = registry.names()
    except GTGMError as error:
        yield problem(f"{error.where}: {error.what}", error.fix or f"expected: {error.expected}")
        return
    except OSError as error:
        yield _unreadable(error)
        return
    for i, folder in enumerate(folders):
        try:
            yield _data_folder(folder, names, explicit=bool(data) and i == 0)
        except OSError as error:
            yield _unreadable(error)


def _unreadable(error: OSError) -> Line:
    return problem(f"{error.filename} cannot be read ({error.strerror})", "change its permissions")


def _data_folder(folder: Path, names: list[str], explicit: bool) -> Line:
    from gtgm.datasets.dataset import find

    # What --data names must hold something; of $GTGM_DATA it is only said.
    missing = problem if explicit else note
    if not folder.is_dir():
        return missing(f"{folder} is no folder", "correct --data or $GTGM_DATA")
    if not any(folder.iterdir()):
        return missing(f"{folder} is empty", "`gtgm data get NAME --to FOLDER` downloads a dataset")
    with warnings.catch_warnings(action="ignore"):  # other folders have lines of their own
        places = {name: find(name, folder) for name in names}
    here = [name for name, place in places.items() if place and place.is_relative_to(folder)]
    free = f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free"
    if here:
        return ok(f"{folder}: {', '.join(here)}; {free}")
    return note(
        f"{folder}: no dataset found; {free}",
        "names of folders and files must be those of `gtgm data list`; what is missing is replaced "
        "by phantoms",
    )
