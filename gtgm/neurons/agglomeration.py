"""Agglomeration of fragments by their affinity (waterz), and the choice of the threshold.

waterz joins the two fragments whose common surface has the highest affinity, again and again,
until 1 − affinity exceeds the threshold. A higher threshold merges more. How the affinities of a
surface become one number is the scoring: their mean, or a quantile, which a few wrong voxels do
not move. All scorings here are shipped compiled with waterz; no compiler is needed.
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

_QUANTILE = "OneMinus<HistogramQuantileAffinity<RegionGraphType, {}, ScoreValue, 256, {}>>"
SCORINGS = {
    "mean": "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>",
    # The affinity below which 50 or 75 % of the surface lies, in steps of 1/256.
    "quantile50": _QUANTILE.format(50, "false"),
    "quantile75": _QUANTILE.format(75, "false"),
    # The same over the highest affinity of each pair of first fragments that meet there.
    "maxima50": _QUANTILE.format(50, "true"),
    "maxima75": _QUANTILE.format(75, "true"),
}
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(2, 19))  # 0.10 … 0.90
_SLACK = 1e-3  # of rounding, by which an affinity may leave [0, 1]


def agglomerate(
    affinities: np.ndarray,
    fragments: np.ndarray,
    thresholds: Iterable[float],
    scoring: str = "mean",
) -> Iterator[tuple[float, np.ndarray]]:
    """Segmentations at rising thresholds, one at a time.

    Args:
        affinities: (C, D, H, W) in [0, 1]; the first three channels are the bonds to the previous
            voxel along z, y, x. Further channels are not used.
        fragments: (D, H, W) labels; 0 is background and is never merged.
        thresholds: in [0, 1], in any order.
        scoring: one of ``SCORINGS``.
    Yields:
        (threshold, segmentation (D, H, W) uint64). Each array is the caller's own, and neither
        argument is changed, although waterz works in place.
    Raises:
        DataError: shapes that do not fit, or affinities that are not finite or not in [0, 1].
        SettingsError: no threshold, one outside [0, 1], or an unknown scoring.
    Source: mean, Lee et al. 2017 (arXiv 1706.00120); quantiles, Funke et al. 2018 (TPAMI).
    """
    thresholds = sorted({float(t) for t in thresholds})
    if not thresholds or not all(0 <= t <= 1 for t in thresholds):
        raise SettingsError(
            f"thresholds {thresholds} cannot be used", where="thresholds", expected="within [0, 1]"
        )
    if scoring not in SCORINGS:
        raise SettingsError(
            f"there is no scoring {scoring!r}", where="scoring", expected=", ".join(SCORINGS)
        )
    bonds, fragments = prepare(affinities, fragments)
    return _segmentations(bonds, fragments, thresholds, SCORINGS[scoring])


def lowest_voi(
    segmentations: Iterable[tuple[float, np.ndarray]],
    truth: np.ndarray,
    ignore: tuple[int, ...] = (0,),
) -> tuple[float, list[dict[str, float]]]:
    """The value whose segmentation has the lowest VOI sum, and the scores of all.

    Args:
        segmentations: pairs of a value and its segmentation (D, H, W), taken one at a time.
        truth: (D, H, W) labels; those in ``ignore`` do not count.
    Returns:
        The best value (the first one of equals), and one row per value with ``parameter``,
        ``voi_split``, ``voi_merge``, ``voi_sum``, ``arand``.
    """
    curve = [
        {"parameter": value, **neuron_scores(segmentation, truth, ignore)}
        for value, segmentation in segmentations
    ]
    return min(curve, key=lambda row: row["voi_sum"])["parameter"], curve


def prepare(
    affinities: np.ndarray, fragments: np.ndarray, channels: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Affinities and fragments as the libraries take them.

    Args:
        affinities: (C, D, H, W) in [0, 1].
        fragments: (D, H, W) labels, 0 = background.
        channels: how many of the first channels are used.
    Returns:
        affinities (channels, D, H, W) as :func:`check_affinities` gives them, and a copy of the
        fragments as uint64 with labels 0, 1, 2, … without a gap: the libraries keep tables up to
        the highest label.
    Raises:
        DataError: shapes that do not fit, affinities that are not finite or not in [0, 1], or
            fragments that are no labels.
    """
    fragments = np.asarray(fragments)
    used = check_affinities(affinities, fragments.shape, channels)
    if fragments.dtype.kind not in "iub" or fragments.min() < 0:
        raise DataError(
            f"fragments of type {fragments.dtype} are no labels", expected="whole numbers from 0"
        )
    return used, _compact(fragments)


def check_affinities(
    affinities: np.ndarray, shape: tuple[int, ...], channels: int = 3
) -> np.ndarray:
    """The first channels (channels, D, H, W), float32 and C-contiguous; a view if they are already.

    Raises:
        DataError: not (C, D, H, W) on a grid of this shape, or not finite, or not in [0, 1].
    """
    affinities = np.asarray(affinities)
    fits = affinities.ndim == 4 and affinities.shape[1:] == shape and len(affinities) >= channels
    if not fits or not affinities.size:
        raise DataError(
            f"affinities {affinities.shape} and a volume {shape} do not fit together",
            expected=f"(C, D, H, W) with C ≥ {channels}, and (D, H, W)",
        )
    used = np.ascontiguousarray(affinities[:channels], dtype=np.float32)
    low, high = used.min(), used.max()
    if not np.isfinite((low, high)).all():
        raise DataError("the affinities hold NaN or infinity", expected="values in [0, 1]")
    if low < -_SLACK or high > 1 + _SLACK:
        raise DataError(
            f"the affinities lie between {low:g} and {high:g}",
            expected="values in [0, 1]",
            fix="divide affinities of 8 bits by 255",
        )
    return used


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
