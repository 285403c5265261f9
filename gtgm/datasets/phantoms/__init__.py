"""Phantom datasets: synthetic volumes of the same format as the real ones, for all 14 entries.

They let every stage run where the real data is absent. They are no substitute for it: a number
measured on a phantom says that the code works, and nothing about patients.
"""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gtgm import paths
from gtgm.datasets import registry
from gtgm.datasets.phantoms import ct, em, files, mri
from gtgm.errors import DataError, SettingsError
from gtgm.lock import held

#: Raised when a change of the generator changes what it writes; older phantoms are then rewritten.
VERSION = 2
MARKER = "phantom.json"


def write(name: str, folder: str | Path, cases: int = 10, seed: int = 0) -> Path:
    """Write the phantom of a dataset, unless it is already there.

    Case *i* depends on ``name``, ``seed`` and *i* only, so a longer phantom begins with the cases
    of a shorter one. Orientations follow ``files.ORIENTATIONS``: the third case is the first
    oblique one.

    Args:
        name: name in the registry.
        folder: where to write; made if missing.
        cases: number of cases. An EM dataset is one volume, whatever this says.
        seed: another seed gives other volumes.

    Returns:
        ``<folder>/<name>`` (MSD layout) or ``<folder>/<name>.hdf`` (CREMI layout). A marker, the
        file ``phantom.json`` or the HDF5 attribute ``phantom``, holds generator version, seed and
        cases; a phantom with another marker is replaced as a whole.

    Raises:
        SettingsError: unknown name, or fewer than one case or a negative seed.
        DataError: something that is not a phantom lies at that path.
    """
    info = registry.get(name)
    if cases < 1 or seed < 0:
        raise SettingsError(
            f"a phantom cannot have {cases} cases and the seed {seed}",
            expected="at least one case, a seed from 0",
        )
    serial = info.format == "cremi"
    path = Path(folder) / (f"{name}.hdf" if serial else name)
    marker = {
        "dataset": name,
        "version": VERSION,
        "seed": int(seed),
        "cases": 1 if serial else int(cases),
    }
    if path.exists() and read_marker(path) == marker:
        return path
    if path.exists() and read_marker(path) is None:
        raise DataError(
            "this is not a phantom and is not overwritten",
            where=path,
            expected="no such path, or a phantom written before",
            fix="name another folder for phantoms",
        )

    def rng(case: int) -> np.random.Generator:
        return np.random.default_rng([seed, zlib.crc32(name.encode()), case])

    with held(path.parent, path.name):
        if read_marker(path) == marker:  # another process was faster
            return path
        if serial:
            with paths.atomic(path) as temporary:
                files.write_cremi(temporary, *em.volume(name, rng(0)), marker)
            return path
        generator = ct if info.modality == "CT" else mri
        new = paths.make_folder(path.with_name(paths.temporary_name(path)))
        try:
            files.write_msd(new, info, cases, lambda i: generator.case(name, rng(i)))
            paths.write_json(new / MARKER, marker)
            if path.exists():
                shutil.rmtree(path)
            new.rename(path)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return path


def read_marker(path: str | Path) -> dict[str, Any] | None:
    """What a phantom folder or file says of itself; None if it is not a phantom."""
    path = Path(path)
    try:
        if path.is_dir():
            marker = json.loads((path / MARKER).read_text(encoding="utf-8"))
        else:
            with h5py.File(path, "r") as file:
                marker = json.loads(file.attrs["phantom"])
    except (OSError, KeyError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None
