"""Reader of HDF5 files in the CREMI layout: grey values and neuron instances of an EM volume.

Layout (https://cremi.org/data): ``volumes/raw`` (D, H, W) uint8 and ``volumes/labels/neuron_ids``
(D, H, W) unsigned integers, each with an attribute ``resolution`` in nm (z, y, x). In padded
files the labels are smaller than the grey values and say in ``offset`` (nm) where they begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from gtgm.errors import DataError

RAW = "volumes/raw"
LABELS = "volumes/labels/neuron_ids"
# BigCAT, CREMI's annotation tool, reserves the ids above this one (transparent, invalid, outside).
MAX_ID = np.uint64(0xFFFFFFFFFFFFFFFC)


@dataclass(frozen=True)
class EMVolume:
    """An EM volume in z y x.

    ``raw`` is uint8 (D, H, W), ``labels`` uint64 (D, H, W) with 0 = ignored (None if they were not
    asked for), ``resolution`` is nm (z, y, x), ``sections`` the (start, stop) that were read and
    ``n_sections`` the number in the file.
    """

    raw: np.ndarray
    labels: np.ndarray | None
    resolution: tuple[float, float, float]
    sections: tuple[int, int]
    n_sections: int


def read(path: str | Path, sections: slice | None = None, labels: bool = True) -> EMVolume:
    """Read sections of a CREMI-layout file; only these sections are loaded.

    Args:
        path: the ``.hdf`` file.
        sections: range of sections (step 1), all if None.
        labels: also read the neuron ids; without, a file that has none is accepted.

    Raises:
        DataError: absent, not HDF5, damaged, datasets or attributes missing, wrong type or shape,
            constant grey values, or no section in the range.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("there is no such file", where=path, fix="check the path")
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path, sections, labels)
    except OSError as error:
        raise DataError(
            f"the file cannot be read as HDF5 ({error})",
            where=path,
            expected="a complete HDF5 file in the CREMI layout",
            fix="download it again and compare its checksum",
        ) from error


def n_sections(path: str | Path) -> int:
    """Number of sections in the file, without reading voxels; errors as in ``read``."""
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            return int(_dataset(file, RAW, path).shape[0])
    except OSError as error:
        raise DataError(f"the file cannot be read as HDF5 ({error})", where=path) from error


def _read(file: h5py.File, path: Path, sections: slice | None, labels: bool) -> EMVolume:
    grey = _dataset(file, RAW, path)
    if grey.dtype != np.uint8:
        raise DataError(f"{RAW} is {grey.dtype}", where=path, expected="uint8 grey values")
    resolution = _triple(grey, "resolution", path)
    if min(resolution) <= 0:
        raise DataError(f"the resolution is {resolution} nm", where=path, expected="above 0")
    depth = grey.shape[0]
    start, stop, step = (sections or slice(None)).indices(depth)
    if step != 1 or stop <= start:
        raise DataError(
            f"the range {sections} selects no sections",
            where=path,
            expected=f"start < stop within 0…{depth}, step 1",
            fix="choose a range inside the volume",
        )
    raw = grey[start:stop]
    if raw.min() == raw.max():
        raise DataError(
            f"sections {start}–{stop - 1} are constant (every grey value is {raw.flat[0]})",
            where=path,
            expected="an image",
            fix="check that the file was written completely",
        )
    ids = _neuron_ids(file, path, grey.shape, resolution, start, stop) if labels else None
    return EMVolume(raw, ids, resolution, (start, stop), depth)


def _neuron_ids(
    file: h5py.File,
    path: Path,
    shape: tuple[int, ...],
    resolution: tuple[float, ...],
    start: int,
    stop: int,
) -> np.ndarray:
    """Ids of sections start…stop on the grid of the grey values, 0 outside the labelled box."""
    data = _dataset(file, LABELS, path)
    if data.dtype.kind not in "ui":
        raise DataError(f"{LABELS} is {data.dtype}", where=path, expected="integer neuron ids")
    begin = np.zeros(3, dtype=int)
    if "offset" in data.attrs:
        voxels = np.array(_triple(data, "offset", path)) / np.array(resolution)
        begin = np.rint(voxels).astype(int)
        if np.abs(voxels - begin).max() > 0.01:
            raise DataError(
                f"the offset of {LABELS} is not on the grid of {RAW}",
                where=path,
                expected="multiples of the resolution",
            )
    elif data.shape != tuple(shape):
        raise DataError(
            f"{RAW} has the shape {tuple(shape)} and {LABELS} has {data.shape}",
            where=path,
            expected='equal shapes, or an attribute "offset" (nm) of the labels',
            fix="use raw data and labels of the same release",
        )
    if (begin < 0).any() or (begin + data.shape > shape).any():
        raise DataError(
            f"{LABELS} of shape {data.shape} at {begin.tolist()} does not fit into {tuple(shape)}",
            where=path,
            expected="labels inside the raw volume",
        )
    ids = np.zeros((stop - start, *shape[1:]), dtype=np.uint64)
    first, last = max(start, begin[0]), min(stop, begin[0] + data.shape[0])
    if first < last:
        part = data[first - begin[0] : last - begin[0]]
        if data.dtype.kind == "i" and part.min() < 0:
            raise DataError(f"{LABELS} has negative ids", where=path, expected="ids from 0")
        part = part.astype(np.uint64)
        part[part > MAX_ID] = 0
        _, y, x = begin
        box = ids[first - start : last - start, y : y + data.shape[1], x : x + data.shape[2]]
        box[...] = part
    return ids


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    data = file.get(name)
    if not isinstance(data, h5py.Dataset) or data.ndim != 3:
        present: list[str] = []
        file.visititems(lambda n, o: present.append(n) if isinstance(o, h5py.Dataset) else None)
        what = f"has no dataset {name}" if data is None else f"{name} is not a 3D dataset"
        raise DataError(
            what,
            where=path,
            expected=f"{RAW} and {LABELS} as (z, y, x); found: {', '.join(present) or 'nothing'}",
            fix="convert the volume to the CREMI layout (https://cremi.org/data)",
        )
    return data


def _triple(data: h5py.Dataset, name: str, path: Path) -> tuple[float, float, float]:
    value = np.asarray(data.attrs.get(name, ()), dtype=float)
    if value.shape != (3,) or not np.isfinite(value).all():
        raise DataError(
            f'{data.name} has no usable attribute "{name}"',
            where=path,
            expected="three numbers in nm, (z, y, x)",
            fix="write the attribute with h5py",
        )
    return tuple(float(v) for v in value)
