"""Fragments: the small pieces of neurons that agglomeration joins.

A voxel is inside a neuron where its mean affinity is high. Seeds are the places far from any
boundary, and a seeded watershed grows them until every voxel belongs to a fragment.
Anisotropic volumes are cut section by section, because their sections do not line up well
enough for a distance in z; isotropic ones in 3D.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from gtgm.errors import DataError

ANISOTROPIC = 2.0  # sections thicker than this many pixels are segmented one by one
DISTANCE_WEIGHT = 0.05  # how much 1 voxel of distance counts against an affinity of 1


def watershed_fragments(
    affinities: np.ndarray,
    two_d: bool = False,
    threshold: float = 0.5,
    smoothing: float = 2.0,
) -> np.ndarray:
    """Cut a volume into fragments.

    Args:
        affinities: (C, D, H, W) in [0, 1]; the first three channels are the bonds to the previous
            voxel along z, y, x.
        two_d: cut each section on its own, from its y and x affinities.
        threshold: a voxel is inside where its mean affinity (:func:`mean_affinity`) is above this.
        smoothing: standard deviation in voxels of the Gaussian that smooths the distance to the
            nearest boundary before its maxima become seeds; more gives fewer, larger fragments.
    Returns:
        (D, H, W) uint64, labels 1 … N without a gap; no voxel is left 0.
    Raises:
        DataError: affinities of another shape, or not finite.
    """
    affinities = np.asarray(affinities)
    if affinities.ndim != 4 or len(affinities) < 3:
        raise DataError(
            f"affinities have shape {affinities.shape}", expected="(C, D, H, W) with C ≥ 3"
        )
    if not np.isfinite(affinities[:3]).all():
        raise DataError("the affinities hold NaN or infinity", expected="values in [0, 1]")
    if not two_d:
        return _cut(mean_affinity(affinities, (0, 1, 2)), threshold, smoothing)
    inside = mean_affinity(affinities, (1, 2))
    fragments = np.empty(inside.shape, dtype=np.uint64)
    highest = np.uint64(0)
    for section in range(len(inside)):
        fragments[section] = _cut(inside[section], threshold, smoothing) + highest
        highest = fragments[section].max()
    return fragments


def mean_affinity(affinities: np.ndarray, axes: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """How much a voxel is bound to its neighbours, (D, H, W): high inside, low at boundaries.

    Along each axis the weaker one of the bonds to the previous and the next voxel counts, so that
    a cut marks the voxels on both of its sides: a boundary marked on one side only is pushed
    sideways by the watershed. Bonds that leave the volume count as 1.
    """
    total = np.zeros(affinities.shape[1:], dtype=np.float32)
    for axis in axes:
        previous = np.array(affinities[axis], dtype=np.float32)
        bonds = np.moveaxis(previous, axis, 0)
        bonds[0] = 1
        weaker = bonds.copy()
        np.minimum(bonds[:-1], bonds[1:], out=weaker[:-1])
        total += np.moveaxis(weaker, 0, axis)
    return total / len(axes)


def is_anisotropic(resolution: tuple[float, float, float]) -> bool:
    """Whether sections are so thick that fragments are cut in 2D; resolution is (z, y, x)."""
    return resolution[0] > ANISOTROPIC * min(resolution[1:])


def _cut(bound: np.ndarray, threshold: float, smoothing: float) -> np.ndarray:
    """Fragments of one section (H, W) or volume (D, H, W) of mean affinities."""
    inside = bound > threshold
    if not inside.any() or inside.all():  # nothing but boundary, or none at all
        return np.ones(bound.shape, dtype=np.uint64)
    distance = ndimage.distance_transform_edt(inside).astype(np.float32)
    peaks = local_maxima(ndimage.gaussian_filter(distance, smoothing), allow_borders=True) & inside
    # Smoothing lets a thick neurite drown its thin neighbour: a part without a peak is one seed.
    parts, count = ndimage.label(inside)
    seeded = np.zeros(count + 1, dtype=bool)
    seeded[parts[peaks]] = True
    seeded[0] = True
    seeds, _ = ndimage.label(peaks | ~seeded[parts])
    return watershed(-bound - DISTANCE_WEIGHT * distance, seeds).astype(np.uint64)
