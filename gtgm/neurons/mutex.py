"""Mutex watershed: neurons straight from nearest and long-range affinities, without fragments.

All bonds between voxels are visited from the strongest to the weakest. A strong nearest affinity
joins two parts; a low long-range affinity forbids that two parts are ever joined. No seeds and no
threshold are needed; the bias sets how much the forbidding bonds weigh against the joining ones.
Boundary voxels that nothing joins become many small parts; the larger parts can take them over.
"""

from __future__ import annotations

import math

import numpy as np
from elf.segmentation.mutex_watershed import mutex_watershed as elf_mutex_watershed
from skimage.segmentation import relabel_sequential, watershed

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.agglomeration import check_affinities
from gtgm.neurons.fragments import mean_affinity
from gtgm.neurons.multicut import Offsets, check_long_range

BIASES = (-0.5, -0.3, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.5)


def mutex_watershed(
    affinities: np.ndarray,
    offsets: Offsets,
    bias: float = 0.0,
    strides: tuple[int, int, int] = (1, 1, 1),
    min_size: int = 1,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Neurons by the mutex watershed.

    Args:
        affinities: (C, D, H, W) in [0, 1], one channel per offset; not changed.
        offsets: (z, y, x) in voxels; the first three are ``NEAREST`` and join, the others forbid.
        bias: added to the weight 1 − affinity of the forbidding bonds, so a lower bias merges more.
        strides: forbidding bonds start only at every so manyth voxel along z, y, x, which saves
            time and memory and splits less.
        min_size: parts of fewer voxels go to the larger parts around them, by a watershed.
        mask: (D, H, W) bool; voxels outside it become background.
    Returns:
        (D, H, W) uint64, 0 outside the mask, else 1 … N. The same input gives the same labels.
    Raises:
        DataError: shapes that do not fit, or affinities that are not finite or not in [0, 1].
        SettingsError: no offset beyond the nearest, or a bias, strides or size that cannot be used.
    Source: Wolf et al. 2018 (ECCV); Wolf et al. 2020 (TPAMI, arXiv 1904.12654).
    """
    affinities = np.asarray(affinities)
    check_long_range(offsets, len(affinities))
    if not math.isfinite(bias):
        raise SettingsError(f"bias {bias} cannot be used", where="bias", expected="a number")
    if len(strides) != 3 or not all(isinstance(s, int) and s > 0 for s in strides):
        raise SettingsError(
            f"strides {strides} cannot be used",
            where="strides",
            expected="three whole numbers from 1 along z, y, x",
        )
    if not isinstance(min_size, int) or min_size < 1:
        raise SettingsError(
            f"min_size {min_size} cannot be used", where="min_size", expected="voxels, from 1"
        )
    inside = np.ones(affinities.shape[1:], bool) if mask is None else np.asarray(mask)
    if inside.dtype != bool:
        raise DataError(f"the mask has type {inside.dtype}", expected="bool")
    # elf turns the first three back into affinities, in place: it must get an array of its own.
    weights = 1 - check_affinities(affinities, inside.shape, len(offsets))
    weights[3:] += np.float32(bias)
    labels = elf_mutex_watershed(weights, list(offsets), list(strides), mask=inside)
    return labels if min_size == 1 else _without_small(labels, affinities, inside, min_size)


def _without_small(
    labels: np.ndarray, affinities: np.ndarray, inside: np.ndarray, min_size: int
) -> np.ndarray:
    """Give small parts to the larger ones; those that no larger part can reach stay."""
    large = np.bincount(labels.ravel()) >= min_size
    large[0] = False
    seeds = np.where(large[labels], labels, 0).astype(np.int64)
    grown = watershed(-mean_affinity(affinities), seeds, mask=inside).astype(np.uint64)
    return relabel_sequential(np.where(grown > 0, grown, labels))[0].astype(np.uint64)
