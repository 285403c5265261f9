"""A 3D array in a file that is open but not read: the common ground of the EM formats.

HDF5, Zarr, N5 and TIFF differ in how an array is found, described and sliced; what follows from
there (ranges, offsets, ids) is the same for all and lies in ``em``. Shapes that a file declares are
not believed before they are compared with the bytes that it holds.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gtgm.errors import DataError, GTGMError

Triple = tuple[float, float, float]

# Grey values of EM compress by less than 20; gzip cannot do better than 1032 on anything.
MAX_COMPRESSION = 2000
# Below this a wrong shape does no harm and the checks of the voxels find it.
UNCHECKED_BYTES = 64 << 20
MAX_BLOCK_BYTES = 2 << 30
VOXEL_NM = (1e-3, 1e6)  # from far below an atom to 1 mm
UNITS = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 1e3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("å", "angstrom"), 0.1),
}


# What h5py says of files that are whole, and what to do: downloading them again would not help.
NOT_DAMAGED = {
    "unable to lock file": (
        "another program has it open for writing",
        "close it in the other program; if none has it open, its disk knows no locks: set the "
        "environment variable HDF5_USE_FILE_LOCKING=FALSE",
    ),
    "already open for": (
        "it was not closed properly, or another program is writing it",
        "close it in the other program; if none has it open, run `h5clear -s {path}` (of HDF5)",
    ),
}


class AbsentBlocks(UserWarning):
    """Blocks of an array of labels are not in its file: left out as unlabelled, or lost."""


@dataclass(frozen=True)
class EMArray:
    """An array (D, H, W) of a file.

    Attributes:
        path: the file or folder.
        name: dataset name or file name, for messages.
        shape: as declared.
        dtype: as declared.
        load: sections start…stop as an array of native byte order.
        stored: bytes that the array takes in the file, or at least enough of them; None if unknown.
        check: DataError or AbsentBlocks if blocks of sections start…stop are not in the file.
        block: bytes of one compressed block when unpacked, 0 without blocks.
        resolution: nm (z, y, x), None if the file does not say.
        offset: nm (z, y, x) of the first voxel, None if the file does not say.
    """

    path: Path
    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    load: Callable[[int, int], np.ndarray]
    stored: int | None
    check: Callable[[int, int], None] = lambda start, stop: None
    block: int = 0
    resolution: Triple | None = None
    offset: Triple | None = None


def check_size(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    stored: int | None,
    block: int = 0,
) -> None:
    """DataError if an array is empty, or declares more voxels than its stored bytes can hold.

    The arguments are those of ``EMArray``.
    """
    if min(shape) < 1:
        raise DataError(
            f"{name} is empty, its shape is {tuple(shape)}",
            where=path,
            expected="a volume",
            fix="check that the file was written completely",
        )
    declared = math.prod(shape) * dtype.itemsize
    if stored is not None and declared > max(UNCHECKED_BYTES, MAX_COMPRESSION * stored):
        raise DataError(
            f"{name} declares the shape {tuple(shape)}, {declared} bytes, and holds {stored}",
            where=path,
            expected=f"grey values, which are never compressed {MAX_COMPRESSION}-fold",
            fix="check that the file is complete",
        )
    if block > MAX_BLOCK_BYTES:
        raise DataError(
            f"{name} is stored in blocks of {block} bytes",
            where=path,
            expected=f"blocks of at most {MAX_BLOCK_BYTES} bytes",
            fix="write the volume with smaller blocks (chunks)",
        )


@contextmanager
def readable(path: Path, kind: str, fix: str = "") -> Iterator[None]:
    """Turn what a reader of ``kind`` raises for a damaged file into a DataError.

    That can be anything: h5py, zarr, numcodecs and tifffile also fail with errors of their own
    and of Python (AssertionError, ZeroDivisionError) where a file contradicts itself.
    """
    try:
        yield
    except GTGMError:
        raise
    except Exception as error:
        what = str(error)[:500] or type(error).__name__
        for words, (reason, remedy) in NOT_DAMAGED.items():
            if words in what:
                raise DataError(
                    f"the file cannot be opened: {reason}",
                    where=path,
                    expected=f"a {kind} file that is closed",
                    fix=remedy.format(path=shlex.quote(str(path))),
                ) from error
        raise DataError(
            f"the file cannot be read as {kind} ({what})",
            where=path,
            expected=f"a complete {kind} file",
            fix=fix or "copy or download it again and compare its checksum",
        ) from error


def in_nm(values: object, unit: object) -> Triple | None:
    """Three lengths in nm; None if the unit is unknown or the values are not three numbers."""
    factor = UNITS.get(unit.strip().lower()) if isinstance(unit, str) else None
    try:
        array = np.asarray(values)
    except ValueError:
        return None
    if factor is None or array.shape != (3,) or array.dtype.kind not in "iuf":
        return None
    array = array.astype(float) * factor
    return tuple(float(v) for v in array) if np.isfinite(array).all() else None


def is_voxel(resolution: Triple) -> bool:
    """Whether three lengths in nm can be those of a voxel."""
    return all(VOXEL_NM[0] <= size <= VOXEL_NM[1] for size in resolution)
