"""Score a published segmentation of the same voxels beside the networks that were trained here.

Published segmentations often leave voxels unassigned. The scores of this package count those as
one more object, which nobody would claim that the authors meant; so a published segmentation is
scored in three ways, and a table can show all of them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

import numpy as np
from scipy.ndimage import distance_transform_edt

from gtgm.datasets.guard import check_memory, check_regular
from gtgm.errors import DataError
from gtgm.neurons.metrics import with_border_mask, without_borders

#: Method of a result that scores a segmentation which others published.
PUBLISHED = "published"
KEY = "segmentation"
_NPY = b"\x93NUMPY"
# What zipfile and NumPy raise for damaged files.
_DAMAGE = (OSError, ValueError, EOFError, RuntimeError, KeyError, TypeError, OverflowError)
AS_IS, NEAREST, ASSIGNED = "as it is", "nearest segment", "assigned voxels"


def score_published(
    segmentation: np.ndarray,
    truth: np.ndarray,
    unassigned: int = 0,
    sections: slice = slice(None),
    resolution: tuple[float, float, float] = (1, 1, 1),
) -> dict[str, dict[str, float]]:
    """Scores of a published segmentation on some of its sections.

    Args:
        segmentation, truth: whole label volumes (D, H, W) on one grid; true label 0 is ignored.
        unassigned: the label of voxels that belong to no segment.
        sections: the sections that are scored. The nearest segment is looked for in the whole
            volume, because it was published as a whole: the score of a section does not depend
            on which others are asked for.
        resolution: nm per voxel (z, y, x), for what is nearest and for the border mask.
    Returns:
        The scores of :func:`gtgm.neurons.metrics.with_border_mask` under ``as it is`` (unassigned
        voxels are one object), ``nearest segment`` (they are given to it), and ``assigned voxels``
        (they are ignored like unlabelled ones, so the other two are harder).
    Raises:
        DataError: shapes or types that do not fit, no section, or nothing that is assigned.
    """
    segmentation, truth = np.asarray(segmentation), np.asarray(truth)
    if segmentation.shape != truth.shape or truth.ndim != 3:
        raise DataError(
            f"the published segmentation has shape {segmentation.shape}, the truth {truth.shape}",
            expected="two whole volumes (D, H, W) on one grid",
            fix="use the segmentation of the whole volume, on the grid of the truth",
        )
    filled = assign_nearest(segmentation, unassigned, resolution)[sections]
    segmentation, truth = segmentation[sections], truth[sections]
    unsure = without_borders(truth, resolution)
    assigned = segmentation != unassigned
    return {
        AS_IS: with_border_mask(segmentation, truth, unsure),
        NEAREST: with_border_mask(filled, truth, unsure),
        ASSIGNED: with_border_mask(segmentation, truth * assigned, unsure * assigned),
    }


def assign_nearest(
    segmentation: np.ndarray,
    unassigned: int = 0,
    resolution: tuple[float, float, float] = (1, 1, 1),
) -> np.ndarray:
    """A copy in which every unassigned voxel has the label of the nearest assigned one.

    Args:
        segmentation: (D, H, W) integers.
        unassigned: the label that is replaced.
        resolution: nm per voxel (z, y, x); only ratios matter.
    Raises:
        DataError: labels that are not integers, or no voxel that is assigned.
    """
    segmentation = np.asarray(segmentation)
    if segmentation.dtype.kind not in "iu":
        raise DataError(
            f"the segmentation has type {segmentation.dtype}", expected="integer labels"
        )
    empty = segmentation == unassigned
    if empty.all():
        raise DataError(
            f"every voxel of the segmentation has the label {unassigned}, which is unassigned",
            expected="at least one assigned voxel",
        )
    nearest = distance_transform_edt(
        empty, sampling=resolution, return_distances=False, return_indices=True
    )
    return segmentation[tuple(nearest)]


def read_published(path: str | Path) -> np.ndarray:
    """Labels (D, H, W) of a ``.npz`` file that holds them under ``segmentation``.

    Raises:
        DataError: absent, not a ``.npz`` file, damaged, without that array, another type, or more
            voxels than the file or the memory can hold.
    """
    path = Path(path)
    expected = f'a .npz file with an integer array "{KEY}" (D, H, W)'
    if check_regular(path).startswith(_NPY):
        raise DataError("it is one array, not a .npz file", where=path, expected=expected)
    try:
        with ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if KEY not in names:
                raise DataError(
                    f"it holds {', '.join(names)[:200] or 'no arrays'}",
                    where=path,
                    expected=expected,
                )
            member = archive.getinfo(f"{KEY}.npy")
            with archive.open(member) as file:
                _check_header(file, member.file_size, path, expected)
            with archive.open(member) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
    except (*_DAMAGE, BadZipFile, ZlibError) as error:
        raise DataError(
            f"the file cannot be read ({str(error)[:200]})",
            where=path,
            expected=expected,
            fix="download it again and compare its checksum",
        ) from error


def _check_header(file: IO[bytes], size: int, path: Path, expected: str) -> None:
    """DataError unless an array of ``size`` bytes is what its header says, and fits into memory."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read(file)
    if len(shape) != 3 or min(shape) < 1 or dtype.kind not in "iu":
        raise DataError(f"{KEY} has shape {shape} and type {dtype}", where=path, expected=expected)
    needed = math.prod(shape) * dtype.itemsize
    if needed > size:
        raise DataError(
            f"{KEY} declares the shape {shape}, {needed} bytes, and holds {size}",
            where=path,
            expected=expected,
            fix="download it again and compare its checksum",
        )
    check_memory(f"the voxels of {KEY}", needed, path, "use a machine with more memory")
