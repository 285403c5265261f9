"""Agglomeration of fragments by their mean affinity (waterz), and the choice of the threshold.

waterz joins the two fragments with the highest mean affinity along their common surface, again
and again, until 1 − mean affinity exceeds the threshold. A higher threshold merges more. The
scoring function is one that waterz ships compiled; no compiler is needed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator

import numpy as np
import waterz

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.metrics import neuron_scores

MEAN_AFFINITY = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(2, 19))  # 0.10 … 0.90


def agglomerate(
    affinities: np.ndarray,
    fragments: np.ndarray,
    thresholds: Iterable[float],
    scoring: str = MEAN_AFFINITY,
) -> Iterator[tuple[float, np.ndarray]]:
    """Segmentations at rising thresholds, one at a time.

    Args:
        affinities: (C, D, H, W) in [0, 1]; the first three channels are the bonds to the previous
            voxel along z, y, x. Further channels are not used.
        fragments: (D, H, W) labels; 0 is background and is never merged.
        thresholds: in [0, 1], in any order.
        scoring: a scoring function that waterz ships compiled.
    Yields:
        (threshold, segmentation (D, H, W) uint64). Each array is the caller's own, and neither
        argument is changed, although waterz works in place.
    Raises:
        DataError: shapes that do not fit, or affinities that are not finite.
        SettingsError: no threshold, or one outside [0, 1].
    """
    thresholds = sorted({float(t) for t in thresholds})
    if not thresholds or thresholds[0] < 0 or thresholds[-1] > 1:
        raise SettingsError(
            f"thresholds {thresholds} cannot be used", where="thresholds", expected="within [0, 1]"
        )
    affinities, fragments = np.asarray(affinities), np.asarray(fragments)
    if affinities.ndim != 4 or len(affinities) < 3 or affinities.shape[1:] != fragments.shape:
        raise DataError(
            f"affinities {affinities.shape} and fragments {fragments.shape} do not fit together",
            expected="(C, D, H, W) with C ≥ 3, and (D, H, W)",
        )
    bonds = np.ascontiguousarray(affinities[:3], dtype=np.float32)
    if not np.isfinite(bonds).all():
        raise DataError("the affinities hold NaN or infinity", expected="values in [0, 1]")
    return _segmentations(bonds, _compact(fragments), thresholds, scoring)


def choose_threshold(
    affinities: np.ndarray,
    fragments: np.ndarray,
    truth: np.ndarray,
    thresholds: Iterable[float] = THRESHOLDS,
    ignore: tuple[int, ...] = (0,),
) -> tuple[float, list[dict[str, float]]]:
    """The threshold with the lowest VOI sum, and the whole curve.

    To be called with validation sections only: a threshold chosen on test sections makes the
    test score optimistic.

    Args:
        affinities, fragments, thresholds: as in :func:`agglomerate`.
        truth: (D, H, W) labels of the same sections; labels in ``ignore`` do not count.
    Returns:
        The best threshold (the lowest one of equals), and one row per threshold with
        ``threshold``, ``voi_split``, ``voi_merge``, ``voi_sum``, ``arand``.
    """
    curve = [
        {"threshold": threshold, **neuron_scores(segmentation, truth, ignore)}
        for threshold, segmentation in agglomerate(affinities, fragments, thresholds)
    ]
    return min(curve, key=lambda row: row["voi_sum"])["threshold"], curve


def _segmentations(
    bonds: np.ndarray, fragments: np.ndarray, thresholds: list[float], scoring: str
) -> Iterator[tuple[float, np.ndarray]]:
    if fragments.min() == fragments.max():  # no pair to merge: waterz would read an empty queue
        for threshold in thresholds:
            yield threshold, fragments.copy()
        return
    steps = waterz.agglomerate(bonds, thresholds, fragments=fragments, scoring_function=scoring)
    for threshold in thresholds:
        with _silent():
            segmentation = next(steps)
        yield threshold, segmentation.copy()


def _compact(fragments: np.ndarray) -> np.ndarray:
    """A uint64 copy with labels 0, 1, 2, …: waterz keeps a table up to the highest label."""
    labels, index = np.unique(fragments, return_inverse=True)
    ranks = np.arange(labels.size, dtype=np.uint64)
    if labels[0] != 0:
        ranks += np.uint64(1)
    return np.ascontiguousarray(ranks[index].reshape(fragments.shape))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep waterz's progress lines, printed by Python and by C++, out of notebooks and logs."""
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
