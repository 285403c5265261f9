"""Opening a dataset by name: the real one where it is found, else a phantom of the same format."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gtgm.datasets import msd, registry
from gtgm.datasets.msd import Case
from gtgm.datasets.registry import DatasetInfo
from gtgm.errors import DataError
from gtgm.paths import data_dirs, runs_dir, sha256

__all__ = ["Case", "Dataset", "case_hashes", "find", "open_dataset"]

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
            if case.id == id:
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
            damaged dataset is never replaced by a phantom.
    """
    info = registry.get(name)
    found = find(name, data)
    if found is not None:
        return _read(info, found, "real")
    from gtgm.datasets import phantoms as writer

    written = writer.write(name, phantoms or runs_dir() / "phantoms", cases=phantom_cases, seed=0)
    return _read(info, written, "phantom")


def find(name: str, data: str | Path | None = None) -> Path | None:
    """Where the real dataset lies: a folder (MSD), an HDF5 file (CREMI layout), or None.

    In each data folder the names of the registry's ``files`` are tried, directly, under ``msd``
    or ``em``, and (HDF5) in a folder called ``name``. A data folder may also be the dataset.

    Raises:
        DataError: ``data`` does not exist, is not a folder, or is empty.
    """
    info = registry.get(name)
    if data is not None:
        _check_folder(Path(data).expanduser())
    for folder in data_dirs(data):
        if not folder.is_dir():
            warnings.warn(f"$GTGM_DATA names {folder}, which is no folder", stacklevel=2)
            continue
        for candidate in _candidates(info, folder):
            if candidate.is_dir() if info.format == "msd" else candidate.is_file():
                return candidate
    return None


def case_hashes(dataset: Dataset, ids: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each case's image file, for the data manifest and the leak check of a run."""
    return {id: sha256(dataset.case(id).image) for id in ids}


def _candidates(info: DatasetInfo, folder: Path) -> list[Path]:
    paths = [folder / group / file for group in GROUPS[info.format] for file in info.files]
    if info.format == "msd":
        return [*paths, *([folder] if folder.name == info.name else [])]
    return [*paths, *(folder / info.name / file for file in info.files)]


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(
            "there is no such data folder",
            where=folder,
            expected="a folder that holds datasets, such as Task04_Hippocampus",
            fix="check --data or $GTGM_DATA; leave it out to work on phantoms",
        )
    if not any(folder.iterdir()):
        raise DataError(
            "the data folder is empty",
            where=folder,
            expected="a folder that holds datasets, such as Task04_Hippocampus",
            fix="download one with `gtgm data get`; leave --data out to work on phantoms",
        )


def _read(info: DatasetInfo, path: Path, source: Literal["real", "phantom"]) -> Dataset:
    if info.format == "cremi":
        return Dataset(info, path.parent, source, (Case(info.name, info.name, path, path),))
    manifest, cases = msd.read_manifest(path)
    declared = {key: manifest[key] for key in ("classes", "channels") if key in manifest}
    named = tuple(dataclasses.replace(case, dataset=info.name) for case in cases)
    return Dataset(dataclasses.replace(info, **declared), path, source, named)
