"""Score a published segmentation of the same voxels beside the networks that were trained here.

Published segmentations often leave voxels unassigned. The scores of this package count those as
one more object, which nobody would claim that the authors meant; so a published segmentation is
scored in three ways, and a table can show all of them.
"""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
from scipy.ndimage import distance_transform_edt

from gtgm.errors import DataError
from gtgm.neurons.metrics import neuron_scores

#: Method of a result that scores a segmentation which others published.
PUBLISHED = "published"
KEY = "segmentation"
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
        resolution: nm per voxel (z, y, x), for what is nearest.
    Returns:
        The scores of :func:`gtgm.neurons.metrics.neuron_scores` under ``as it is`` (unassigned
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
    return {
        AS_IS: neuron_scores(segmentation, truth),
        NEAREST: neuron_scores(filled, truth),
        ASSIGNED: neuron_scores(segmentation, np.where(segmentation == unassigned, 0, truth)),
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
        DataError: absent, not a ``.npz`` file, damaged, without that array, or another type.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("there is no such file", where=path, fix="check the path")
    expected = f'a .npz file with an integer array "{KEY}" (D, H, W)'
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise DataError("it is one array, not a .npz file", where=path, expected=expected)
        with loaded:
            names = loaded.files
            labels = loaded[KEY] if KEY in names else None
    except (OSError, ValueError, EOFError, RuntimeError, BadZipFile, ZlibError) as error:
        raise DataError(
            f"the file cannot be read ({error})",
            where=path,
            expected=expected,
            fix="download it again and compare its checksum",
        ) from error
    if labels is None:
        raise DataError(f"it holds {names or 'no arrays'}", where=path, expected=expected)
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{KEY} has shape {labels.shape} and type {labels.dtype}", where=path, expected=expected
        )
    return labels
