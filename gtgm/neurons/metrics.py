"""Variation of information and adapted Rand error of a segmentation, as CREMI defines them.

Both scores come from one sparse contingency table, counted section by section, so that a volume
needs little more memory than its two label arrays.

Ignored labels are labels of the *truth*: a voxel whose true label is in ``ignore`` does not count
at all. Label 0 of the *segmentation* is an object like any other; a method that leaves voxels
unassigned pays for it. CREMI's leaderboard also leaves out the voxels near a true boundary
(:func:`without_borders`); the scores here count them unless they are left out that way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from gtgm.errors import DataError, SettingsError


class Voi(NamedTuple):
    """Variation of information in bits; lower is better, (0, 0) is a perfect segmentation."""

    split: float
    merge: float

    @property
    def sum(self) -> float:
        return self.split + self.merge


@dataclass(frozen=True)
class Contingency:
    """How many voxels each overlapping pair of a true and a segmented object shares.

    Attributes:
        truth, segmentation: labels of the pairs, (P,) each.
        counts: shared voxels, (P,) float64 whole numbers (their squares overflow int64).
    """

    truth: np.ndarray
    segmentation: np.ndarray
    counts: np.ndarray


def contingency(
    segmentation: np.ndarray, truth: np.ndarray, ignore: tuple[int, ...] = (0,)
) -> Contingency:
    """Count the overlaps of two label volumes (D, H, W), or of arrays of any one shape.

    Raises:
        DataError: different shapes, labels that are not integers, or nothing left to score.
    """
    segmentation, truth = np.asarray(segmentation), np.asarray(truth)
    if segmentation.shape != truth.shape:
        raise DataError(
            f"the segmentation has shape {segmentation.shape}, the truth {truth.shape}",
            expected="two label volumes on one grid",
        )
    for name, labels in (("segmentation", segmentation), ("truth", truth)):
        if labels.dtype.kind not in "iub":
            raise DataError(f"the {name} has type {labels.dtype}", expected="integer labels")
    if truth.ndim < 2:
        segmentation, truth = segmentation.reshape(1, -1), truth.reshape(1, -1)
    parts = [_pairs(s, t, ignore) for s, t in zip(segmentation, truth, strict=True)]
    pairs = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else []
    if not pairs or not pairs[2].size:
        raise DataError(
            "no voxel is left to score",
            expected=f"true labels other than the ignored {tuple(ignore)}",
        )
    return Contingency(*_sum_equal(*pairs))


def voi(segmentation: np.ndarray, truth: np.ndarray, ignore: tuple[int, ...] = (0,)) -> Voi:
    """Variation of information: split = H(segmentation | truth), merge = H(truth | segmentation).

    Args:
        segmentation, truth: label volumes (D, H, W).
        ignore: true labels that do not count.
    Source: Meila 2007; names and order as in CREMI's evaluation.
    """
    return voi_of(contingency(segmentation, truth, ignore))


def mutual_matches(segmentation: np.ndarray, truth: np.ndarray) -> dict[int, int]:
    """Segment → neuron, where each is the largest part of the other; 0 is neither.

    Args:
        segmentation, truth: label volumes (D, H, W), or of any one shape.
    """
    table = contingency(segmentation, truth, ignore=())
    order = np.argsort(-table.counts, kind="stable")  # the first pair of an object is its largest
    neurons, segments = table.truth[order], table.segmentation[order]
    firsts = (np.unique(objects, return_index=True)[1] for objects in (neurons, segments))
    pairs = ((int(segments[i]), int(neurons[i])) for i in np.intersect1d(*firsts))
    return {segment: neuron for segment, neuron in pairs if segment and neuron}


def adapted_rand_error(
    segmentation: np.ndarray, truth: np.ndarray, ignore: tuple[int, ...] = (0,)
) -> float:
    """One minus the F-score of voxel pairs that are in one object; 0 is perfect, below 1 always.

    Source: Arganda-Carreras et al. 2015 (SNEMI3D), over pairs of different voxels.
    """
    return rand_error_of(contingency(segmentation, truth, ignore))


def voi_of(table: Contingency) -> Voi:
    """Variation of information from a table that is already counted."""
    total = table.counts.sum()
    joint = _entropy(table.counts, total)
    of_truth = _entropy(_marginal(table.truth, table.counts), total)
    of_segmentation = _entropy(_marginal(table.segmentation, table.counts), total)
    # A conditional entropy is never negative; rounding may say -1e-16.
    return Voi(max(0.0, joint - of_truth), max(0.0, joint - of_segmentation))


def rand_error_of(table: Contingency) -> float:
    """Adapted Rand error from a table that is already counted."""
    both = _ordered_pairs(table.counts)
    in_truth = _ordered_pairs(_marginal(table.truth, table.counts))
    in_segmentation = _ordered_pairs(_marginal(table.segmentation, table.counts))
    if in_truth + in_segmentation == 0:  # every object is one voxel in both: they agree
        return 0.0
    return float(1.0 - 2.0 * both / (in_truth + in_segmentation))


def neuron_scores(
    segmentation: np.ndarray, truth: np.ndarray, ignore: tuple[int, ...] = (0,)
) -> dict[str, float]:
    """All scores of a segmentation: ``voi_split``, ``voi_merge``, ``voi_sum`` (bits), ``arand``."""
    table = contingency(segmentation, truth, ignore)
    information = voi_of(table)
    return {
        "voi_split": information.split,
        "voi_merge": information.merge,
        "voi_sum": information.sum,
        "arand": rand_error_of(table),
    }


def with_border_mask(
    segmentation: np.ndarray, truth: np.ndarray, unsure: np.ndarray
) -> dict[str, float]:
    """The scores of :func:`neuron_scores`, then each again as ``<score>_border_masked``.

    Args:
        segmentation, truth: label volumes (D, H, W).
        unsure: the truth without its borders (:func:`without_borders`). Thin neurites may lie
            within the mask altogether; if nothing is left, there are no masked scores.
    """
    scores = neuron_scores(segmentation, truth)
    if unsure.any():
        masked = neuron_scores(segmentation, unsure)
        scores |= {f"{metric}_border_masked": value for metric, value in masked.items()}
    return scores


def border_mask(
    truth: np.ndarray, resolution: tuple[float, float, float], distance_nm: float = 25.0
) -> np.ndarray:
    """Voxels close to a true boundary, where annotators do not agree on its place.

    CREMI's definition, section by section: a pixel is at a boundary if one of its 4 neighbours in
    the section has another label (0 is a label here), and it is masked if its centre is at most
    ``distance_nm`` from the centre of such a pixel. Boundaries between sections do not count.

    Args:
        truth: (D, H, W) labels.
        resolution: nm per voxel (z, y, x); only y and x are used.
        distance_nm: Euclidean distance in the plane; 0 masks the pixels at a boundary alone.
    Returns:
        (D, H, W) bool.
    Raises:
        DataError: the truth is not a volume.
        SettingsError: a resolution that is not three positive numbers, or a negative distance.
    Source: CREMI's evaluation, create_border_mask of cremi_python.
    """
    truth = np.asarray(truth)
    if truth.ndim != 3:
        raise DataError(f"the truth has shape {truth.shape}", expected="(D, H, W)")
    check_resolution(resolution)
    if not distance_nm >= 0:
        raise SettingsError(f"is {distance_nm}", where="distance_nm", expected="nm, at least 0")
    near = np.zeros(truth.shape, dtype=bool)
    for section, labels in zip(near, truth, strict=True):
        down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
        section[1:] |= down
        section[:-1] |= down
        section[:, 1:] |= right
        section[:, :-1] |= right
        if section.any():  # the distance to nothing is not defined
            section[:] = distance_transform_edt(~section, resolution[1:]) <= distance_nm
    return near


def without_borders(
    truth: np.ndarray, resolution: tuple[float, float, float], distance_nm: float = 25.0
) -> np.ndarray:
    """A copy of the truth in which the voxels of :func:`border_mask` are 0, which is ignored.

    Arguments and errors as in :func:`border_mask`. Give the result to the scores as their truth to
    get scores as on CREMI's leaderboard.
    """
    return np.where(border_mask(truth, resolution, distance_nm), 0, truth).astype(truth.dtype)


def check_resolution(resolution: tuple[float, float, float]) -> None:
    """Refuse a resolution that is not three positive numbers."""
    if len(resolution) != 3 or not all(r > 0 for r in resolution):
        raise SettingsError(
            f"is {resolution}", where="resolution", expected="nm (z, y, x), each above 0"
        )


def _pairs(
    segmentation: np.ndarray, truth: np.ndarray, ignore: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of labels in one section, and how often each occurs."""
    kept = ~np.isin(truth, np.asarray(ignore, dtype=truth.dtype))
    truth_labels, truth_index = np.unique(truth[kept], return_inverse=True)
    labels, index = np.unique(segmentation[kept], return_inverse=True)
    # Labels are arbitrary 64-bit numbers, so pairs are formed from their ranks in the section.
    keys, counts = np.unique(truth_index * labels.size + index, return_counts=True)
    width = max(labels.size, 1)
    return truth_labels[keys // width], labels[keys % width], counts.astype(np.float64)


def _sum_equal(
    truth: np.ndarray, segmentation: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add up the counts of pairs that occur in several sections."""
    order = np.lexsort((segmentation, truth))
    truth, segmentation, counts = truth[order], segmentation[order], counts[order]
    new = np.ones(truth.size, dtype=bool)
    new[1:] = (truth[1:] != truth[:-1]) | (segmentation[1:] != segmentation[:-1])
    starts = np.flatnonzero(new)
    return truth[starts], segmentation[starts], np.add.reduceat(counts, starts)


def _marginal(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Voxels of each object."""
    return np.bincount(np.unique(labels, return_inverse=True)[1], weights=counts)


def _entropy(counts: np.ndarray, total: float) -> float:
    """Entropy in bits of a distribution given by its counts."""
    share = counts / total
    return float(-(share * np.log2(share)).sum())


def _ordered_pairs(counts: np.ndarray) -> float:
    """Ordered pairs of different voxels inside the objects of these sizes."""
    return float((counts * (counts - 1.0)).sum())
