"""Opening a dataset by name: the real one where it is found, else a phantom of the same format."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from gtgm.datasets import em, msd, own, registry
from gtgm.datasets.guard import as_on_disk, of_macos, same_letters
from gtgm.datasets.msd import Case
from gtgm.datasets.registry import DatasetInfo
from gtgm.errors import DataError
from gtgm.paths import data_dirs, runs_dir, sha256

__all__ = [
    "Case",
    "Dataset",
    "case_hashes",
    "em_case",
    "find",
    "label_hashes",
    "open_dataset",
]

# Folders inside a data folder that group datasets of one format.
GROUPS = {"msd": ("", "msd"), "cremi": ("", "em")}


@dataclass(frozen=True)
class Dataset:
    """An opened dataset. ``info`` has the classes and channels that the files declare."""

    info: DatasetInfo
    root: Path
    source: Literal["real", "phantom"]
    cases: tuple[Case, ...]

    def case(self, id: str) -> Case:
        """The case called ``id``; DataError if there is none."""
        for case in self.cases:
            if case.id in (id, same_letters(id)):
                return case
        raise DataError(
            f"there is no case {id!r}",
            where=self.root,
            expected=f"one of {len(self.cases)} ids from {self.cases[0].id} to {self.cases[-1].id}",
        )

    @property
    def ids(self) -> list[str]:
        """Sorted case ids."""
        return [case.id for case in self.cases]


def open_dataset(
    name: str,
    data: str | Path | None = None,
    phantoms: Path | None = None,
    phantom_cases: int = 10,
) -> Dataset:
    """Open the dataset ``name``.

    The first folder of ``data`` and ``$GTGM_DATA`` that has it wins (see ``find``). If none has,
    a phantom is written under ``phantoms`` (default ``runs/phantoms``) and read by the same
    readers; ``source`` says which of the two it is.

    Args:
        name: a name of the registry.
        data: a folder that holds datasets.
        phantoms: folder of the phantoms.
        phantom_cases: number of cases of a phantom (one volume for EM).

    Raises:
        SettingsError: unknown name.
        DataError: ``data`` is absent or empty, or the dataset that was found cannot be used. A
            damaged dataset, or an own one that is absent, is never replaced by a phantom.
    """
    info = registry.get(name)
    found = find(name, data)
    if found is not None:
        return _read(info, found, "real")
    if info.ranges:
        raise DataError(
            "the own dataset is in none of the data folders",
            where=name,
            expected=" or ".join(info.files),
            fix=f"put it beside {own.FILE}, or correct its files there",
        )
    from gtgm.datasets import phantoms as writer

    written = writer.write(name, phantoms or runs_dir() / "phantoms", cases=phantom_cases, seed=0)
    return _read(info, written, "phantom")


def find(name: str, data: str | Path | None = None) -> Path | None:
    """Where the real dataset lies: a folder (MSD), an EM volume (file or folder), or None.

    In each data folder the names of the registry's ``files`` are tried, directly, under ``msd``
    or ``em``, and (EM) in a folder called ``name``. EM is also looked for with the suffixes of
    the other formats, such as ``NAME.zarr``. An MSD data folder may also be the dataset.

    Raises:
        DataError: ``data`` does not exist, is not a folder, or is empty.
    """
    info = registry.get(name)
    if data is not None:
        _check_folder(Path(data).expanduser())
    for folder in data_dirs(data):
        if not os.path.isdir(folder):
            warnings.warn(f"$GTGM_DATA names {folder}, which is no folder", stacklevel=2)
            continue
        for named in _candidates(info, folder):
            candidate = Path(as_on_disk(Path(), str(named)))
            if os.path.isdir(candidate) if info.format == "msd" else em.is_volume(candidate):
                return candidate
    return None


def em_case(info: DatasetInfo, path: Path) -> Case:
    """The one case of an EM dataset whose volume lies at ``path``; ``em.read_case`` reads it."""
    return Case(info.name, info.name, path, em.labels_beside(path))


def case_hashes(dataset: Dataset, ids: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each case's image, for the data manifest and the leak check of a run.

    Of a folder (Zarr, TIFF sections) it is that of the relative paths and hashes of its files.
    """
    return {id: _digest(dataset.case(id).image) for id in ids}


def label_hashes(dataset: Dataset, ids: Iterable[str]) -> dict[str, str]:
    """The same of the files with the labels, of the cases that have one."""
    cases = map(dataset.case, ids)
    return {case.id: _digest(case.label) for case in cases if case.label}


def _digest(path: Path) -> str:
    if not path.is_dir():
        stat = path.stat()
        return _sha256(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    files = sorted(p for p in path.rglob("*") if p.is_file() and not of_macos(p.name))
    lines = (f"{file.relative_to(path).as_posix()} {_digest(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@cache
def _sha256(path: Path, *changed: int) -> str:
    """Of the bytes of a file, once while its size and its times stay the same."""
    return sha256(path)


def _candidates(info: DatasetInfo, folder: Path) -> list[Path]:
    groups = GROUPS[info.format]
    if info.format == "msd":
        paths = [folder / group / file for group in groups for file in info.files]
        return [*paths, *([folder] if folder.name == info.name else [])]
    stems = (file.removesuffix(Path(file).suffix) for file in info.files)
    names = [*info.files, *(stem + suffix for stem in stems for suffix in em.SUFFIXES)]
    return [folder / group / file for group in (*groups, info.name) for file in names]


def _check_folder(folder: Path) -> None:
    if not os.path.isdir(folder):
        raise DataError(
            "there is no such data folder",
            where=folder,
            expected="a folder that holds datasets, such as Task04_Hippocampus",
            fix="check --data or $GTGM_DATA; leave it out to work on phantoms",
        )
    try:
        empty = all(of_macos(path.name) for path in folder.iterdir())
    except OSError as error:
        raise DataError(
            f"the data folder cannot be read ({error.strerror})",
            where=folder,
            expected="a folder that may be listed",
            fix="check its permissions and the disk",
        ) from error
    if empty:
        raise DataError(
            "the data folder is empty",
            where=folder,
            expected="a folder that holds datasets, such as Task04_Hippocampus",
            fix="download one with `gtgm data get`; leave --data out to work on phantoms",
        )


def _read(info: DatasetInfo, path: Path, source: Literal["real", "phantom"]) -> Dataset:
    if info.format == "cremi":
        return Dataset(info, path.parent, source, (em_case(info, path),))
    manifest, cases = msd.read_manifest(path)
    declared = {key: manifest[key] for key in ("classes", "channels") if key in manifest}
    named = tuple(dataclasses.replace(case, dataset=info.name) for case in cases)
    return Dataset(dataclasses.replace(info, **declared), path, source, named)
