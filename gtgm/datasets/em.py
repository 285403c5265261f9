"""EM volumes: grey values and neuron instances, read by sections from any of the usual files.

CREMI's HDF5 layout (padded or not), other HDF5, Zarr and N5 (``em_store``), TIFF stacks and folders
of TIFF sections (``em_tiff``). Labels lie in the same file, or beside it as ``NAME_labels``. Where
they are smaller than the grey values, their ``offset`` (nm) says where they begin.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from gtgm.datasets import em_store, em_tiff
from gtgm.datasets.em_array import VOXEL_NM, EMArray, Triple, check_size, in_nm, is_voxel
from gtgm.datasets.guard import as_on_disk, check_memory, check_regular
from gtgm.errors import DataError, SettingsError

if TYPE_CHECKING:
    from gtgm.datasets.msd import Case
    from gtgm.datasets.registry import DatasetInfo

SUFFIXES = (*em_store.HDF5_SUFFIXES, *em_store.ZARR_SUFFIXES, *em_tiff.SUFFIXES)
# BigCAT, CREMI's annotation tool, reserves the ids above this one (transparent, invalid, outside).
MAX_ID = np.uint64(0xFFFFFFFFFFFFFFFC)


@dataclass(frozen=True)
class EMVolume:
    """An EM volume in z y x.

    ``raw`` (D, H, W) is uint8 or uint16 as in the file, or float32 where the file has floats.
    ``labels`` is uint64 (D, H, W) with 0 = ignored (None if they were not asked for),
    ``resolution`` is nm (z, y, x), ``sections`` the (start, stop) that were read and
    ``n_sections`` the number in the file.
    """

    raw: np.ndarray
    labels: np.ndarray | None
    resolution: Triple
    sections: tuple[int, int]
    n_sections: int


def read(
    path: str | Path,
    sections: slice | None = None,
    labels: bool = True,
    *,
    labels_path: str | Path | None = None,
    raw_key: str | None = None,
    labels_key: str | None = None,
    resolution: Triple | None = None,
) -> EMVolume:
    """Read sections of an EM volume; only these are loaded.

    Args:
        path: ``.hdf``, ``.h5``, ``.hdf5``, ``.zarr``, ``.n5``, ``.tif``, ``.tiff``, or a folder
            of TIFF sections.
        sections: range of sections (step 1), all if None.
        labels: also read the neuron ids; without, a volume that has none is accepted.
        labels_path: where the labels are; by default ``labels_beside(path)``.
        raw_key, labels_key: names of the arrays in HDF5, Zarr or N5; by default as in ``em_store``.
        resolution: nm (z, y, x), instead of what the file says.

    Warns:
        AbsentBlocks: blocks of the labels are not in the file, and read as unlabelled.

    Raises:
        DataError: absent, damaged or unknown file, one that is open elsewhere, no or more than one
            candidate for an array, wrong type or shape, no resolution, NaN or constant grey values,
            absent blocks of the grey values or all of the labels, negative ids, no section in the
            range, or more than fits into memory.
        SettingsError: ``resolution`` is not three positive numbers.
    """
    path = Path(path)
    if resolution is not None:
        resolution = _given(resolution)
    beside = labels_beside(path) if labels_path is None else Path(labels_path)
    one_file = beside == path
    with _open(path, "raw", raw_key, labels_key if one_file else None) as grey:
        start, stop = _range(sections, grey)
        if not labels:
            size = _resolution(grey, resolution)
            raw = _whole(Grey(grey, size, start, stop), start, stop, 0)
            return EMVolume(raw, None, size, (start, stop), grey.shape[0])
        if beside is None:
            raise DataError(
                "there are no labels beside the stack",
                where=path,
                expected=f"{path.stem}_labels{path.suffix}",
                fix="put the labels there",
            )
        with _open(beside, "labels", labels_key, grey.name if one_file else None) as ids:
            check_size(ids.path, ids.name, ids.shape, ids.dtype, None, ids.block)
            size = _resolution(grey, resolution)
            if resolution is None and ids.resolution and not np.allclose(ids.resolution, size):
                raise DataError(
                    f"{grey.name} has the resolution {size} nm and {ids.name} {ids.resolution}",
                    where=beside,
                    expected="labels on the grid of the grey values",
                    fix="resample the labels, or choose the arrays of one scale",
                )
            begin = _begin(grey, ids, size)
            ids.check(0, ids.shape[0])
            more = np.dtype(np.uint64).itemsize + ids.dtype.itemsize
            raw = _whole(Grey(grey, size, start, stop), start, stop, more)
            placed = _place(ids, begin, grey.shape, start, stop)
            return EMVolume(raw, placed, size, (start, stop), grey.shape[0])


def read_case(
    case: Case, info: DatasetInfo, sections: slice | None = None, labels: bool = True
) -> EMVolume:
    """Read the volume of a dataset of the registry, with the array names of its entry.

    The entry's spacing counts for own datasets, whose entry the reader wrote, and for TIFF, whose
    files seldom name one; else the file's. Errors and warnings as in ``read``.
    """
    tiff = case.image.is_dir() or case.image.suffix.lower() in em_tiff.SUFFIXES
    tiff = tiff and case.image.suffix.lower() not in em_store.ZARR_SUFFIXES
    return read(
        case.image,
        sections,
        labels,
        labels_path=case.label,
        raw_key=info.raw_key,
        labels_key=info.labels_key,
        resolution=info.spacing if info.ranges or tiff else None,
    )


class Grey:
    """Grey values of an open file, read and checked where they are sliced: ``grey[z0:z1, y, x]``.

    The only way to grey values: ``read`` takes all sections at once, others take a few at a time.
    Type and absent blocks are checked when it is made, NaN and infinity in each part that is read,
    and whether all is constant when the last of the sections start…stop has been read.

    Attributes:
        shape: (D, H, W).
        dtype: uint8 or uint16 as in the file, or float32 where the file has floats.
        resolution: nm (z, y, x).
    """

    def __init__(self, array: EMArray, resolution: Triple, start: int, stop: int) -> None:
        floats = array.dtype.kind == "f"
        if array.dtype not in (np.uint8, np.uint16) and not floats:
            raise DataError(
                f"{array.name} is {array.dtype}",
                where=array.path,
                expected="grey values as uint8, uint16 or floats",
                fix="convert it, or name the array of the grey values",
            )
        array.check(start, stop)
        self.array, self.resolution, self.shape = array, resolution, array.shape
        self.dtype = np.dtype(np.float32) if floats else array.dtype
        self._sections, self._unseen = (start, stop), set(range(start, stop))
        self._low, self._high = np.inf, -np.inf

    def __getitem__(self, box: int | slice | tuple) -> np.ndarray:
        first, *rest = box if isinstance(box, tuple) else (box,)
        if isinstance(first, slice):
            start, stop, _ = first.indices(self.shape[0])
            return self._load(start, stop)[(slice(None), *rest)]
        return self._load(first, first + 1)[(0, *rest)]

    def _load(self, start: int, stop: int) -> np.ndarray:
        part, array = self.array.load(start, stop), self.array
        if self.dtype.kind == "f":
            with np.errstate(over="ignore"):  # found below
                part = part.astype(np.float32, copy=False)
            if not np.isfinite(part).all():
                raise DataError(
                    f"{array.name} has values that are NaN or infinite",
                    where=array.path,
                    expected="finite grey values",
                    fix="replace these voxels",
                )
        if self._unseen:
            self._unseen.difference_update(range(start, stop))
            self._low, self._high = min(self._low, part.min()), max(self._high, part.max())
            if not self._unseen and self._low == self._high:
                a, b = self._sections
                raise DataError(
                    f"sections {a}–{b - 1} are constant (every grey value is {self._low})",
                    where=array.path,
                    expected="an image",
                    fix="check that the file was written completely",
                )
        return part


@contextmanager
def open_grey(
    path: str | Path, raw_key: str | None = None, resolution: Triple | None = None
) -> Iterator[Grey]:
    """Grey values of a volume that need not fit into memory; arguments, checks and errors are those
    of ``read``, those of the values where they are read."""
    given = None if resolution is None else _given(resolution)
    with _open(Path(path), "raw", raw_key, None) as grey:
        yield Grey(grey, _resolution(grey, given), *_range(None, grey))


def n_sections(path: str | Path, raw_key: str | None = None) -> int:
    """Number of sections in the file, without reading voxels; errors as in ``read``."""
    with _open(Path(path), "raw", raw_key, None) as grey:
        return grey.shape[0]


def is_volume(path: Path) -> bool:
    """Whether something that ``read`` may know lies at ``path``; it is not opened."""
    suffix = path.suffix.lower()
    if os.path.isdir(path):
        return suffix in em_store.ZARR_SUFFIXES or bool(em_tiff.section_files(path))
    return os.path.isfile(path) and suffix in SUFFIXES and suffix not in em_store.ZARR_SUFFIXES


def labels_beside(path: Path) -> Path | None:
    """``NAME_labels`` beside ``NAME``, with the same or the other suffix of the format.

    Without one, HDF5, Zarr and N5 hold their labels themselves, and TIFF has none (None).
    """
    suffix = path.suffix.lower()
    tiff = suffix in em_tiff.SUFFIXES
    for ending in (path.suffix, *(em_tiff.SUFFIXES if tiff else ())):
        candidate = path.parent / as_on_disk(path.parent, f"{path.stem}_labels{ending}")
        if os.path.lexists(candidate):  # a broken link is said when it is opened
            return candidate
    return None if tiff or suffix not in SUFFIXES else path


def _open(
    path: Path, role: Literal["raw", "labels"], key: str | None, other: str | None
) -> AbstractContextManager[EMArray]:
    folder = os.path.isdir(path)
    if not folder:
        check_regular(path)
    suffix = path.suffix.lower()
    if suffix in em_tiff.SUFFIXES or (folder and suffix not in em_store.ZARR_SUFFIXES):
        return em_tiff.open_array(path)
    if suffix not in SUFFIXES or folder != (suffix in em_store.ZARR_SUFFIXES):
        raise DataError(
            "this is no EM volume of a known kind",
            where=path,
            expected=f"a file or folder with one of {', '.join(SUFFIXES)}",
            fix="rename or convert it",
        )
    return em_store.open_array(path, role, key, other)


def _range(sections: slice | None, grey: EMArray) -> tuple[int, int]:
    check_size(grey.path, grey.name, grey.shape, grey.dtype, grey.stored, grey.block)
    start, stop, step = (sections or slice(None)).indices(grey.shape[0])
    if step != 1 or stop <= start:
        raise DataError(
            f"the range {sections} selects no sections",
            where=grey.path,
            expected=f"start < stop within 0…{grey.shape[0]}, step 1",
            fix="choose a range inside the volume",
        )
    return start, stop


def _whole(grey: Grey, start: int, stop: int, more: int) -> np.ndarray:
    """All of these grey values; ``more`` bytes a voxel are needed beside them."""
    array = grey.array
    size = max(array.dtype.itemsize, grey.dtype.itemsize)
    needed = (stop - start) * array.shape[1] * array.shape[2] * (size + more)
    what = f"sections {start}–{stop - 1} of {array.name}"
    check_memory(what, needed, array.path, "read fewer sections at a time")
    return grey[start:stop]


def _resolution(grey: EMArray, given: Triple | None) -> Triple:
    found = given or grey.resolution
    if found is None:
        raise DataError(
            f"{grey.name} names no usable resolution",
            where=grey.path,
            expected="three voxel sizes (z, y, x) in a known unit",
            fix="give them in nm (--resolution Z Y X), or write them into the file: attribute "
            '"resolution" (HDF5, Zarr, N5), ImageJ\'s voxel depth and unit (TIFF)',
        )
    if not is_voxel(found):
        raise DataError(
            f"the resolution is {found} nm",
            where=grey.path,
            expected=f"three numbers above 0, {VOXEL_NM[0]:g} to {VOXEL_NM[1]:g} nm",
            fix="correct the attribute or its unit, or give them (--resolution Z Y X)",
        )
    return found


def _begin(grey: EMArray, ids: EMArray, resolution: Triple) -> np.ndarray:
    """Voxel of the grey values at which the labels begin."""
    if ids.dtype.kind not in "ui":
        raise DataError(
            f"{ids.name} is {ids.dtype}",
            where=ids.path,
            expected="integer neuron ids",
            fix="save them as uint16, uint32 or uint64",
        )
    begin = np.zeros(3, dtype=int)
    if ids.offset is not None:
        distance = np.array(ids.offset) - np.array(grey.offset or (0.0, 0.0, 0.0))
        voxels = distance / np.array(resolution)
        with np.errstate(invalid="ignore"):  # of places beyond int64, which are refused
            begin = np.rint(voxels).astype(int)
        if np.abs(voxels - begin).max() > 0.01:
            raise DataError(
                f"the offset of {ids.name} is not on the grid of {grey.name}",
                where=ids.path,
                expected="multiples of the resolution",
            )
    elif ids.shape != grey.shape:
        raise DataError(
            f"{grey.name} has the shape {grey.shape} and {ids.name} has {ids.shape}",
            where=ids.path,
            expected='equal shapes, or an attribute "offset" (nm) of the labels',
            fix="use raw data and labels of the same release",
        )
    if (begin < 0).any() or (begin + ids.shape > grey.shape).any():
        raise DataError(
            f"{ids.name} of shape {ids.shape} at {begin.tolist()} does not fit into {grey.shape}",
            where=ids.path,
            expected="labels inside the raw volume",
        )
    return begin


def _place(
    ids: EMArray, begin: np.ndarray, shape: tuple[int, ...], start: int, stop: int
) -> np.ndarray:
    """Ids of sections start…stop on the grid of the grey values, 0 outside the labelled box."""
    placed = np.zeros((stop - start, *shape[1:]), dtype=np.uint64)
    first, last = max(start, begin[0]), min(stop, begin[0] + ids.shape[0])
    if first < last:
        part = ids.load(first - begin[0], last - begin[0])
        if part.dtype.kind == "i" and part.min() < 0:
            raise DataError(
                f"{ids.name} has negative ids",
                where=ids.path,
                expected="ids from 0, 0 = unlabelled",
            )
        part = part.astype(np.uint64)
        part[part > MAX_ID] = 0
        _, y, x = begin
        box = placed[first - start : last - start, y : y + ids.shape[1], x : x + ids.shape[2]]
        box[...] = part
    return placed


def _given(resolution: Triple) -> Triple:
    values = in_nm(resolution, "nm")
    if values is None or not is_voxel(values):
        raise SettingsError(
            f"the resolution is {resolution!r}",
            expected=f"three numbers above 0, {VOXEL_NM[0]:g} to {VOXEL_NM[1]:g} nm (z, y, x)",
        )
    return values
