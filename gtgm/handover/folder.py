"""Folders that are handed on: written in one piece, with checksums that any machine can check."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gtgm import paths
from gtgm.errors import SettingsError
from gtgm.faults import explained

SUMS = "SHA256SUMS"


@contextlib.contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``folder``, with checksums, if the block ends well.

    Raises:
        SettingsError: ``folder`` holds something already; nothing is changed then.
        StorageError: the disk is full, read-only or forbidden.
    """
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(
            "holds something already" if folder.is_dir() else "is a file",
            where=folder,
            expected="a new or an empty folder",
            fix="name another folder, or delete this one first",
        )
    paths.make_folder(folder.parent)
    beside = {"prefix": f".{folder.name}.", "dir": folder.parent}
    with explained(folder), tempfile.TemporaryDirectory(**beside) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        yield made
        write_sums(made)
        made.replace(folder)


def write_sums(folder: str | Path) -> Path:
    """Write ``SHA256SUMS`` over every file below ``folder``, for ``sha256sum -c SHA256SUMS``."""
    folder = Path(folder)
    lines = [f"{paths.sha256(file)}  {file.relative_to(folder).as_posix()}\n"
             for file in files_below(folder) if file != folder / SUMS]  # fmt: skip
    return paths.write_text(folder / SUMS, "".join(lines))


def files_below(folder: str | Path) -> list[Path]:
    """Every file below ``folder``, in the order of their names."""
    found = (file for file in Path(folder).rglob("*") if file.is_file())
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def copy(file: Path, to: Path) -> Path:
    """Copy a file's bytes, atomically."""
    with paths.atomic(to) as temporary:
        shutil.copyfile(file, temporary)
    return to
